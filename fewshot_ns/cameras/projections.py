"""Projection matrices as intrinsics and poses."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import rq

Matrices = npt.NDArray[np.float64]


def has_camera(projection: Matrices) -> bool:
    """Whether a (3, 4) projection is finite, and its 3x3 part has an inverse, which it is split by."""
    left = projection[:, :3]
    scale = np.abs(left).max()
    return bool(np.isfinite(projection).all() and abs(np.linalg.det(left / scale if scale > 0 else left)) >= 1e-12)


def check_projection(projection: Matrices, where: str, reason: str = "") -> None:
    """Checks a (3, 4) projection as it is rounded to float32.

    Args:
        projection: from world to pixels.
        where: File and matrix named in the message.
        reason: Why it is needed, for the end of the message.

    Raises:
        ValueError: it is no projection of a camera.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = projection.astype(np.float32).astype(np.float64)
        good = has_camera(rounded)
    if not good:
        raise ValueError(f"{where}: expected a projection matrix whose 3x3 part has an inverse, found none{reason}")


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
    if not has_camera(projection):
        raise ValueError("expected a finite matrix whose 3x3 part has an inverse")
    left = projection[:, :3]
    scale = np.abs(left).max()
    # A camera with its points before it has a positive determinant.
    left = left * np.sign(np.linalg.det(left / scale))
    intrinsics, rotation = rq(left)
    signs = np.diag(np.sign(np.diag(intrinsics)))
    intrinsics, rotation = intrinsics @ signs, signs @ rotation
    centre = -np.linalg.solve(projection[:, :3], projection[:, 3])
    pose = np.concatenate([rotation.T, centre[:, None]], axis=1)
    return np.asarray(intrinsics / intrinsics[2, 2], dtype=np.float64), np.asarray(pose, dtype=np.float64)
