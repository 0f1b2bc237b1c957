"""Pictures of surface normals, as Omnidata writes them: each channel holds one coordinate, 0 to 255 for -1 to 1."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.images import Size, read_image, resize_float, same_aspect

_SHORTEST = 0.5
"""A pixel whose vector is shorter, such as grey, holds no normal."""


def read_normals(path: Path, size: Size) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Reads normals in the axes of their file (Omnidata: x right, y down or up by version, z towards the camera).

    Args:
        path: 8-bit RGB picture.
        size: (height, width) of the camera.

    Returns:
        (H, W, 3) unit vectors, zero where there is none, and (H, W) where there is one.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image or has other proportions.
    """
    picture = read_image(path)
    if not same_aspect((picture.shape[0], picture.shape[1]), size):
        raise ValueError(
            f"{path}: expected the proportions of the image ({size[1]}x{size[0]} pixels, width x height), "
            f"found {picture.shape[1]}x{picture.shape[0]}"
        )
    vectors = resize_float(picture[..., :3].astype(np.float32) / np.float32(127.5) - 1, size, "area")
    length = np.linalg.norm(vectors, axis=-1)
    valid = length > _SHORTEST
    return np.where(valid[..., None], vectors / np.where(valid, length, 1)[..., None], 0).astype(np.float32), valid
