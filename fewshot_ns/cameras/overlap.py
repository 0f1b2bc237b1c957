"""How cameras of a capture stand to each other: whether they face one way, what share of each view others see."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import Poses, normalize

MAX_PARALLAX = 60.0
"""Angle, degrees, between two cameras' rays to a point above which they see other sides of what is there."""
_COLUMNS, _ROWS, _DEPTHS = 8, 6, 12
"""Points of a view's frustum: pixels across and down, and depths, each a constant share farther than the last."""


def widest_angle(poses: Poses) -> float:
    """Largest angle, degrees, between the viewing axes of any two of the cameras (N, 3, 4)."""
    axes = normalize(poses[:, :3, 2])
    return float(np.degrees(np.arccos(np.clip(axes @ axes.T, -1.0, 1.0).min())))


def shared_views(poses: Poses, intrinsics: Poses, ranges: Poses) -> npt.NDArray[np.float64]:
    """What share of each camera's frustum another one of them sees, from a direction that is not too different.

    Args:
        poses: (N, 3, 4) OpenGL camera-to-world.
        intrinsics: (N, 4) fx / W, fy / H, cx / W, cy / H.
        ranges: (N, 2) planar depth, above zero, at which the frustum of each camera begins and ends.

    Returns:
        (N,) shares of points at even steps across the image and of the logarithm of depth; 0 of a single camera.
    """
    inside = np.zeros((len(poses), _COLUMNS * _ROWS * _DEPTHS), dtype=bool)
    for view, (pose, inner, (near, far)) in enumerate(zip(poses, intrinsics, ranges, strict=True)):
        points = _frustum(pose, inner, (float(near), float(far)))
        for other in range(len(poses)):
            if other != view:
                inside[view] |= _sees(points, poses[other], intrinsics[other], ranges[other], pose[:, 3])
    return inside.mean(1)


def _frustum(pose: Poses, inner: Poses, reach: Tuple[float, float]) -> Poses:
    """(P, 3) points in the frustum of a camera."""
    fx, fy, cx, cy = inner
    across, down = (np.arange(_COLUMNS) + 0.5) / _COLUMNS, (np.arange(_ROWS) + 0.5) / _ROWS
    column, row, depth = np.meshgrid(across, down, np.geomspace(*reach, _DEPTHS), indexing="ij")
    local = np.stack([(column - cx) / fx * depth, -(row - cy) / fy * depth, -depth], axis=-1).reshape(-1, 3)
    return local @ pose[:, :3].T + pose[:, 3]


def _sees(points: Poses, pose: Poses, inner: Poses, reach: Poses, first: Poses) -> npt.NDArray[np.bool_]:
    """(P,) whether a camera sees points (P, 3) within its reach, at a small parallax to a camera at `first` (3,)."""
    fx, fy, cx, cy = inner
    local = (points - pose[:, 3]) @ pose[:, :3]
    depth = -local[:, 2]
    ahead = (depth >= reach[0]) & (depth <= reach[1])
    safe = np.where(ahead, depth, 1.0)
    column, row = cx + fx * local[:, 0] / safe, cy - fy * local[:, 1] / safe
    within = ahead & (column >= 0) & (column <= 1) & (row >= 0) & (row <= 1)
    cosine = (normalize(first - points) * normalize(pose[:, 3] - points)).sum(-1)
    return within & (cosine >= np.cos(np.radians(MAX_PARALLAX)))
