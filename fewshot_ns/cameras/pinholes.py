"""Pinhole cameras as matrices, for what projects things into images instead of casting rays."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from fewshot_ns.cameras.ray_images import opencv_world_to_cameras


def check_pinholes(cameras: Cameras) -> None:
    """Refuses cameras that Gaussians cannot be projected into.

    Args:
        cameras: any.

    Raises:
        ValueError: one has lens distortion or is no perspective camera.
    """
    distorted = cameras.distortion_params is not None and bool((cameras.distortion_params != 0).any())
    other = sorted({CameraType(int(kind)).name for kind in cameras.camera_type} - {CameraType.PERSPECTIVE.name})
    if distorted or other:
        found = f"cameras of type {', '.join(other)}" if other else "lens distortion"
        raise ValueError(
            f"splats are projected into pinhole cameras: expected such, found {found}; straighten the photos by "
            "`ns-fewshot prepare --images PHOTOS --poses COLMAP_MODEL --output SCENE` (the model's folder, such as "
            "sparse/0), or take a method that renders rays, such as sparsenerf-lite"
        )


def world_to_cameras(cameras: Cameras) -> Tensor:
    """(B, 4, 4) world to camera with OpenCV's axes."""
    matrices = torch.eye(4, device=cameras.device).repeat(len(cameras), 1, 1)
    matrices[:, :3] = opencv_world_to_cameras(cameras.camera_to_worlds)
    return matrices


def intrinsic_matrices(cameras: Cameras) -> Tensor:
    """(B, 3, 3) in pixels, the centre of the first pixel at (.5, .5)."""
    matrices = torch.eye(3, device=cameras.device).repeat(len(cameras), 1, 1)
    matrices[:, 0, 0], matrices[:, 1, 1] = cameras.fx[:, 0], cameras.fy[:, 0]
    matrices[:, 0, 2], matrices[:, 1, 2] = cameras.cx[:, 0], cameras.cy[:, 0]
    return matrices


def ray_slopes(cameras: Cameras, height: int, width: int) -> Tensor:
    """(B, H, W) length of a pixel's ray per unit of planar depth."""
    rows, columns = (torch.arange(side, device=cameras.device) + 0.5 for side in (height, width))
    across = (columns - cameras.cx) / cameras.fx
    down = (rows - cameras.cy) / cameras.fy
    return (1.0 + across[:, None, :] ** 2 + down[:, :, None] ** 2).sqrt()


def smaller_cameras(cameras: Cameras, factor: int) -> Cameras:
    """The same cameras with images of a factor fewer rows and columns, at least one."""
    height, width = (
        torch.div(side, factor, rounding_mode="floor").clamp(min=1) for side in (cameras.height, cameras.width)
    )
    down, across = height / cameras.height, width / cameras.width
    return Cameras(
        camera_to_worlds=cameras.camera_to_worlds,
        fx=cameras.fx * across,
        fy=cameras.fy * down,
        cx=cameras.cx * across,
        cy=cameras.cy * down,
        width=width,
        height=height,
        distortion_params=cameras.distortion_params,
        camera_type=cameras.camera_type,
    )
