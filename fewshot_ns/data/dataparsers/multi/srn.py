"""ShapeNet chairs and cars in the layout of Scene Representation Networks (SRN)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Literal, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParser, MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_views import SceneViews, listed_files
from fewshot_ns.data.files.images import list_images
from fewshot_ns.data.records.scene import SceneEntry, SceneError, SceneWorld
from fewshot_ns.utils.number_flags import check_length

NEAR_FAR: Dict[str, Tuple[float, float]] = {"cars": (0.8, 1.8), "chairs": (1.25, 2.75)}
"""Published sampling ranges."""
RANGE_FILE = "near_far.txt"
"""File beside the scenes of a split with two numbers, near and far; the generated set has one."""


@dataclass
class SRNDataParserConfig(MultiSceneDataParserConfig):
    """Many objects with `intrinsics.txt`, `rgb` and `pose` each."""

    _target: Type = field(default_factory=lambda: SRNDataParser)
    """Parser class to instantiate."""
    data: Path = Path()
    """The set without its split: `DIR/cars` for the folders `DIR/cars_train`, `DIR/cars_val` and `DIR/cars_test`, or
    the folder that holds them."""
    sampling_range: Optional[Literal["cars", "chairs"]] = None
    """Published near and far; None: from near_far.txt beside the objects, else by the word in the name of the set."""
    categories_in_names: bool = False
    """Whether the part of an object's name before its last underscore is its category, as in the generated set."""
    world_scale: float = 1.0
    """Factor of the world. As in the original it multiplies the focal length too, and not near and far."""


class SRNDataParser(MultiSceneDataParser):
    """Parser of the SRN layout. Objects are named by their folders."""

    config: SRNDataParserConfig

    def _list_scenes(self, split: str) -> Iterable[SceneEntry]:
        folder = self._split_folder(split)
        names = _folder_names(folder)
        # The released chairs hold their training objects one level deeper, in chairs_2.0_train.
        if len(names) == 1 and names[0].endswith(f"_{split}"):
            folder = folder / names[0]
            names = _folder_names(folder)
        return (SceneEntry(name, self._category_of(name), folder / name, split) for name in names)

    def _category_of(self, name: str) -> str:
        return name.rpartition("_")[0] if self.config.categories_in_names else ""

    def _split_folder(self, split: str) -> Path:
        data = Path(os.path.abspath(self.config.data))
        beside, inside = data.with_name(f"{data.name}_{split}"), sorted(data.glob(f"*_{split}"))
        if beside.is_dir():
            return beside
        if len(inside) == 1 and inside[0].is_dir():
            return inside[0]
        found = "none" if not inside else ", ".join(path.name for path in inside)
        raise FileNotFoundError(
            f"{data}: expected objects in {beside}, or in one folder *_{split} below it; found {found} (--data)"
        )

    def _check_flags(self) -> None:
        super()._check_flags()
        check_length("--world-scale", self.config.world_scale)

    def _read_views(self, entry: SceneEntry) -> SceneViews:
        images = list_images(entry.folder / "rgb")
        focal, centre, size = read_intrinsics(entry.folder / "intrinsics.txt")
        poses = flip_camera_axes(np.stack([read_pose(path) for path in self._pose_files(entry, images)]))
        poses[:, :, 3] *= self.config.world_scale
        near, far = self._range_of(entry)
        return SceneViews(
            images=images,
            camera_to_worlds=poses,
            focal=np.full((len(images), 2), focal * self.config.world_scale),
            centre=np.broadcast_to(centre, (len(images), 2)),
            size=size,
            near=near,
            far=far,
            mask_from_background=True,
            world=SceneWorld(scale=self.config.world_scale),
        )

    def _pose_files(self, entry: SceneEntry, images: Tuple[Path, ...]) -> List[Path]:
        files = listed_files(entry.folder / "pose", (".txt",))
        if [path.stem for path in files] != [path.stem for path in images]:
            names = {path.stem for path in files} ^ {path.stem for path in images}
            raise SceneError(
                f"{entry.folder / 'pose'}: expected a file NAME.txt per image of rgb, found {len(files)} files for "
                f"{len(images)} images; without a partner: {', '.join(sorted(names)[:3])}"
            )
        return list(files)

    def _range_of(self, entry: SceneEntry) -> Tuple[float, float]:
        config = self.config
        if config.near is not None and config.far is not None:
            return config.near, config.far
        if config.sampling_range is not None:
            return NEAR_FAR[config.sampling_range]
        path = entry.folder.parent / RANGE_FILE
        if path.is_file():
            values = _numbers(path, path.read_text(encoding="utf-8").split(), 2, "near and far")
            return float(values[0]), float(values[1])
        names = [os.path.abspath(config.data).rsplit(os.sep, 1)[-1], entry.folder.parent.name]
        for word, published in NEAR_FAR.items():
            if any(word in name for name in names):
                return published
        raise SceneError(
            f"{path}: expected near and far of the set in this file, or the word {' or '.join(NEAR_FAR)} in its name, "
            "found neither; give --near and --far, or --sampling-range"
        )


def _folder_names(folder: Path) -> List[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _numbers(path: Path, words: List[str], count: int, what: str) -> npt.NDArray[np.float64]:
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise SceneError(f"{path}: expected {what} as numbers, found {error}") from error
    if len(values) < count or not np.isfinite(values).all():
        raise SceneError(f"{path}: expected {what}, {count} finite numbers, found {' '.join(words) or 'nothing'}")
    return values


def read_intrinsics(path: Path) -> Tuple[float, npt.NDArray[np.float64], Tuple[int, int]]:
    """Reads `intrinsics.txt`: its first line is `f cx cy _`, its last `height width`.

    Returns:
        focal length and (2,) principal point in pixels, first pixel at 0, and (height, width) of the images meant.

    Raises:
        FileNotFoundError: the file is missing.
        SceneError: it says something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the camera of the object, found no such file")
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise SceneError(f"{path}: expected text, found {error}") from error
    if len(lines) < 2:
        raise SceneError(f"{path}: expected lines 'f cx cy ..' to 'height width', found {len(lines)} lines")
    focal, *centre = _numbers(path, lines[0][:3], 3, "focal length and principal point in the first line")
    height, width = (int(value) for value in _numbers(path, lines[-1][:2], 2, "height and width in the last line"))
    if height < 1 or width < 1:
        raise SceneError(f"{path}: expected a positive height and width in the last line, found {height} {width}")
    return float(focal), np.array(centre), (height, width)


def read_pose(path: Path) -> npt.NDArray[np.float64]:
    """Reads a pose file of 16 numbers in any lines: a camera-to-world matrix with OpenCV camera axes.

    Returns:
        (3, 4).

    Raises:
        SceneError: it holds something else.
    """
    try:
        words = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise SceneError(f"{path}: expected text, found {error}") from error
    values = _numbers(path, words, 16, "a 4x4 camera-to-world matrix")
    if len(values) != 16:
        raise SceneError(f"{path}: expected a 4x4 camera-to-world matrix, found {len(values)} numbers")
    return values.reshape(4, 4)[:3]
