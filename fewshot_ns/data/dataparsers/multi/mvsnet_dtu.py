"""DTU in the layout of MVSNet: camera files per view, seven lights, source views by a pair file, true depth."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Literal, Optional, Tuple, Type

import numpy as np

from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParser, MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.dvr import read_list
from fewshot_ns.data.dataparsers.multi.scene_views import SceneViews
from fewshot_ns.data.files.mvsnet import read_mvsnet_camera, read_pairs
from fewshot_ns.data.records.scene import SceneEntry, SceneWorld
from fewshot_ns.utils.number_flags import check_at_least, check_length

PAIR_FILES = ("view_pairs.txt", "pair.txt", "Cameras/pair.txt")
"""Where the list of source views per target is looked for, below the data."""
LIST_FILES = ("{split}.lst", "{split}.txt", "{split}_all.txt", "dtu_{split}_all.txt")
"""Names of the list of a split's scans, below the data."""
TEST_TARGETS = (32, 24, 23, 44)
"""Views of each test scan that MVSNeRF, MatchNeRF and ID-NeRF evaluate."""
TEST_SOURCES = (25, 21, 33, 22, 14, 15, 26, 30, 31, 35, 34, 43, 46, 29, 16, 36)
"""Views of each test scan that may be sources: as remembered of MVSNeRF's file of pairs, not checked against it."""
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
    """Views of the test scans that are evaluated, where the scans have them; empty: all but the source views."""
    test_sources: Tuple[int, ...] = TEST_SOURCES
    """Views of the test scans that may be sources, where the scans have them; empty: all. The default is MVSNeRF's as
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

    def _check_flags(self) -> None:
        super()._check_flags()
        config = self.config
        check_at_least("--calibration-size", 1, *config.calibration_size)
        check_at_least("--num-views", 1, config.num_views)
        check_at_least("--depth-planes", 1, config.depth_planes)
        check_length("--scale", config.scale)

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
            world=SceneWorld(scale=config.scale),
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
