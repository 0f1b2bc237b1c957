"""Does rendered depth follow a real depth camera? RGB-D frames, depth-mipnerf-lite with and without its depth loss.

    FEWSHOT_DATA=... python benchmarks/sensor_depth.py --output-dir outputs/sensor_depth

Frames 0, 2 and 4 of <data>/rgbd_redwood train (colour and depth), 1 and 3 test. Prints and writes the error of the
rendered depth against the sensor's, where the sensor has a value, and a picture of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import tyro

from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table

INTRINSICS = {"w": 640, "h": 480, "fl_x": 525.0, "fl_y": 525.0, "cx": 319.5, "cy": 239.5}
"""The PrimeSense camera's, as the data set gives them."""
LOSSES = ("none", "cdf")
VIEWS = ("--train-indices", "0", "2", "4", "--test-indices", "1", "3")
COLUMNS = ("relative error, median", "within 5 %", "rank correlation")


@dataclass
class Arguments:
    """Flags of the benchmark."""

    output_dir: Path = Path("outputs/sensor_depth")
    """Where the runs, the table and the picture go."""
    data: Path = field(default_factory=lambda: Path(os.environ.get("FEWSHOT_DATA", "../shared/data")))
    """Folder of the real scenes."""
    downscale_factor: int = 5
    """By how much the 640x480 frames are reduced."""
    device: str = "cpu"
    """Where to train."""


def write_scene(source: Path, folder: Path) -> None:
    """The frames with their trajectory (OpenCV axes) as a nerfstudio scene."""
    lines = (source / "trajectory.log").read_text().splitlines()
    poses = [[[float(word) for word in line.split()] for line in lines[i + 1 : i + 5]] for i in range(0, len(lines), 5)]
    frames = [
        {
            "file_path": str((source / "color" / f"{index:05d}.jpg").absolute()),
            "depth_file_path": str((source / "depth" / f"{index:05d}.png").absolute()),
            "transform_matrix": (np.array(pose) @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist(),
        }
        for index, pose in enumerate(poses[:5])
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps({**INTRINSICS, "frames": frames}))


def train(loss: str, scene: Path, arguments: Arguments) -> Path:
    """Trains with one loss, unless that is done, and returns the run's config."""
    run = arguments.output_dir / "rgbd" / "depth-mipnerf-lite" / loss
    if not (run / "train_stats.json").is_file():
        command = [
            *(str(Path(sys.executable).parent / "ns-train"), "depth-mipnerf-lite", "--data", str(scene)),
            *("--output-dir", str(arguments.output_dir), "--experiment-name", "rgbd", "--timestamp", loss),
            *("--vis", "tensorboard", "--machine.device-type", arguments.device, "--steps-per-eval-image", "0"),
            *("--pipeline.depth.loss", loss, "rgbd-data", *VIEWS),
            *("--downscale-factor", str(arguments.downscale_factor), "--allow-outside", "True"),
        ]
        subprocess.run(command, check=True)
    return run / "config.yml"


def compare(config: Path) -> Tuple[Dict[str, List[float]], List[np.ndarray]]:
    """Errors of rendered depth over training and test views; render, rendered and sensor depth of the last."""
    import torch
    from nerfstudio.utils.eval_utils import eval_setup
    from scipy.stats import spearmanr

    pipeline: Any = eval_setup(config, test_mode="test")[1]
    datasets = {"training views": pipeline.datamanager.train_dataset, "test views": pipeline.datamanager.eval_dataset}
    table, shown = {}, []
    for split, dataset in datasets.items():
        relative, ranks = [], []
        for index in range(len(dataset)):
            sensor = dataset.metric_depth(index)
            with torch.no_grad():
                outputs = pipeline.model.get_outputs_for_camera(dataset.cameras[index : index + 1].to(pipeline.device))
            rendered, truth = outputs["depth"][..., 0].cpu().numpy(), sensor.ray_distance
            relative.append(np.abs(rendered - truth)[sensor.valid] / truth[sensor.valid])
            correlation: Any = spearmanr(rendered[sensor.valid], truth[sensor.valid])
            ranks.append(float(correlation.statistic))
            shown = [outputs["rgb"].cpu().numpy(), rendered, np.where(sensor.valid, truth, np.nan)]
        errors = np.concatenate(relative)
        table[split] = [float(np.median(errors)), float((errors < 0.05).mean()), float(np.mean(ranks))]
    return table, shown


def draw(pictures: Dict[str, List[np.ndarray]], path: Path) -> None:
    """One row per loss: render, rendered depth, the sensor's depth, all depths on one scale."""
    from matplotlib.figure import Figure

    truth = next(iter(pictures.values()))[2]
    limits = {"vmin": np.nanpercentile(truth, 1), "vmax": np.nanpercentile(truth, 99), "cmap": "turbo"}
    figure = Figure(figsize=(9, 2.4 * len(pictures)), layout="tight")
    axes = figure.subplots(len(pictures), 3, squeeze=False)
    for row, (loss, images) in zip(axes, pictures.items(), strict=True):
        for axis, image, title in zip(row, images, (f"loss {loss}: render", "rendered depth", "sensor"), strict=True):
            axis.imshow(image.clip(0, 1) if image.ndim == 3 else image, **({} if image.ndim == 3 else limits))
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    figure.savefig(path, dpi=80)


def main(arguments: Arguments) -> None:
    """Trains what is missing, prints the table, writes `table.md` and `depth.png`."""
    scene = arguments.output_dir / "scene"
    write_scene(arguments.data / "rgbd_redwood", scene)
    rows, pictures = [], {}
    for loss in LOSSES:
        errors, pictures[loss] = compare(train(loss, scene, arguments))
        for views, (median, close, rank) in errors.items():
            rows.append([loss, views, f"{median:.1%}", f"{close:.0%}", f"{rank:.3f}"])
    table = Table([Column(title) for title in ("loss", "views", *COLUMNS)], rows)
    print_table(table, "Rendered depth against the sensor's")
    (arguments.output_dir / "table.md").write_text(as_markdown(table))
    draw(pictures, arguments.output_dir / "depth.png")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
