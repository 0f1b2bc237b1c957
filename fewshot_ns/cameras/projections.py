"""Projection matrices as intrinsics and poses."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import rq

Matrices = npt.NDArray[np.float64]


def split_projection(projection: Matrices) -> Tuple[Matrices, Matrices]:
    """Splits K [R | t], known up to a factor of either sign, into its parts by an RQ decomposition.

    Args:
        projection: (3, 4) from world to pixels, OpenCV axes.

    Returns:
        (3, 3) intrinsics, upper triangular with positive focal lengths and last element 1, and the (3, 4)
        camera-to-world pose with OpenCV axes, whose 3x3 part is a rotation.

    Raises:
        ValueError: the matrix is not finite, or its 3x3 part has no inverse.
    """
    left = projection[:, :3]
    scale = np.abs(left).max()
    if not np.isfinite(projection).all() or abs(np.linalg.det(left / scale if scale > 0 else left)) < 1e-12:
        raise ValueError("expected a finite matrix whose 3x3 part has an inverse")
    # A camera with its points before it has a positive determinant.
    left = left * np.sign(np.linalg.det(left / scale))
    intrinsics, rotation = rq(left)
    signs = np.diag(np.sign(np.diag(intrinsics)))
    intrinsics, rotation = intrinsics @ signs, signs @ rotation
    centre = -np.linalg.solve(projection[:, :3], projection[:, 3])
    pose = np.concatenate([rotation.T, centre[:, None]], axis=1)
    return np.asarray(intrinsics / intrinsics[2, 2], dtype=np.float64), np.asarray(pose, dtype=np.float64)
