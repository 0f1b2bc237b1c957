"""Inverse depth between two ends, projections at the levels of the pyramid, and source maps warped by depths."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewshot_ns.cameras.ray_images import PIXEL_CENTRE

LEVELS = (1, 2, 3)
"""Of the feature pyramid: level l has 2^-l of the photo's size."""
MIN_SOURCE_DEPTH = 0.01
"""Points not farther than this before a source camera count as behind it."""
_MARGIN = 1e-5
"""Added to depths before they are inverted, in the training loss."""


class DepthRange(NamedTuple):
    """Inverse depth, normalised: 0 at the largest depth of the range, 1 at the smallest."""

    nearest: Tensor
    """(B, 1, 1, 1) inverse of the smallest depth."""
    farthest: Tensor
    """(B, 1, 1, 1) inverse of the largest depth."""

    @classmethod
    def between(cls, depth_min: Tensor, depth_max: Tensor) -> DepthRange:
        """Of smallest and largest depths (B,)."""
        return cls(1.0 / depth_min.reshape(-1, 1, 1, 1), 1.0 / depth_max.reshape(-1, 1, 1, 1))

    def depth(self, normalized: Tensor) -> Tensor:
        """Depths of normalised inverse depths (B, N, H, W)."""
        return 1.0 / (self.farthest + normalized * (self.nearest - self.farthest))

    def normalized(self, depth: Tensor) -> Tensor:
        """Normalised inverse depths of depths (B, N, H, W), as the training loss takes them."""
        return (1.0 / (depth + _MARGIN) - self.farthest) / (self.nearest - self.farthest)


def world_to_cameras(poses: Tensor) -> Tensor:
    """(..., 4, 4) float64 world-to-camera matrices with OpenCV axes of camera-to-world matrices (..., 3, 4) with OpenGL
    axes, which need not be rotations to the last digit."""
    bottom = poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*poses.shape[:-2], 1, 4)
    matrices = torch.cat([poses, bottom], dim=-2).double()
    return torch.linalg.inv(matrices * matrices.new_tensor([1.0, -1.0, -1.0, 1.0]))


def projections(poses: Tensor, intrinsics: Tensor, level: int) -> Tensor:
    """(..., 4, 4) float64 matrices from world points to pixels of a level times planar depth.

    The network's maps have integer pixel centres, and a map's first pixel lies on the photo's first.

    Args:
        poses: (..., 3, 4) camera-to-world, OpenGL axes.
        intrinsics: (..., 4) fx, fy, cx, cy in pixels of the photo, pixel centres at +0.5.
        level: 0 for the photo, or of the pyramid.
    """
    fx, fy, cx, cy = intrinsics.double().unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [fx, zero, cx - PIXEL_CENTRE, zero, fy, cy - PIXEL_CENTRE]
    scaled = torch.stack([value / 2**level for value in rows] + [zero, zero, one], dim=-1)
    world_to_camera = world_to_cameras(poses)
    first = scaled.unflatten(-1, (3, 3)) @ world_to_camera[..., :3, :]
    return torch.cat([first, world_to_camera[..., 3:, :]], dim=-2)


def relative_projections(reference: Tensor, source: Tensor) -> Tensor:
    """(..., 4, 4) float64 matrices from the reference's pixels times depth to the source's, of one level."""
    return source.double() @ torch.linalg.inv(reference.double())


def warp(maps: Tensor, transform: Tensor, depths: Tensor) -> Tensor:
    """Source maps at where the reference's pixels lie in them at given depths; no gradient by the positions.

    Args:
        maps: (B, C, Hs, Ws) of a level.
        transform: (B, 4, 4) from the reference's to the source's pixels of that level.
        depths: (B, N, H, W) planar depths on a grid over the reference, whose pixel (x, y) is the level's pixel
            (x Ws / W, y Hs / H).

    Returns:
        (B, C, N, H, W), bilinear with zeros beyond the border. What is not before the source is looked up at (W, H):
        beyond the border where the grid is the level's, else in the middle, which the published weights expect.
    """
    (batch, number, height, width), (map_height, map_width) = depths.shape, maps.shape[-2:]
    with torch.no_grad():
        transform = transform.to(depths)
        x = torch.arange(width, device=depths.device, dtype=depths.dtype) * (map_width / width)
        y = torch.arange(height, device=depths.device, dtype=depths.dtype) * (map_height / height)
        row, column = torch.meshgrid(y, x, indexing="ij")
        pixels = torch.stack([column, row, torch.ones_like(row)]).flatten(1)
        rotated = transform[:, :3, :3] @ pixels
        points = rotated[:, :, None] * depths.reshape(batch, 1, number, -1) + transform[:, :3, 3, None, None]
        before = points[:, 2] > MIN_SOURCE_DEPTH
        divisor = torch.where(before, points[:, 2], torch.ones_like(points[:, 2]))
        horizontal = torch.where(before, points[:, 0] / divisor, divisor.new_tensor(float(width)))
        vertical = torch.where(before, points[:, 1] / divisor, divisor.new_tensor(float(height)))
        grid = torch.stack([horizontal / ((map_width - 1) / 2) - 1, vertical / ((map_height - 1) / 2) - 1], dim=-1)
    # The cells of the grid stand in two dimensions, as grid_sample wants them: hypotheses over pixels.
    sampled = nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled.unflatten(-1, (height, width))
