"""Which pixels a coarse rendering of a whole view looks at: grids of positions (rows, columns, 2) = (row, column)."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import Size


def stride_of(size: Size, grid: Size) -> Tuple[int, int]:
    """Whole pixels between neighbours of a grid, rows and columns.

    Args:
        size: (height, width) of the image.
        grid: (rows, columns).

    Raises:
        ValueError: a grid that is empty or larger than the image.
    """
    if not (1 <= grid[0] <= size[0] and 1 <= grid[1] <= size[1]):
        raise ValueError(f"expected a grid of 1x1 to {size[0]}x{size[1]} rays (the image's pixels), got {grid}")
    return size[0] // grid[0], size[1] // grid[1]


def strided_grid(size: Size, grid: Size, uniform: Tensor) -> Tensor:
    """A grid at whole strides from a start between pixels (DietNeRF); it covers the image but for the remainder.

    The original's code returns a row or a column too many where the stride is 1 and rounding wants it so; here the size
    is always the one asked for.

    Args:
        size: (height, width) of the image.
        grid: (rows, columns).
        uniform: (2,) numbers in [0, 1) for the start's row and column, which lie in [0, size modulo grid).

    Raises:
        ValueError: see `stride_of`.
    """
    strides = stride_of(size, grid)
    starts = [float(u) * (side % count) for u, side, count in zip(uniform, size, grid, strict=True)]
    return _grid([start + stride * torch.arange(n) for start, stride, n in zip(starts, strides, grid, strict=True)])


def full_grid(size: Size, grid: Size) -> Tensor:
    """A grid from the first to the last pixel of the image, not on whole pixels."""
    return _grid([torch.linspace(0.0, side - 1.0, count) for side, count in zip(size, grid, strict=True)])


def crop_grid(centre: Tuple[int, int], side: int, grid: Size) -> Tensor:
    """A grid over a square part of the image (the JAX version of DietNeRF: every fourth pixel of 300).

    Args:
        centre: (row, column) of the part's centre.
        side: its side, pixels.
        grid: (rows, columns).
    """
    steps = [side / count * torch.arange(count) for count in grid]
    return _grid([middle - side // 2 + step for middle, step in zip(centre, steps, strict=True)])


def _grid(axes: list) -> Tensor:
    return torch.stack(torch.meshgrid(*(axis.float() for axis in axes), indexing="ij"), dim=-1)
