"""Which pixels of a view have a true depth: the region in which papers measure scans of DTU."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

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
    known = torch.from_numpy(read_mvsnet_depth(path, image_size(image), 1.0) > 0)[None, None]
    return torch.nn.functional.interpolate(known.float(), size=size, mode="nearest-exact")[0, 0, ..., None] > 0
