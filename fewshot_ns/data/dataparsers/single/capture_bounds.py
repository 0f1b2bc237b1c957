"""Near and far of a capture from its sparse points."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
import numpy.typing as npt


def bounds_from_points(
    poses: npt.NDArray, intrinsics: npt.NDArray, points: npt.NDArray
) -> Optional[Tuple[float, float]]:
    """Near and far from a sparse point cloud.

    Args:
        poses: (N, 3, 4) OpenGL poses.
        intrinsics: (N, 4) fx / W, fy / H, cx / W, cy / H.
        points: (P, 3) in the same world.

    Returns:
        0.8 times the 1 % and 1.25 times the 99 % quantile of the depths of the points that some camera sees, or None
        where no camera sees any.
    """
    depths = []
    for pose, (fx, fy, cx, cy) in zip(poses, intrinsics, strict=True):
        local = (points - pose[:, 3]) @ pose[:, :3]
        depth = -local[:, 2]
        depth_safe = np.where(depth > 0, depth, 1.0)
        column, row = cx + fx * local[:, 0] / depth_safe, cy - fy * local[:, 1] / depth_safe
        seen = (depth > 0) & (column >= 0) & (column <= 1) & (row >= 0) & (row <= 1)
        depths.append(depth[seen])
    seen_depths = np.concatenate(depths)
    if not len(seen_depths):
        return None
    low, high = np.quantile(seen_depths, [0.01, 0.99])
    return 0.8 * float(low), 1.25 * float(high)
