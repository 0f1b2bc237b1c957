"""A dense voxel grid of density: the cheapest proposal for where along a ray to look."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DensityGrid(nn.Module):
    """Trilinear density on a cube of voxels.

    Args:
        resolution: voxels per side.
        bias: raw density everywhere at the start, before the softplus.
    """

    def __init__(self, resolution: int, bias: float) -> None:
        super().__init__()
        self.bias = bias
        self.values = nn.Parameter(torch.zeros(1, 1, resolution, resolution, resolution))

    def forward(self, positions: Tensor) -> Tensor:
        """(R, S) density at positions (R, S, 3) in [-1, 1]; outside, that of the nearest voxel."""
        grid = positions[None, :, :, None, :].to(self.values.dtype)
        raw = nn.functional.grid_sample(self.values, grid, align_corners=True, padding_mode="border")
        return nn.functional.softplus(raw[0, 0, :, :, 0] + self.bias)
