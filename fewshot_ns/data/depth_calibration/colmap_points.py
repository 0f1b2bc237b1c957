"""Points of a COLMAP reconstruction as each view sees them: where in the image, how deep, how well known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Sequence

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.colmap import SparseModel, project, track_numbers
from fewshot_ns.data.records.photo_name import PhotoName

_GRID = 24
_OCCLUSION = 0.9


@dataclass(frozen=True)
class ViewPoints:
    """Points that one view sees."""

    position: npt.NDArray[np.float64]
    """(N, 2) column / W and row / H in [0, 1)."""
    z_depth: npt.NDArray[np.float64]
    """(N,) planar depth, units of COLMAP's files times `scale`."""
    weight: npt.NDArray[np.float64]
    """(N,) in (0, 1], less for points with a large reprojection error."""


def points_of_views(
    model: SparseModel,
    images: Sequence[Path],
    indices: Sequence[int],
    num_images: int,
    poses: npt.NDArray[np.floating],
    intrinsics: npt.NDArray[np.floating],
    transform: npt.NDArray[np.floating],
    scale: float,
    names: Sequence[PhotoName] = (),
) -> List[ViewPoints]:
    """The points that each view sees.

    COLMAP's own record of what each image shows is used where it lies there. Where only the points were kept (LLFF),
    they are projected with the scene's cameras, and visible are those whose track names the view, if the numbers in
    the tracks prove to be those of the sorted images; otherwise those that no nearer point hides.

    Args:
        model: The reconstruction.
        images: Photos of the V views.
        indices: (V,) their indices among the scene's sorted images.
        num_images: Images of the scene.
        poses: (V, 3, 4) OpenGL poses in the scene's world.
        intrinsics: (V, 4) fx / W, fy / H, cx / W, cy / H.
        transform: (3, 4) from COLMAP's frame to the scene's world, before scaling.
        scale: From COLMAP's units to the scene's.
        names: What the photos are called among all of the scene; none: they are called like no other.
    """
    weight = np.exp(-((model.errors / max(float(model.errors.mean()), 1e-9)) ** 2)).clip(1e-3)
    named = model.images_of(images, names)
    if all(image is not None for image in named):
        return [_recorded(model, image, weight, scale) for image in named]
    world = scale * (model.positions @ transform[:, :3].T + transform[:, 3])
    projected = [project(world, pose, camera) for pose, camera in zip(poses, intrinsics, strict=True)]
    numbers = track_numbers(model, indices, num_images, [inside for _, _, inside in projected])
    found = []
    for view, (position, depth, inside) in enumerate(projected):
        if numbers is not None:
            seen = inside & model.seen_by(numbers[view])
        else:
            seen = inside.copy()
            seen[inside] = unhidden(position[inside], depth[inside])
        found.append(ViewPoints(position[seen], depth[seen], weight[seen]))
    return found


def _recorded(model: SparseModel, image: Any, weight: npt.NDArray, scale: float) -> ViewPoints:
    camera = model.cameras[image.camera_id]
    row = {number: position for position, number in enumerate(model.ids.tolist())}
    kept = np.array([number in row for number in image.point3D_ids.tolist()], dtype=bool)
    index = np.array([row[number] for number in image.point3D_ids[kept].tolist()], dtype=np.int64)
    position = image.xys[kept] / np.array([camera.width, camera.height])
    depth = model.positions[index] @ image.qvec2rotmat()[2] + image.tvec[2]
    usable = (depth > 0) & ((position >= 0) & (position < 1)).all(axis=1)
    return ViewPoints(position[usable], scale * depth[usable], weight[index][usable])


def unhidden(position: npt.NDArray[np.floating], depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which points no clearly nearer point hides, on a grid of cells and their neighbours.

    Args:
        position: (N, 2) in [0, 1).
        depth: (N,).

    Returns:
        (N,) False where a point in the same or a neighbouring cell is nearer than 0.9 times this depth.
    """
    cell = np.minimum((position * _GRID).astype(int), _GRID - 1) + 1
    nearest = np.full((_GRID + 2, _GRID + 2), np.inf)
    np.minimum.at(nearest, (cell[:, 0], cell[:, 1]), depth)
    around = np.min([np.roll(nearest, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    return around[cell[:, 0], cell[:, 1]] >= _OCCLUSION * depth
