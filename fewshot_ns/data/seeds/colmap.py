"""COLMAP's points made anew from what the training views alone have seen of them, with the scene's own cameras.

COLMAP's positions and colours come from all photos of a capture, also those that are held out for testing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
import torch

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.colmap import SparseModel
from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.data.stereo.views import sample

MIN_ANGLE = 1.5
"""Degrees between two of a point's rays, at least, as in COLMAP; nearly parallel ones do not say how deep it lies."""
MAX_ERROR = 2e-3
"""Largest distance between where a view shows a point and where its position projects to, as a fraction of the longer
side of the photo."""
_REWEIGHTINGS = 3
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observations:
    """O sightings of points by the training views."""

    point: npt.NDArray[np.int64]
    """(O,) which point, from 0."""
    view: npt.NDArray[np.int64]
    """(O,) position of the view in its split."""
    position: Array
    """(O, 2) column and row in the photo at the size of training."""
    direction: Array
    """(O, 3) unit direction of the ray in the world."""


def colmap_cloud(model: SparseModel, dataset: FewShotDataset) -> Optional[SeedCloud]:
    """Points that at least two training views have seen, where their rays meet.

    Args:
        model: a reconstruction from photos of the scene.
        dataset: the training views.

    Returns:
        None where the files do not say what the training views have seen (LLFF keeps the points alone).
    """
    images = _training_images(model, dataset)
    if images is None:
        return None
    seen = _observations(model, images, dataset)
    poses = dataset.cameras.camera_to_worlds.cpu().double().numpy()
    focal = torch.cat([dataset.cameras.fx, dataset.cameras.fy], dim=-1).mean(-1).cpu().double().numpy()
    count = int(seen.point.max(initial=-1)) + 1
    positions = triangulated(poses[seen.view, :, 3], seen.direction, seen.point, count)
    sides = np.array([max(dataset.size_of(view)) for view in range(len(dataset))])
    errors, z_depth = reprojection_errors(positions, poses, seen)
    fits = errors * focal[seen.view] <= MAX_ERROR * sides[seen.view]
    kept = np.bincount(seen.point, minlength=count) >= 2
    np.logical_and.at(kept, seen.point, fits & (z_depth > 0))
    kept &= parallax(positions, poses[:, :, 3], seen) >= MIN_ANGLE
    radius, nearest = np.full(count, np.inf), np.full(count, -1)
    # Each point has the size of a pixel of the view that sees it best.
    size = z_depth / focal[seen.view]
    np.minimum.at(radius, seen.point, size)
    best = size <= radius[seen.point]
    nearest[seen.point[best]] = seen.view[best]
    colours = _colours(seen, count, dataset)
    return SeedCloud(
        positions=torch.from_numpy(positions[kept]).float(),
        colours=torch.from_numpy(colours[kept]).float(),
        radii=torch.from_numpy(radius[kept]).float(),
        view=torch.from_numpy(nearest[kept]),
        confirmed=torch.ones(int(kept.sum()), dtype=torch.bool),
        kind="colmap",
        views=tuple(photo.name for photo in dataset.photos),
    )


def triangulated(origins: Array, directions: Array, point: npt.NDArray[np.int64], count: int) -> Array:
    """Where rays of the same point come closest to each other, in least squares of the angles by which they miss it.

    Args:
        origins: (O, 3).
        directions: (O, 3) of length 1.
        point: (O,) which point a ray is of.
        count: of points P.

    Returns:
        (P, 3); of points with fewer than two rays, or parallel ones, any.
    """
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    weight = np.ones(len(point))
    positions = np.zeros((count, 3))
    for _ in range(1 + _REWEIGHTINGS):
        matrix, vector = np.zeros((count, 3, 3)), np.zeros((count, 3))
        weighted = weight[:, None, None] * across
        np.add.at(matrix, point, weighted)
        np.add.at(vector, point, np.einsum("oij,oj->oi", weighted, origins))
        scale = np.trace(matrix, axis1=1, axis2=2)
        matrix += np.maximum(1e-12 * scale, 1e-300)[:, None, None] * np.eye(3)
        positions = np.linalg.solve(matrix, vector[..., None])[..., 0]
        # A distance across a ray is an angle at the camera once it is divided by that to the point.
        weight = 1.0 / np.maximum(((positions[point] - origins) ** 2).sum(-1), 1e-12)
    return positions


def reprojection_errors(positions: Array, poses: Array, seen: Observations) -> Tuple[Array, Array]:
    """By how much each sighting misses its point (O,), on the plane at distance 1 from the camera, and depth (O,).

    Args:
        positions: (P, 3).
        poses: (V, 3, 4) OpenGL camera-to-world.
        seen: the sightings.
    """
    pose = poses[seen.view]
    local = np.einsum("oi,oij->oj", positions[seen.point] - pose[:, :, 3], pose[:, :, :3])
    ray = np.einsum("oi,oij->oj", seen.direction, pose[:, :, :3])
    z_depth = -local[:, 2]
    ahead = np.where(z_depth > 0, z_depth, 1.0)
    apart = local[:, :2] / ahead[:, None] - ray[:, :2] / -ray[:, 2:]
    return np.where(z_depth > 0, np.linalg.norm(apart, axis=-1), np.inf), z_depth


def parallax(positions: Array, centres: Array, seen: Observations) -> Array:
    """(P,) largest angle between two rays of a point, degrees.

    Args:
        positions: (P, 3).
        centres: (V, 3) of the cameras.
        seen: the sightings.
    """
    sees = np.zeros((len(positions), len(centres)), dtype=bool)
    sees[seen.point, seen.view] = True
    smallest = np.ones(len(positions))
    for first in range(len(centres)):
        one = _unit(positions - centres[first])
        for second in range(first + 1, len(centres)):
            cosine = (one * _unit(positions - centres[second])).sum(-1)
            smallest = np.where(sees[:, first] & sees[:, second], np.minimum(smallest, cosine), smallest)
    return np.degrees(np.arccos(smallest.clip(-1.0, 1.0)))


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)


def _training_images(model: SparseModel, dataset: FewShotDataset) -> Optional[List[Any]]:
    """COLMAP's image of each view, by name, else by the order of the names; None where sightings were not kept."""
    record = dataset.fewshot
    images: List[Any] = model.images_of(dataset.image_filenames, dataset.photos)
    if any(image is None for image in images):
        if len(model.images) != len(record.scene_camera_to_worlds):
            return None
        ordered = sorted(model.images.values(), key=lambda image: image.name)
        images = [ordered[index] for index in record.image_indices]
    return images if all((image.point3D_ids >= 0).any() for image in images) else None


def _observations(model: SparseModel, images: List[Any], dataset: FewShotDataset) -> Observations:
    order = np.argsort(model.ids)
    parts = []
    for view, image in enumerate(images):
        found = np.searchsorted(model.ids[order], image.point3D_ids).clip(max=len(order) - 1)
        known = model.ids[order][found] == image.point3D_ids
        # A photo may name a point twice; the first sighting counts.
        points, first = np.unique(order[found[known]], return_index=True)
        camera, (height, width) = model.cameras[image.camera_id], dataset.size_of(view)
        position = image.xys[known][first] * (width / camera.width, height / camera.height)
        inside = ((position >= 0) & (position < (width, height))).all(-1)
        pixel = np.where(inside[:, None], position, 0).astype(int)
        shown = dataset.photo_at(view, (height, width))[1].numpy()
        inside &= shown[pixel[:, 1], pixel[:, 0]]
        parts.append((points[inside], np.full(int(inside.sum()), view), position[inside]))
    point, view, position = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Points are numbered anew: those that no training view sees are no matter.
    _, point = np.unique(point, return_inverse=True)
    coordinates = torch.from_numpy(position[:, ::-1].copy()).float()
    rays = dataset.cameras.generate_rays(camera_indices=torch.from_numpy(view)[:, None], coords=coordinates)
    return Observations(point, view, position, rays.directions.cpu().double().numpy())


def _colours(seen: Observations, count: int, dataset: FewShotDataset) -> Array:
    """(P, 3) mean of what the photos show where they see a point."""
    total, number = np.zeros((count, 3)), np.bincount(seen.point, minlength=count)
    for view in range(len(dataset)):
        mine = seen.view == view
        place = torch.from_numpy(seen.position[mine]).float()
        np.add.at(total, seen.point[mine], sample(dataset.get_image_float32(view)[..., :3], place).double().numpy())
    return total / np.maximum(number, 1)[:, None]
