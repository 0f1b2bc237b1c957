"""DTU in the layout of MVSNet: camera files per view, seven lights, source views by a pair file, true depth."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Literal, NamedTuple, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.dataparsers.dvr import read_list
from fewshot_ns.data.dataparsers.multiscene import MultiSceneDataParser, MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.scene_views import SceneViews
from fewshot_ns.data.depth_formats import read_depth_file
from fewshot_ns.data.scene_table import SceneEntry, SceneError

PAIR_FILES = ("view_pairs.txt", "pair.txt", "Cameras/pair.txt")
"""Where the list of source views per target is looked for, below the data."""
LIST_FILES = ("{split}.lst", "{split}.txt", "{split}_all.txt", "dtu_{split}_all.txt")
"""Names of the list of a split's scans, below the data."""
TEST_TARGETS = (32, 24, 23, 44)
"""Views of each test scan that MVSNeRF, MatchNeRF and ID-NeRF evaluate."""
TEST_SOURCES = (25, 21, 33, 22, 14, 15, 26, 30, 31, 35, 34, 43, 46, 29, 16, 36)
"""Views of each test scan that may be looked at: as remembered of MVSNeRF's file of pairs, not checked against it."""
VALIDATION_TARGETS = (24,)
"""View of each training scan that validates."""
_LIGHT = re.compile(r"/light(\d+)$")


@dataclass
class MVSNetDTUDataParserConfig(MultiSceneDataParserConfig):
    """DTU as prepared for MVSNet."""

    _target: Type = field(default_factory=lambda: MVSNetDTUDataParser)
    """Parser class to instantiate."""
    background: Literal["black", "white"] = "black"
    """What lies behind the scenes, and under transparent pixels."""
    train_lights: Tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """Lights of the training scenes; each scan under each light is a scene, scan1/light0."""
    light: int = 3
    """Light of the validation and test scenes."""
    num_views: int = 49
    """Views of a scan."""
    calibration_size: Tuple[int, int] = (128, 160)
    """Height and width that the intrinsics of the camera files are made for: a quarter of the images'."""
    scale: float = 1 / 200
    """World units per millimetre of the files."""
    depth_planes: int = 192
    """Far is the smallest depth of the camera files plus so many of their intervals."""
    pair_file: Optional[Path] = None
    """List of the best source views of each view; None looks for view_pairs.txt, pair.txt and Cameras/pair.txt."""
    scan_list: Optional[Path] = None
    """List of scans, one per line, for every split; None looks for train.lst, train_all.txt, dtu_train_all.txt, ...
    Where there is no list of tests, that of validation is taken, and the training scans validate."""
    test_targets: Tuple[int, ...] = TEST_TARGETS
    """Views of the test scans that are evaluated, where the scans have them; empty: all that are not looked at."""
    test_sources: Tuple[int, ...] = TEST_SOURCES
    """Views of the test scans that may be looked at, where the scans have them; empty: all. The default is MVSNeRF's as
    remembered, not checked."""


class MVSNetDTUDataParser(MultiSceneDataParser):
    """Parser of MVSNet's DTU. The world is the files', scaled."""

    config: MVSNetDTUDataParserConfig

    def _list_scenes(self, split: str) -> Iterator[SceneEntry]:
        data = Path(os.path.abspath(self.config.data))
        for scan in read_list(self._scan_list(data, split)):
            folder = data / "Rectified" / f"{scan}_train"
            lights = self.config.train_lights if split == "train" else (self.config.light,)
            for light in lights:
                name = f"{scan}/light{light}" if split == "train" else scan
                yield SceneEntry(name, "", folder, split)

    def _scan_list(self, data: Path, split: str) -> Path:
        if self.config.scan_list is not None:
            if not self.config.scan_list.is_file():
                raise FileNotFoundError(f"{self.config.scan_list}: expected a list of scans, found no such file")
            return self.config.scan_list
        lists = {name: _first_file(data, name) for name in ("train", "val", "test")}
        if lists["test"] is None:
            # The published lists hold one called validation, which the tests are made on.
            lists["test"], lists["val"] = lists["val"], lists["train"]
        found = lists[split]
        if found is None:
            names = ", ".join(pattern.format(split=split) for pattern in LIST_FILES)
            raise FileNotFoundError(f"{data}: expected a list of scans ({names}) or --scan-list, found none")
        return found

    def _read_views(self, entry: SceneEntry) -> SceneViews:
        config = self.config
        data, scan = entry.folder.parent.parent, entry.folder.name.removesuffix("_train")
        found = _LIGHT.search(entry.scene_id)
        light = config.light if found is None else int(found.group(1))
        views = range(config.num_views)
        cameras = [read_mvsnet_camera(data / "Cameras" / "train" / f"{view:08d}_cam.txt") for view in views]
        images = tuple(entry.folder / f"rect_{view + 1:03d}_{light}_r5000.png" for view in views)
        missing = next((path for path in images if not path.is_file()), None)
        if missing is not None:
            raise FileNotFoundError(f"{missing}: expected an image of the scan, found no such file")
        poses = flip_camera_axes(np.stack([camera.camera_to_world for camera in cameras]))
        poses[:, :, 3] *= config.scale
        depths = tuple(data / "Depths" / scan / f"depth_map_{view:04d}.pfm" for view in views)
        intrinsics = np.stack([camera.intrinsics for camera in cameras])
        nearest = min(camera.depth_min for camera in cameras)
        farthest = max(camera.depth_min + config.depth_planes * camera.depth_interval for camera in cameras)
        return SceneViews(
            images=images,
            camera_to_worlds=poses,
            focal=intrinsics[:, [0, 1], [0, 1]],
            centre=intrinsics[:, :2, 2],
            size=config.calibration_size,
            near=nearest * config.scale,
            far=farthest * config.scale,
            planar=True,
            depths=tuple(path if path.is_file() else None for path in depths),
            neighbours=self._neighbours(data),
            pool=self._known(config.test_sources) if entry.split == "test" else None,
            targets=self._known({"test": config.test_targets, "val": VALIDATION_TARGETS}.get(entry.split, ())),
        )

    def _known(self, views: Tuple[int, ...]) -> Optional[Tuple[int, ...]]:
        """Views of a protocol; None where there are none, or the scans lack one of them."""
        return views if views and max(views) < self.config.num_views else None

    def _neighbours(self, data: Path) -> Optional[Tuple[Tuple[int, ...], ...]]:
        """For each view its best sources; None where there is no pair file."""
        given = self.config.pair_file
        candidates = [given] if given is not None else [data / name for name in PAIR_FILES]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            if given is not None:
                raise FileNotFoundError(f"{given}: expected a list of source views (--pair-file), found no such file")
            return None
        return read_pairs(path, self.config.num_views)


def _first_file(data: Path, split: str) -> Optional[Path]:
    """List of the scans of a split."""
    paths = (data / pattern.format(split=split) for pattern in LIST_FILES)
    return next((path for path in paths if path.is_file()), None)


class MVSNetCamera(NamedTuple):
    """A camera file."""

    camera_to_world: npt.NDArray[np.float64]
    """(3, 4) OpenCV axes, millimetres."""
    intrinsics: npt.NDArray[np.float64]
    """(3, 3) pixels of the calibration size."""
    depth_min: float
    """Smallest depth, millimetres."""
    depth_interval: float
    """Distance of MVSNet's depth planes, millimetres."""


def _lines_of(path: Path, what: str) -> List[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected {what}, found no such file")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SceneError(f"{path}: expected text, found {error}") from error


def read_mvsnet_camera(path: Path) -> MVSNetCamera:
    """Reads a `*_cam.txt`: 'extrinsic', four lines, 'intrinsic', three lines, a line with depth and interval.

    Raises:
        FileNotFoundError: no such file.
        SceneError: it holds something else.
    """
    words = " ".join(_lines_of(path, "a camera of the scan")).split()
    expected = "expected 'extrinsic', 16 numbers, 'intrinsic', 9 numbers, smallest depth and interval"
    if len(words) < 29 or words[0] != "extrinsic" or words[17] != "intrinsic":
        raise SceneError(f"{path}: {expected}, found {len(words)} words")
    try:
        numbers = np.array([float(word) for word in words[1:17] + words[18:29]])
    except ValueError as error:
        raise SceneError(f"{path}: {expected}, found {error}") from error
    if not np.isfinite(numbers).all() or numbers[26] <= 0 or numbers[25] < 0:
        raise SceneError(f"{path}: expected finite numbers, a depth of 0 or more and a positive interval, found others")
    try:
        camera_to_world = np.linalg.inv(numbers[:16].reshape(4, 4))[:3]
    except np.linalg.LinAlgError as error:
        raise SceneError(f"{path}: expected an invertible extrinsic matrix, found {error}") from error
    return MVSNetCamera(camera_to_world, numbers[16:25].reshape(3, 3), float(numbers[25]), float(numbers[26]))


def read_mvsnet_depth(path: Path, size: Tuple[int, int], scale: float) -> npt.NDArray[np.float32]:
    """Reads a true depth map of a scan and brings it to the size of the images: every second pixel, and the middle.

    Args:
        path: A .pfm of 1200x1600 pixels, millimetres of planar depth.
        size: (height, width) of the rectified images, 512x640.
        scale: World units per millimetre.

    Returns:
        `size` float32 in world units, 0 where nothing was measured.

    Raises:
        FileNotFoundError: no such file.
        SceneError: it is damaged, or too small.
    """
    try:
        halved = read_depth_file(path)[::2, ::2]
    except ValueError as error:
        raise SceneError(str(error)) from error
    top, left = (halved.shape[0] - size[0]) // 2, (halved.shape[1] - size[1]) // 2
    if min(top, left) < 0:
        raise SceneError(
            f"{path}: expected at least {2 * size[1]}x{2 * size[0]} pixels, found a map of half that size or less"
        )
    middle = halved[top : top + size[0], left : left + size[1]] * np.float32(scale)
    return np.where(np.isfinite(middle) & (middle > 0), middle, np.float32(0.0))


def read_pairs(path: Path, num_views: int) -> Tuple[Tuple[int, ...], ...]:
    """Reads a pair file: the number of views, then for each its number and a line 'count view score view score ...'.

    Args:
        path: The file.
        num_views: Views of the scene; others are left out of the lists.

    Returns:
        For each view its sources, best first; empty for a view that the file does not list.

    Raises:
        SceneError: it holds something else.
    """
    lines = [line.split() for line in _lines_of(path, "a list of source views") if line.strip()]
    neighbours: List[Tuple[int, ...]] = [()] * num_views
    for number, (head, row) in enumerate(zip(lines[1::2], lines[2::2], strict=False)):
        try:
            view, count, sources = int(head[0]), int(row[0]), tuple(int(word) for word in row[1::2])
        except ValueError as error:
            raise SceneError(f"{path}: expected 'count view score ...' in entry {number}, found {error}") from error
        if count > len(sources):
            raise SceneError(f"{path}: expected {count} views in entry {number}, found {len(sources)}")
        if view < num_views:
            neighbours[view] = tuple(source for source in sources[:count] if source < num_views)
    if not any(neighbours):
        raise SceneError(f"{path}: expected source views of {num_views} views, found none")
    return tuple(neighbours)
