"""The true depth of a view, and which pixels have one: the region in which papers measure scans of DTU."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_ns.data.files.images import image_size
from fewshot_ns.data.files.mvsnet import read_mvsnet_depth
from fewshot_ns.data.records.scene import Scene

KNOWN_DEPTH_KEY = "known_depth"
"""Batch key of the pixels with a true depth, (H, W, 1) bool."""


def known_depth(scene: Scene, view: int) -> Optional[Tensor]:
    """(H, W, 1) bool at the size of the view's camera; None where the view has no depth map.

    Raises:
        SceneError: the depth map is damaged.
    """
    path = None if scene.depth_filenames is None else scene.depth_filenames[view]
    size = int(scene.cameras.height[view].item()), int(scene.cameras.width[view].item())
    return None if path is None else read_known_depth(path, scene.image_filenames[view], size)


def read_known_depth(path: Path, image: Path, size: Tuple[int, int]) -> Tensor:
    """Reads which pixels a depth map of MVSNet's DTU has a value for.

    Args:
        path: the map.
        image: the rectified image that it belongs to.
        size: (height, width) that the image is measured at; the nearest pixel is taken.

    Returns:
        (H, W, 1) bool.

    Raises:
        SceneError: the map is damaged, or too small for the image.
    """
    return torch.from_numpy(read_true_depth(path, image, size, 1.0) > 0)[..., None]


def read_true_depth(path: Path, image: Path, size: Tuple[int, int], scale: float) -> npt.NDArray[np.float32]:
    """Reads a depth map of MVSNet's DTU.

    Args:
        path: the map.
        image: the rectified image that it belongs to.
        size: (height, width) that the image is seen at; the nearest pixel is taken.
        scale: world units per unit of the map.

    Returns:
        (H, W) planar depth in world units, 0 where nothing was measured.

    Raises:
        FileNotFoundError: no such file.
        SceneError: the map is damaged, or too small for the image.
    """
    depth = torch.from_numpy(read_mvsnet_depth(path, image_size(image), scale))[None, None]
    return torch.nn.functional.interpolate(depth, size=size, mode="nearest-exact")[0, 0].numpy()
