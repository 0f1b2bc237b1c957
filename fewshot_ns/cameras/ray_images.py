"""Origin and direction of the ray through each pixel as a six-channel image, the camera as a network sees it."""

from __future__ import annotations

from typing import Literal, Tuple

import torch
from torch import Tensor

RayMatrices = Literal["camera_to_world", "world_to_camera"]
"""camera_to_world: rays of the camera. world_to_camera: the inverse pose, in OpenCV's axes, is used as if it were the
pose, as in ID-NeRF's released code; what comes out tells cameras apart, but is no ray of theirs."""
PIXEL_CENTRE = 0.5
"""Position of the first pixel's centre by nerfstudio's convention; it is at 0 in ID-NeRF's."""


def opencv_world_to_cameras(camera_to_worlds: Tensor) -> Tensor:
    """(..., 3, 4) world-to-camera matrices with OpenCV axes of camera-to-world matrices with OpenGL axes."""
    flip = camera_to_worlds.new_tensor([1.0, -1.0, -1.0])
    rotations = (camera_to_worlds[..., :3, :3] * flip).mT
    return torch.cat([rotations, -rotations @ camera_to_worlds[..., :3, 3:]], dim=-1)


def ray_images(
    camera_to_worlds: Tensor, intrinsics: Tensor, size: Tuple[int, int], matrices: RayMatrices = "camera_to_world"
) -> Tensor:
    """Ray images of cameras.

    Args:
        camera_to_worlds: (..., 3, 4) poses, OpenGL axes.
        intrinsics: (..., 4) fx, fy, cx, cy in pixels, pixel centres at +0.5.
        size: (height, width) of the images.
        matrices: see `RayMatrices`.

    Returns:
        (..., 6, height, width): origin in world units, then the un-normalised direction, whose component along the
        viewing axis has length 1.
    """
    poses = camera_to_worlds if matrices == "camera_to_world" else opencv_world_to_cameras(camera_to_worlds)
    height, width = size
    where = {"dtype": poses.dtype, "device": poses.device}
    rows, columns = torch.meshgrid(torch.arange(height, **where), torch.arange(width, **where), indexing="ij")
    fx, fy, cx, cy = (value[..., None, None] for value in intrinsics.unbind(-1))
    x, y = (columns - (cx - PIXEL_CENTRE)) / fx, -(rows - (cy - PIXEL_CENTRE)) / fy
    local = torch.stack([x, y, -torch.ones_like(x)], dim=-3)
    directions = torch.einsum("...ij,...jhw->...ihw", poses[..., :3, :3], local)
    origins = poses[..., :3, 3, None, None].expand_as(directions)
    return torch.cat([origins, directions], dim=-3)
