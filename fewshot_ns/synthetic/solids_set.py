"""Writes a dataset of many small objects in the layout of SRN: training, validation and test objects, seeded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional

import cv2
import numpy as np

from fewshot_ns.cameras.poses import flip_camera_axes, homogeneous, look_at
from fewshot_ns.synthetic.raytracer import AreaLight, World, camera_rays
from fewshot_ns.synthetic.solids import KINDS, RADIUS, build_solid
from fewshot_ns.synthetic.textures import Array
from fewshot_ns.utils.files import replacing_folder
from fewshot_ns.utils.hashing import json_hash
from fewshot_ns.utils.record_files import recorded

RECORD_NAME = "solids_set.json"
NAME = "solids"
"""Name of the dataset: its folders are solids_train, solids_val and solids_test."""
_VERSION = 2
"""Counts changes of the objects or the renderer: a dataset written by an older version is rendered again."""
_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))
_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""From the objects' world, y up, to that of the files, z up as in pixelNeRF's datasets."""


@dataclass(frozen=True)
class SolidsConfig:
    """Everything that the files of the dataset depend on."""

    objects: int = 60
    """Number of objects; three kinds of furniture and three of other things, in turn."""
    views: int = 24
    """Views per object, spread evenly over a part of a sphere."""
    size: int = 64
    """Height and width of the images."""
    val_share: float = 0.1
    """Share of the objects in the validation split, at least one."""
    test_share: float = 0.2
    """Share of the objects in the test split, at least one."""
    supersample: int = 2
    """Rays per pixel along each axis."""
    camera_distance: float = 1.3
    """Distance of the cameras from the middle of the object."""
    lowest: float = 5.0
    """Elevation of the lowest cameras, degrees above the horizon."""
    highest: float = 70.0
    """Elevation of the highest cameras, degrees."""
    focal_share: float = 1.025
    """Focal length as a share of the image width (SRN's: 131.25 of 128)."""
    seed: int = 0
    """Decides objects and cameras."""

    def __post_init__(self) -> None:
        counts = {"objects": self.objects, "views": self.views, "size": self.size, "supersample": self.supersample}
        for name, value in counts.items():
            least = {"objects": 3, "views": 2, "size": 8, "supersample": 1}[name]
            if value < least:
                raise ValueError(f"expected --{name} to be at least {least}, got {value}")
        if min(self.val_share, self.test_share) < 0 or self.val_share + self.test_share >= 1:
            raise ValueError(f"expected shares below 1 in all, got {self.val_share} and {self.test_share}")
        if self.camera_distance <= RADIUS:
            raise ValueError(f"expected cameras beyond {RADIUS} of the middle, got {self.camera_distance}")
        if not -90 < self.lowest <= self.highest < 90:
            raise ValueError(f"expected elevations in order and within 90 degrees, got {self.lowest} to {self.highest}")

    @property
    def near(self) -> float:
        """Distance from a camera to the nearest point that an object can have."""
        return self.camera_distance - RADIUS

    @property
    def far(self) -> float:
        """Distance from a camera to the farthest point that an object can have."""
        return self.camera_distance + RADIUS

    def counts(self) -> Dict[str, int]:
        """Objects of each split."""
        test = max(1, round(self.test_share * self.objects))
        val = max(1, round(self.val_share * self.objects))
        return {"train": self.objects - val - test, "val": val, "test": test}

    def content_hash(self) -> str:
        """Identifies the files that this configuration gives."""
        return json_hash([_VERSION, asdict(self)], sort_keys=True)[:16]


def object_cameras(config: SolidsConfig, turn: float) -> Array:
    """Cameras on a part of a sphere, from its lowest to its highest circle, that look at the middle.

    Args:
        config: Their number, distance and elevations.
        turn: Azimuth of the first one, rad.

    Returns:
        (N, 3, 4) OpenGL axes, y up.
    """
    index = np.arange(config.views)
    low, high = np.sin(np.deg2rad([config.lowest, config.highest]))
    height = low + (high - low) * (index + 0.5) / config.views
    azimuth, across = turn + _GOLDEN_ANGLE * index, np.sqrt(1.0 - height**2)
    positions = config.camera_distance * np.stack([across * np.sin(azimuth), height, across * np.cos(azimuth)], axis=1)
    return np.stack([look_at(position, np.zeros(3), np.array([0.0, 1.0, 0.0])) for position in positions])


def render_solid(world: World, c2w: Array, config: SolidsConfig) -> Array:
    """Anti-aliased image of an object, (size, size, 3) in [0, 1]; only rays near the object are traced."""
    size, steps = config.size, (np.arange(config.supersample) + 0.5) / config.supersample
    y, x = np.meshgrid(
        (np.arange(size)[:, None] + steps).ravel(), (np.arange(size)[:, None] + steps).ravel(), indexing="ij"
    )
    origins, directions = camera_rays(c2w, config.focal_share * size, x.ravel(), y.ravel(), size, size)
    closest = np.cross(origins, directions)
    near = np.einsum("ij,ij->i", closest, closest) < RADIUS**2 * np.einsum("ij,ij->i", directions, directions)
    colours = np.broadcast_to(np.asarray(world.sky, dtype=float), directions.shape).copy()
    colours[near] = world.shade(origins[near], directions[near], (0.0, 0.0))
    return colours.reshape(size, config.supersample, size, config.supersample, 3).mean(axis=(1, 3))


def write_solids(
    folder: Path, config: Optional[SolidsConfig] = None, on_object: Optional[Callable[[int, int], None]] = None
) -> bool:
    """Writes the dataset, or leaves an identical one as it is.

    Args:
        folder: Folder of the dataset; it appears only when complete.
        config: What to write; None for the default.
        on_object: Called after each object with (objects done, objects in all).

    Returns:
        True where files were written, False where the same dataset was there already.

    Raises:
        ValueError: where `folder` holds something that is not such a dataset; it is not touched then.
    """
    config = config or SolidsConfig()
    record = folder / RECORD_NAME
    if record.is_file():
        if recorded(record, "hash") == config.content_hash():
            return False
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: expected an empty or new folder, found files that are no such set ({RECORD_NAME})")
    with replacing_folder(folder) as fresh:
        done = 0
        for number, (split, count) in enumerate(config.counts().items()):
            split_folder = fresh / f"{NAME}_{split}"
            split_folder.mkdir(parents=True)
            (split_folder / "near_far.txt").write_text(f"{config.near:g} {config.far:g}\n", encoding="utf-8")
            kinds = list(KINDS)
            for index in range(count):
                kind = kinds[index % len(kinds)]
                # Numbered through all splits, so that a name means one object.
                _write_object(split_folder / f"{kind}_{done:04d}", kind, (config.seed, number, index), config)
                done += 1
                if on_object is not None:
                    on_object(done, config.objects)
        content = {"hash": config.content_hash(), "config": asdict(config)}
        (fresh / RECORD_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return True


def _write_object(folder: Path, kind: str, key: tuple, config: SolidsConfig) -> None:
    """Renders all views of an object."""
    (folder / "rgb").mkdir(parents=True)
    (folder / "pose").mkdir()
    light = AreaLight((-1.5, 3.0, 2.0), half_size=0.0, strength=0.5, ambient=0.5)
    world = World(build_solid(kind, key), light, sky=(1.0, 1.0, 1.0), shadows=False)
    # Cameras stand elsewhere about each training object; those of the others are the same, so that view numbers
    # mean the same for all of them.
    turn = float(np.random.default_rng([*key, 1]).uniform(0.0, 2.0 * np.pi)) if key[1] == 0 else 0.0
    for view, pose in enumerate(object_cameras(config, turn)):
        image = np.round(render_solid(world, pose, config) * 255.0).astype(np.uint8)
        if not cv2.imwrite(str(folder / "rgb" / f"{view:06d}.png"), image[..., ::-1]):
            raise OSError(f"could not write {folder / 'rgb' / f'{view:06d}.png'}")
        matrix = homogeneous(flip_camera_axes(_TO_Z_UP @ pose))
        text = " ".join(f"{value:.9g}" for value in matrix.ravel())
        (folder / "pose" / f"{view:06d}.txt").write_text(text + "\n", encoding="utf-8")
    # The layout counts from the centre of the first pixel.
    focal, centre = config.focal_share * config.size, config.size / 2 - 0.5
    lines: List[str] = [f"{focal:g} {centre:g} {centre:g} 0.", "0. 0. 0.", "1.", f"{config.size} {config.size}"]
    (folder / "intrinsics.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
