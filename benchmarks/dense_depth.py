"""Depth maps from a model that was trained on many views: the reference depth of the comparison of depth losses.

    python benchmarks/dense_depth.py --output-dir outputs/dense_depth

For each scene: an ordinary `ns-train` on all photos that are not test views, then the rendered depth of its training
views as depth maps in `<output-dir>/<scene>/depth`, which any few-view run of that scene takes by --depth-dir.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import tyro
from rich.progress import track

STEPS_OF = ("field", "planes", "proposal")
DTU_TEST = (1, 2, *range(9, 13), 14, 15, 23, 24, 26, 27, *range(29, 36), *range(41, 44), 45, 46, 47)
DTU_POOL = tuple(str(view) for view in range(49) if view not in DTU_TEST)
SCENES: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "lego": ("nerf_synthetic_half/lego", ("fewshot-blender-data", "--num-views", "0", "--downscale-factor", "4")),
    "scan24": ("dtu/Rectified/scan24", ("dtu-data", "--downscale-factor", "4", "--train-indices", *DTU_POOL)),
}
"""Folder below the data folder, and dataparser, of each scene."""


@dataclass
class Arguments:
    """Flags of the tool."""

    output_dir: Path = Path("outputs/dense_depth")
    """Where runs and depth maps go."""
    data: Path = field(default_factory=lambda: Path(os.environ.get("FEWSHOT_DATA", "../shared/data")))
    """Folder of the real scenes."""
    scenes: Tuple[str, ...] = tuple(SCENES)
    """Which scenes."""
    steps: int = 4000
    """Training steps."""
    device: str = "cpu"
    """Where to train."""
    min_accumulation: float = 0.5
    """Pixels that are more transparent than this get no depth."""


def train(scene: str, arguments: Arguments) -> Path:
    """Trains the dense model, unless that is done, and returns its config."""
    folder, parser = SCENES[scene]
    run = arguments.output_dir / scene / "mipnerf-fewshot-lite" / "dense"
    if not (run / "train_stats.json").is_file():
        steps = str(arguments.steps)
        command = [
            *(str(Path(sys.executable).parent / "ns-train"), "mipnerf-fewshot-lite"),
            *("--data", str(arguments.data / folder), "--output-dir", str(arguments.output_dir)),
            *("--experiment-name", scene, "--timestamp", "dense", "--vis", "tensorboard"),
            *("--machine.device-type", arguments.device, "--max-num-iterations", steps),
            *(word for name in STEPS_OF for word in (f"--optimizers.{name}.scheduler.max-steps", steps)),
            *("--steps-per-eval-image", "0", *parser),
        ]
        subprocess.run(command, check=True)
    return run / "config.yml"


def write_depths(config: Path, folder: Path, min_accumulation: float) -> None:
    """Renders the training views' depth into compressed arrays in units of the scene's files, with their note."""
    import torch
    from nerfstudio.utils.eval_utils import eval_setup

    from fewshot_ns.data.depth.encoding import write_note
    from fewshot_ns.data.records.metadata import DepthEncoding

    pipeline: Any = eval_setup(config, test_mode="test")[1]
    dataset = pipeline.datamanager.train_dataset
    scale = dataset.world_scale
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(track(dataset.image_filenames, f"Depth of {folder.parent.name}")):
        with torch.no_grad():
            outputs = pipeline.model.get_outputs_for_camera(dataset.cameras[index : index + 1].to(pipeline.device))
        seen = outputs["accumulation"][..., 0] > min_accumulation
        depth = torch.where(seen, outputs["depth"][..., 0] / scale, 0.0).cpu().numpy()
        np.savez_compressed(folder / f"{name.stem}.npz", depth=depth.astype(np.float32))
    write_note(folder, DepthEncoding("distance", "ray_distance", unit=1.0))


def main(arguments: Arguments) -> None:
    """Trains and renders what is asked for."""
    for scene in arguments.scenes:
        config = train(scene, arguments)
        write_depths(config, arguments.output_dir / scene / "depth", arguments.min_accumulation)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
