"""From monocular maps of a scene's training views to depth maps of known scale on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import intrinsic_fractions
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth_calibration.alignment import Alignment, align, align_to_range
from fewshot_ns.data.depth_calibration.colmap_points import ViewPoints, points_of_views
from fewshot_ns.data.depth_calibration.fusion import FusedDepth, fuse, sample_nearest
from fewshot_ns.data.files.colmap import find_colmap
from fewshot_ns.data.records.metadata import Polarity
from fewshot_ns.utils.cache import write_npz

Map = npt.NDArray[np.float32]

_SENSOR_SAMPLES = 20000
"""Pixels of a sensor's map that an alignment rests on at most."""


@dataclass(frozen=True)
class AlignmentLimits:
    """What an alignment has to fulfil, see `Alignment.misfit`."""

    min_points: int
    """Fewest points with known depth."""
    min_inliers: float
    """Fewest inliers, as a fraction of the points."""
    min_correlation: float
    """Lowest correlation over the inliers."""


def to_colmap(
    dataset: FewShotDataset, values: Sequence[Map], polarity: Polarity, scene: Path, colmap_dir: Optional[Path]
) -> List[Alignment]:
    """One line per view, to COLMAP's points.

    Args:
        dataset: the views.
        values: (H, W) monocular maps, one per view; NaN where they say nothing.
        polarity: what they hold.
        scene: folder in which COLMAP's is looked for.
        colmap_dir: that folder itself, or None.

    Raises:
        FileNotFoundError: the points are not there.
        ValueError: they cannot be read, or do not belong to the scene.
    """
    found: List[ViewPoints] = points_of_views(
        find_colmap(scene, colmap_dir),
        dataset.image_filenames,
        dataset.fewshot.image_indices,
        len(dataset.fewshot.scene_camera_to_worlds),
        dataset.cameras.camera_to_worlds.double().numpy(),
        intrinsic_fractions(dataset.cameras),
        dataset.file_to_world.double().numpy(),
        dataset.world_scale,
        dataset.photos,
    )
    return [
        align(sample_nearest(value, points.position), points.z_depth, polarity, points.weight)
        for value, points in zip(values, found, strict=True)
    ]


def to_sensor(dataset: FewShotDataset, values: Sequence[Map], polarity: Polarity) -> List[Alignment]:
    """One line per view, to the scene's own depth where it is valid; arguments as in `to_colmap`.

    Raises:
        ValueError: the scene has no depth of known scale.
    """
    lines = []
    for view, value in enumerate(values):
        sensor = dataset.metric_depth(view)
        pixels = np.flatnonzero(sensor.valid & np.isfinite(value))
        if len(pixels) > _SENSOR_SAMPLES:
            pixels = np.random.default_rng(view).choice(pixels, _SENSOR_SAMPLES, replace=False)
        lines.append(align(value.ravel()[pixels], sensor.z_depth.ravel()[pixels], polarity))
    return lines


def to_bounds(
    dataset: FewShotDataset, values: Sequence[Map], polarity: Polarity, near_far: Optional[Tuple[float, float]]
) -> List[Alignment]:
    """One line per view, to the nearest and farthest depth; arguments as in `to_colmap`.

    Args:
        near_far: planar depths in units of the scene's files; None takes each view's, or the scene's.

    Raises:
        ValueError: nothing is known of the depths, or not 0 < near < far.
    """
    bounds = [_bounds(dataset, view, near_far) for view in range(len(values))]
    return [align_to_range(value, *pair, polarity) for value, pair in zip(values, bounds, strict=True)]


def _bounds(dataset: FewShotDataset, view: int, near_far: Optional[Tuple[float, float]]) -> Tuple[float, float]:
    """Nearest and farthest planar depth of a view, world units."""
    if near_far is not None:
        return near_far[0] * dataset.world_scale, near_far[1] * dataset.world_scale
    record = dataset.fewshot
    if record.scene_bounds is not None:
        near, far = record.scene_bounds[record.image_indices[view]].tolist()
        return near, far
    if record.geometry.ray_space == "ndc" or record.geometry.origin_plane_z is not None:
        raise ValueError("--align near-far needs --near-far NEAR FAR in this scene, whose rays have no planar bounds")
    return record.geometry.near, record.geometry.far


def write_aligned_maps(
    dataset: FewShotDataset,
    values: Sequence[Map],
    lines: Sequence[Alignment],
    folder: Path,
    limits: AlignmentLimits,
    composite: bool = False,
    sensor_error: float = 0.01,
) -> List[Dict[str, Any]]:
    """Writes the maps that fit, with a standard deviation, in units of the scene's files.

    Args:
        dataset: the views.
        values: (H, W) monocular maps, one per view.
        lines: their scale and shift.
        folder: where to write, by the names of the photos.
        limits: what a line has to fulfil.
        composite: whether the scene's own depth is kept where it is valid.
        sensor_error: see `fuse`.

    Returns:
        A row per view: its name, how the line fits, and whether a map was written.
    """
    rows = []
    for view, (value, line) in enumerate(zip(values, lines, strict=True)):
        photo = dataset.photos[view]
        problem = line.misfit(limits.min_points, limits.min_inliers, limits.min_correlation)
        sensor = dataset.metric_depth(view) if composite else None
        fused = fuse(value, None if problem else line, sensor, sensor_error)
        file = folder / f"{photo.stem}.npz"
        if fused.valid.any():
            write_map(file, depth=fused.z_depth / dataset.world_scale, sigma=fused.sigma / dataset.world_scale)
        rows.append(_row(photo.name, line, problem, fused, dataset.world_scale))
    return rows


def _row(name: str, line: Alignment, problem: str, fused: FusedDepth, world_scale: float) -> Dict[str, Any]:
    # The line as it holds in units of the scene's files.
    to_files = world_scale if line.polarity == "inverse_depth" else 1.0 / world_scale
    return {
        "view": name,
        "points": line.num_points,
        "inliers": round(line.inlier_fraction, 4),
        "residual": _finite(line.residual),
        "correlation": _finite(line.correlation),
        "scale": _finite(line.scale * to_files),
        "shift": _finite(line.shift * to_files),
        "sensor": round(float(fused.from_sensor.mean()), 4),
        "written": bool(fused.valid.any()),
        "problem": problem,
    }


def _finite(value: Optional[float]) -> Optional[float]:
    return None if value is None or not math.isfinite(value) else float(value)


def write_map(path: Path, **arrays: Any) -> None:
    """Writes arrays (H, W) as float32 in an .npz, by a temporary file."""
    write_npz(path, {name: array.astype(np.float32) for name, array in arrays.items()}, compressed=True)
