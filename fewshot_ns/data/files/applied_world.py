"""What a `transforms.json` says was done to its world before it was written: `applied_transform`, `applied_scale`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np

_SCALES = 1e-12, 1e12


def applied_scale(meta: Dict[str, Any], path: Path) -> float:
    """The `applied_scale` of a file, 1 where it has none.

    Raises:
        ValueError: it is no positive number.
    """
    scale = meta.get("applied_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not _SCALES[0] <= scale <= _SCALES[1]:
        raise ValueError(f"{path}: expected a positive number for 'applied_scale', found {str(scale)[:60]}")
    return float(scale)


def check_applied_world(meta: Dict[str, Any], path: Path) -> None:
    """Checks what nerfstudio multiplies into the transform and the scale of a scene.

    Args:
        meta: Content of the file.
        path: The file.

    Raises:
        ValueError: a scale that is no positive number, or a transform that is no finite, invertible 3x4 matrix.
    """
    applied_scale(meta, path)
    if "applied_transform" not in meta:
        return
    try:
        matrix = np.asarray(meta["applied_transform"], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: expected a 3x4 matrix 'applied_transform', found {str(error)[:100]}") from error
    if matrix.shape != (3, 4):
        raise ValueError(f"{path}: expected a 3x4 matrix 'applied_transform', found shape {matrix.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        turning = abs(float(np.linalg.det(matrix[:, :3])))
    if not (np.abs(matrix) <= _SCALES[1]).all() or not turning > _SCALES[0]:
        raise ValueError(
            f"{path}: expected finite numbers that turn and move the world in 'applied_transform', found others"
        )
