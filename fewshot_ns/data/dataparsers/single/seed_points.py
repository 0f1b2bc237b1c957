"""Sparse points of a scene that a model may start from (Gaussian splats), in the frame and scale of its cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
import numpy.typing as npt
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.files.colmap import SparseModel, project, read_colmap, track_numbers

GREY = 128
"""Colour of points that come without one, in each channel."""
_MAX_OFFSET = 0.01
"""How far a camera may lie from COLMAP's, as a fraction of the extent of the cameras."""
_MIN_SEEN = 0.9
"""Share of the points that two cameras have to see where nothing else says that they belong to the scene."""


@dataclass(frozen=True)
class SeedPoints:
    """P points of a scene."""

    positions: npt.NDArray[np.float32]
    """(P, 3) in the world of the cameras."""
    colours: npt.NDArray[np.uint8]
    """(P, 3) red, green, blue."""
    path: Path
    """File that they come from."""
    train_views: Optional[npt.NDArray[np.int64]] = None
    """(P,) how many training views see each point, by COLMAP's tracks; None where the file does not say it."""

    @property
    def source(self) -> str:
        """Where they come from and what is known of them, in words."""
        seen = "from views that are not recorded"
        if self.train_views is not None:
            seen = f"{int((self.train_views >= 2).sum())} of them seen by at least two training views"
        return f"{self.path}: {len(self.positions)} points, {seen}"


@dataclass(frozen=True)
class SceneCameras:
    """Cameras of all N views of a scene, and the way from its files' world to theirs."""

    images: Sequence[Path]
    """(N) images."""
    poses: npt.NDArray[np.floating]
    """(N, 3, 4) OpenGL camera-to-world."""
    intrinsics: npt.NDArray[np.floating]
    """(N, 4) fx / W, fy / H, cx / W, cy / H."""
    transform: npt.NDArray[np.floating]
    """(3, 4) rigid transform from the world of the files, before scaling."""
    scale: float
    """Units of the world per unit of the files."""

    def to_world(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Points (P, 3) of the files' world in that of the cameras."""
        return self.scale * (points @ self.transform[:, :3].T + self.transform[:, 3])


def colmap_seed_points(path: Path, cameras: SceneCameras, train: Sequence[int]) -> Optional[SeedPoints]:
    """COLMAP's points, where they prove to lie in the world of the scene's cameras.

    Args:
        path: points3D.bin or .txt; images and cameras may lie beside it.
        cameras: All views of the scene.
        train: Indices of the training views.

    Returns:
        None, with a line in the log, where the file is damaged or the points belong to other cameras: a scene can be
        trained without them.
    """
    try:
        model = read_colmap(path)
    except ValueError as error:
        CONSOLE.print(f"{error}; the scene has no seed points", soft_wrap=True)
        return None
    world = cameras.to_world(model.positions)
    numbers = _image_numbers(model, cameras.images)
    if numbers is not None:
        fits = _same_cameras(model, numbers, cameras)
    else:
        views = range(len(cameras.images))
        inside = [project(world, cameras.poses[view], cameras.intrinsics[view])[2] for view in views]
        numbers = track_numbers(model, views, len(views), inside)
        fits = numbers is not None or float((np.sum(inside, axis=0) >= 2).mean()) >= _MIN_SEEN
    if not fits:
        CONSOLE.print(
            f"{path}: the points lie in another world than the scene's cameras; the scene has no seed points",
            soft_wrap=True,
        )
        return None
    counts = None
    if numbers is not None:
        counts = np.sum([model.seen_by(numbers[view]) for view in train], axis=0, dtype=np.int64)
    return SeedPoints(world.astype(np.float32), model.colours, path, counts)


def _image_numbers(model: SparseModel, images: Sequence[Path]) -> Optional[List[int]]:
    """COLMAP's number of each image, by name, else by the order of the names; None where neither fits."""
    named = model.images_of(images)
    if all(image is not None for image in named):
        return [image.id for image in named if image is not None]
    if len(model.images) == len(images):
        return [image.id for image in sorted(model.images.values(), key=lambda image: image.name)]
    return None


def _same_cameras(model: SparseModel, numbers: Sequence[int], cameras: SceneCameras) -> bool:
    """Whether COLMAP's cameras stand where the scene's do."""
    by_number = {image.id: image for image in model.images.values()}
    images = [by_number[number] for number in numbers]
    centres = cameras.to_world(np.stack([-image.qvec2rotmat().T @ image.tvec for image in images]))
    positions = cameras.poses[:, :, 3]
    extent = np.linalg.norm(positions - positions.mean(0), axis=-1).max()
    return bool(np.linalg.norm(centres - positions, axis=-1).max() <= _MAX_OFFSET * extent)
