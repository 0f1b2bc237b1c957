"""Posed photos as stereo sees them, and what it says of their depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Tuple

import torch
from torch import Tensor

_MIN_DEPTH = 1e-6
"""Planar depth that counts as before a camera, world units."""


@dataclass(frozen=True)
class StereoView:
    """A photo, its pinhole camera, and where its scene lies."""

    image: Tensor
    """(H, W, 3) float32 in [0, 1]."""
    pose: Tensor
    """(3, 4) float32 camera-to-world, OpenGL axes."""
    intrinsics: Tensor
    """(4,) float32 fx, fy, cx, cy in pixels of the image, whose centres lie at +0.5."""
    near: float
    """Smallest planar depth that the photo may show, world units, positive."""
    far: float
    """Largest one; may be infinite."""
    mask: Tensor
    """(H, W) bool, where the photo shows the scene."""
    name: str = ""
    """For messages."""

    @property
    def size(self) -> Tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    @cached_property
    def rays(self) -> Tensor:
        """(H, W, 3) world directions of the pixels, with a component of 1 along the viewing axis."""
        height, width = self.size
        device = self.image.device
        row, column = torch.meshgrid(
            torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
        )
        fx, fy, cx, cy = self.intrinsics.unbind()
        local = torch.stack([(column - cx) / fx, -(row - cy) / fy, -torch.ones_like(column)], dim=-1)
        return local @ self.pose[:, :3].T

    def points(self, z_depth: Tensor) -> Tensor:
        """(..., H, W, 3) world points of the pixels at planar depths (..., H, W)."""
        return self.pose[:, 3] + self.rays * z_depth[..., None]

    def project(self, points: Tensor) -> Tuple[Tensor, Tensor]:
        """Pixel positions (..., 2) = (column, row) and planar depths (...) of world points (..., 3).

        The position of a point that is not before the camera is not in the image.
        """
        local = (points - self.pose[:, 3]) @ self.pose[:, :3]
        z_depth = -local[..., 2]
        ahead = z_depth > _MIN_DEPTH
        divisor = torch.where(ahead, z_depth, torch.ones_like(z_depth))
        fx, fy, cx, cy = self.intrinsics.unbind()
        position = torch.stack([local[..., 0] / divisor * fx + cx, -local[..., 1] / divisor * fy + cy], dim=-1)
        return torch.where(ahead[..., None], position, position.new_tensor(-1.0)), z_depth

    def contains(self, position: Tensor) -> Tensor:
        """(...) bool, which positions (..., 2) lie in the image."""
        height, width = self.size
        column, row = position.unbind(-1)
        return (column >= 0) & (column <= width) & (row >= 0) & (row <= height)

    def to(self, device: torch.device) -> StereoView:
        """The view on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("image", "pose", "intrinsics", "mask")}
        return replace(self, **moved)

    def resized(self, size: Tuple[int, int]) -> StereoView:
        """The view at another (height, width); the photo is averaged where it shrinks."""
        if size == self.size:
            return self
        height, width = size
        scale = self.intrinsics.new_tensor([width / self.size[1], height / self.size[0]] * 2)
        planes = torch.cat([self.image, self.mask[..., None].float()], dim=-1).permute(2, 0, 1)[None]
        planes = torch.nn.functional.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        return replace(
            self,
            image=planes[..., :3].clamp(0.0, 1.0),
            mask=planes[..., 3] > 0.999,
            intrinsics=self.intrinsics * scale,
        )


@dataclass(frozen=True)
class ViewDepth:
    """Depth of one view, from the others."""

    z_depth: Tensor
    """(H, W) float32 planar depth, world units, also where it is not confirmed; 0 where there is no estimate."""
    sigma: Tensor
    """(H, W) float32 its standard deviation, world units, positive."""
    valid: Tensor
    """(H, W) bool, where another view confirms it."""

    def to(self, device: torch.device) -> ViewDepth:
        """The same on a device."""
        return ViewDepth(self.z_depth.to(device), self.sigma.to(device), self.valid.to(device))


def sample(values: Tensor, position: Tensor, mode: str = "bilinear") -> Tensor:
    """Looks values up at pixel positions; beyond the border the border's.

    Args:
        values: (H, W) or (H, W, C).
        position: (..., 2) column and row; the first pixel's centre is (0.5, 0.5).
        mode: of `torch.nn.functional.grid_sample`.

    Returns:
        (...) or (..., C).
    """
    height, width = values.shape[:2]
    planes = (values[..., None] if values.ndim == 2 else values).permute(2, 0, 1)[None]
    grid = position / position.new_tensor([width, height]) * 2.0 - 1.0
    flat = grid.reshape(1, 1, -1, 2)
    found = torch.nn.functional.grid_sample(planes, flat, mode=mode, padding_mode="border", align_corners=False)
    found = found[0, :, 0].T.reshape(*position.shape[:-1], found.shape[1])
    return found[..., 0] if values.ndim == 2 else found
