"""The same training with the poses of the data set and with those that `ns-fewshot prepare` finds.

    python benchmarks/recovered_poses.py --data FOLDER     # FEWSHOT_DATA by default

All photos of a scene are registered together, focal lengths untold; a few train, a few others are measured. The twin
has the photos as they were, and true cameras in the world that was found, so that units, near and far are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, NamedTuple, Sequence, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.utils.rich_utils import CONSOLE
from pose_recovery import TRUTH, copy_photo, similarity

from fewshot_ns import registry
from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.capture.preparation import Prepared, PrepareOptions, prepare_scene
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.utils.cache import CACHE_ENV
from fewshot_ns.utils.files import write_json


class Trial(NamedTuple):
    """A scene, and which of its photos are used for what."""

    scene: str
    photos: int
    factor: int
    train: Tuple[int, ...]
    test: Tuple[int, ...]


TRIALS = (
    Trial("fern", 20, 4, (1, 10, 19), (0, 8, 16)),
    Trial("scan24", 49, 4, (25, 22, 28), (8, 13, 20, 34, 41)),
    Trial("scan24", 49, 4, (25, 22, 28, 40, 44, 48, 0, 8, 13), (4, 20, 34, 36, 41)),
    Trial("lego", 40, 4, (0, 5, 10, 15, 20, 25, 30, 35), (2, 12, 22, 32, 37)),
)


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FEWSHOT_DATA", "")))
    parser.add_argument("--method", default="sparse-splatfacto-lite")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| scene | train | poses | PSNR | SSIM | LPIPS |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    # One folder, kept to the end: nerfstudio's writers never close their files.
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_ENV] = str(Path(folder) / "cache")
        for number, trial in enumerate(TRIALS):
            place = Path(folder) / str(number)
            ways = _scenes(trial, arguments.data, place)
            for words, scene in ways.items():
                rows = [_measure(trial, scene, place / f"{words}-{seed}", seed, arguments) for seed in arguments.seeds]
                mean = {name: float(np.mean([row[name] for row in rows])) for name in ("psnr", "ssim", "lpips")}
                figures = f"{mean['psnr']:.2f} | {mean['ssim']:.3f} | {mean['lpips']:.3f}"
                print(f"| {trial.scene} | {len(trial.train)} of {trial.photos} | {words} | {figures} |", flush=True)


def _scenes(trial: Trial, data: Path, place: Path) -> Dict[str, Path]:
    """The scene with true poses, and the prepared one; all of its photos have to be placed."""
    files, poses, focal = TRUTH[trial.scene](data)
    photos = place / "photos"
    photos.mkdir(parents=True)
    for view in range(trial.photos):
        # Numbered, so that a view's index is its place in the scene.
        copy_photo(files[view], photos / f"{view:03d}.png")
    CONSOLE.quiet = True
    prepared = prepare_scene(photos, place / "found", PrepareOptions())
    if len(prepared.poses.names) != trial.photos:
        raise SystemExit(
            f"{trial.scene}: {len(prepared.poses.names)} of {trial.photos} photos were placed; run it again"
        )
    truth = flip_camera_axes(poses[: trial.photos])
    _write_twin(prepared, truth, focal, photos, place / "true")
    return {"of the data set": place / "true", "recovered": place / "found"}


def _write_twin(prepared: Prepared, truth: npt.NDArray, focal: float, photos: Path, scene: Path) -> None:
    """A scene of the true cameras, moved to the world in which the points were found."""
    shutil.copytree(photos, scene / "images")
    shutil.copy(prepared.scene / "sparse_pc.ply", scene)
    found = prepared.poses.camera_to_worlds
    scale, turn, source, target = similarity(truth, found)
    frames = []
    for index, name in enumerate(sorted(path.name for path in photos.iterdir())):
        matrix = np.eye(4)
        matrix[:3, :3] = turn @ truth[index, :, :3]
        matrix[:3, 3] = scale * turn @ (truth[index, :, 3] - source) + target
        matrix[:3] = flip_camera_axes(matrix[None, :3])[0]
        frames.append({"file_path": f"images/{name}", "transform_matrix": matrix.tolist()})
    from PIL import Image

    with Image.open(photos / "000.png") as image:
        width, height = image.size
    camera = {"w": width, "h": height, "fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2}
    write_json(scene / "transforms.json", {**camera, "frames": frames, "ply_file_path": "sparse_pc.ply"})


def _measure(trial: Trial, scene: Path, folder: Path, seed: int, arguments: argparse.Namespace) -> Dict[str, float]:
    config: Any = deepcopy(registry.method_specification(arguments.method.replace("-", "_")).config)
    views: Dict[str, Sequence[int]] = {"train_indices": trial.train, "test_indices": trial.test}
    config.pipeline.datamanager.dataparser = FewShotNerfstudioDataParserConfig(
        data=scene,
        downscale_factor=trial.factor,
        **views,  # type: ignore[arg-type]
    )
    config.pipeline.evaluation.metrics = ("psnr", "ssim", "lpips")
    config.output_dir, config.experiment_name, config.timestamp = folder, "run", "0"
    config.vis, config.machine.device_type, config.machine.seed = "tensorboard", "cpu", seed
    config.max_num_iterations = arguments.steps
    config.steps_per_eval_image, config.steps_per_save, config.logging.local_writer.enable = 0, 10**9, False
    CONSOLE.quiet = True
    torch.manual_seed(seed)
    np.random.seed(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        trainer.train()
        return trainer.pipeline.get_average_eval_image_metrics()


if __name__ == "__main__":
    main()
