"""Poses that `ns-fewshot prepare` finds, against those of the data sets, after similarity alignment.

    python benchmarks/pose_recovery.py --data FOLDER     # FEWSHOT_DATA by default

Focal lengths are not told. Lego's photos get a plain grey background, as of an object before a wall.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from pathlib import Path
from typing import List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.capture.preparation import PrepareOptions, prepare_scene
from fewshot_ns.utils.processes import CommandError

SETS: Tuple[Tuple[str, str, Tuple[int, ...]], ...] = (
    ("fern", "20 photos", tuple(range(20))),
    ("fern", "6 photos", (1, 5, 9, 11, 15, 19)),
    ("fern", "3 photos", (1, 10, 19)),
    ("scan24", "49 photos", tuple(range(49))),
    ("scan24", "9 photos", (25, 22, 28, 40, 44, 48, 0, 8, 13)),
    ("scan24", "3 photos", (25, 22, 28)),
    ("lego", "40 photos", tuple(range(40))),
    ("lego", "8 photos", (26, 86, 2, 55, 75, 93, 16, 73)),
)


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FEWSHOT_DATA", "")))
    arguments = parser.parse_args()
    print("| scene | photos | with poses | judged | rotation, degrees | position, % | focal | CPU s |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for name, label, views in SETS:
        files, poses, focal = TRUTH[name](arguments.data)
        print(f"| {name} | {label} | {_row([files[view] for view in views], poses[list(views)], focal)} |", flush=True)


def _row(files: Sequence[Path], truth: npt.NDArray, focal: float) -> str:
    before = _cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for file in files:
            copy_photo(file, photos / file.name)
        try:
            prepared = prepare_scene(photos, Path(folder) / "scene", PrepareOptions())
        except (ValueError, CommandError):
            return f"0 of {len(files)} | refused | - | - | - | {_cpu_seconds() - before:.0f}"
    seconds = _cpu_seconds() - before
    found = prepared.poses
    names = [file.stem for file in files]
    places = [names.index(Path(name).stem) for name in found.names]
    rotation, position = pose_errors(found.camera_to_worlds, flip_camera_axes(truth[places]))
    ratio = float(np.mean(found.intrinsics[:, 0])) / focal
    return (
        f"{len(places)} of {len(files)} | {prepared.trust.verdict} | "
        f"{rotation.mean():.2f} (largest {rotation.max():.2f}) | "
        f"{100 * position.mean():.1f} (largest {100 * position.max():.1f}) | x{ratio:.3f} | {seconds:.0f}"
    )


def pose_errors(found: npt.NDArray, truth: npt.NDArray) -> Tuple[npt.NDArray, npt.NDArray]:
    """Errors of poses (N, 3, 4) after the similarity that fits them to the truth.

    Returns:
        (N,) degrees, and (N,) distances in units of the spread (root mean square) of the true positions.
    """
    scale, turn, source, target = similarity(found, truth)
    cosines = [(np.trace(true[:, :3].T @ turn @ one[:, :3]) - 1) / 2 for true, one in zip(truth, found, strict=True)]
    moved = scale * (found[:, :, 3] - source) @ turn.T + target
    spread = np.sqrt(((truth[:, :, 3] - target) ** 2).sum(1).mean())
    distance = np.linalg.norm(moved - truth[:, :, 3], axis=1)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1))), distance / spread


def similarity(poses: npt.NDArray, onto: npt.NDArray) -> Tuple[float, npt.NDArray, npt.NDArray, npt.NDArray]:
    """The similarity that fits poses (N, 3, 4) to others: its turn fits their axes, scale and shift their positions.

    Returns:
        Scale, turn (3, 3), and the centres (3,) of both: x becomes scale * turn @ (x - first) + second.
    """
    turned = sum(one[:, :3] @ pose[:, :3].T for one, pose in zip(onto, poses, strict=True))
    left, _, right = np.linalg.svd(turned)
    turn = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    first, second = poses[:, :, 3].mean(0), onto[:, :, 3].mean(0)
    source, target = (poses[:, :, 3] - first) @ turn.T, onto[:, :, 3] - second
    return float((source * target).sum() / (source * source).sum()), turn, first, second


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def copy_photo(source: Path, target: Path) -> None:
    """Copies a photo; a transparent one gets a grey background."""
    with Image.open(source) as image:
        if image.mode == "RGBA":
            behind = Image.new("RGB", image.size, (150, 150, 150))
            behind.paste(image, mask=image.split()[3])
            behind.save(target)
        else:
            image.convert("RGB").save(target)


def _fern(data: Path) -> Tuple[List[Path], npt.NDArray, float]:
    from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig

    config = LLFFDataParserConfig(
        data=data / "nerf_llff_data" / "fern", images_dir=Path("images_8"), ray_space="metric"
    )
    return _read(config)


def _scan24(data: Path) -> Tuple[List[Path], npt.NDArray, float]:
    from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig

    return _read(DTUDataParserConfig(data=data / "dtu" / "Rectified" / "scan24"))


def _lego(data: Path) -> Tuple[List[Path], npt.NDArray, float]:
    from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig

    return _read(FewShotBlenderDataParserConfig(data=data / "nerf_synthetic_half" / "lego"))


def _read(config) -> Tuple[List[Path], npt.NDArray, float]:
    parser = config.setup()
    parser.look_for_depths = False
    scene, _, cameras = parser.read_views()
    return list(scene.images), np.asarray(scene.camera_to_worlds, dtype=np.float64)[:, :3], float(cameras.fx[0])


TRUTH = {"fern": _fern, "scan24": _scan24, "lego": _lego}

if __name__ == "__main__":
    # nerfstudio's modules import each other in this order only.
    import nerfstudio.configs.method_configs  # noqa: F401

    main()
