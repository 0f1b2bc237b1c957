"""Reading feature planes on a CPU, every texel's features in one row of memory.

Same values and gradients as torch's `grid_sample` of each plane and their sum. A sample's twelve texels (three planes,
four corners) are summed by one weighted bag of rows; the gradient is the same in reverse, over samples sorted by the
cell of the plane that they lie in.
"""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

AXES = ((0, 1), (0, 2), (1, 2))
"""The two axes of space along the columns and rows of each plane."""


def plane_features(
    positions: Tensor, visibility: Sequence[float], planes: Sequence[Tensor], dtype: torch.dtype
) -> Tensor:
    """Bilinear features of the planes of each level, summed over the planes, times the level's visibility.

    Args:
        positions: (N, 3) in [-1, 1]; outside, the planes go on with the features of their border.
        visibility: factor of each level. What 0 hides is not read, and its gradient is 0.
        planes: (3, C, side, side) of each level, at least 2 texels per side; cheapest in memory format `channels_last`.
        dtype: number format of the result; sums are formed in that of the planes.

    Returns:
        (N, L * C), a level after the other.
    """
    return _PlaneFeatures.apply(positions, tuple(visibility), dtype, *planes)  # type: ignore[return-value]


class _PlaneFeatures(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, visibility: Tuple[float, ...], dtype: torch.dtype, *planes: Tensor
    ) -> Tensor:
        coordinates = positions.t().contiguous()
        read: List[Tensor] = []
        ctx.visibility, ctx.shapes, ctx.cells = visibility, [level.shape for level in planes], []
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(coordinates, *planes)
        for level, factor in zip(planes, visibility, strict=True):
            side, channels = level.shape[-1], level.shape[1]
            cells, weights = _cells(coordinates, side)
            ctx.cells.append((cells, weights))
            if factor == 0.0:
                read.append(level.new_zeros(len(positions), channels, dtype=dtype))
                continue
            texels = _by_sample(_texels(cells, side))
            shares = _by_sample(weights if factor == 1.0 else weights * factor)
            read.append(embedding_bag(texels, _rows(level), mode="sum", per_sample_weights=shares).to(dtype))
        return torch.cat(read, dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tuple[Any, ...]:
        of_levels = gradients[0].split([shape[1] for shape in ctx.shapes], dim=-1)
        of_planes = [
            _texel_gradients(shape, factor, cells, weights, gradient)
            for shape, factor, (cells, weights), gradient in zip(
                ctx.shapes, ctx.visibility, ctx.cells, of_levels, strict=True
            )
        ]
        of_positions = None
        if ctx.needs_input_grad[0]:
            coordinates, *planes = ctx.saved_tensors
            of_positions = torch.zeros_like(coordinates)
            for level, factor, (cells, _), gradient in zip(planes, ctx.visibility, ctx.cells, of_levels, strict=True):
                if factor != 0.0:
                    _add_position_gradients(of_positions, coordinates, level, cells, factor * gradient.to(level.dtype))
            of_positions = of_positions.t()
        return (of_positions, None, None, *of_planes)


def _corners(side: int) -> Tuple[int, int, int, int]:
    """Steps from the first texel of a cell to all four."""
    return 0, 1, side, side + 1


def _texels(cells: Tensor, side: int) -> Tensor:
    """(4, 3, N) numbers of the corners of cells (3, N)."""
    return cells + torch.tensor(_corners(side), dtype=torch.int32, device=cells.device)[:, None, None]


def _rows(level: Tensor) -> Tensor:
    """(3 * side * side, C) features of each texel of planes (3, C, side, side)."""
    return level.permute(0, 2, 3, 1).reshape(-1, level.shape[1])


def _by_sample(values: Tensor) -> Tensor:
    """(N, 12) of (4, 3, N)."""
    return values.view(12, -1).t().contiguous()


def _cells(coordinates: Tensor, side: int) -> Tuple[Tensor, Tensor]:
    """(3, N) number of the first texel of the cell of each sample, and (4, 3, N) weights of its corners.

    Args:
        coordinates: (3, N).
        side: texels per side.
    """
    first, beyond = _within_cell(coordinates, side)
    before = 1.0 - beyond
    count = coordinates.shape[1]
    cells = torch.empty(len(AXES), count, dtype=torch.int32, device=coordinates.device)
    weights = torch.empty(4, len(AXES), count, dtype=beyond.dtype, device=coordinates.device)
    for plane, (column, row) in enumerate(AXES):
        torch.add(first[column], first[row], alpha=side, out=cells[plane])
        cells[plane] += plane * side * side
        torch.mul(before[column], before[row], out=weights[0, plane])
        torch.mul(beyond[column], before[row], out=weights[1, plane])
        torch.mul(before[column], beyond[row], out=weights[2, plane])
        torch.mul(beyond[column], beyond[row], out=weights[3, plane])
    return cells, weights


def _within_cell(coordinates: Tensor, side: int) -> Tuple[Tensor, Tensor]:
    """Number of the texel at or before each coordinate, and the share of the way from it to the next."""
    at = ((coordinates + 1.0) * (0.5 * (side - 1))).clamp_(0.0, side - 1.0)
    first = at.to(torch.int32).clamp_(0, side - 2)
    return first, at - first


def _texel_gradients(shape: torch.Size, factor: float, cells: Tensor, weights: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of a level's planes, of a shape, from that of its features (N, C)."""
    planes, channels, side, _ = shape
    if factor == 0.0:
        return weights.new_zeros(planes, side, side, channels).permute(0, 3, 1, 2)
    rows = gradient.to(weights.dtype).contiguous()
    flat = cells.view(-1)
    # Samples of a cell next to each other, in their own order: sums do not depend on the number of threads.
    order = torch.sort(flat, stable=True).indices
    held = torch.bincount(flat, minlength=planes * side * side)
    begins = held.cumsum(0) - held
    # Planes follow each other in the order too, each with every sample.
    sources = (order.view(planes, -1) - len(rows) * torch.arange(planes, device=order.device)[:, None]).view(-1)
    total = torch.zeros(0)
    for corner, step in zip(weights.flatten(1), _corners(side), strict=True):
        part = embedding_bag(sources, rows, begins, mode="sum", per_sample_weights=corner.index_select(0, order))
        if step == 0:
            total = part
        else:
            # No cell begins at the last column or row, so what a step carries over an end is zero.
            total[step:] += part[:-step]
    if factor != 1.0:
        total *= factor
    return total.view(planes, side, side, channels).permute(0, 3, 1, 2)


def _add_position_gradients(total: Tensor, coordinates: Tensor, level: Tensor, cells: Tensor, gradient: Tensor) -> None:
    """Adds to the gradient of the coordinates (3, N) what comes of a level, from that of its features (N, C)."""
    side, rows = level.shape[-1], _rows(level)
    _, beyond = _within_cell(coordinates, side)
    before = 1.0 - beyond
    scale = 0.5 * (side - 1) * (coordinates.abs() < 1.0)
    texels = _texels(cells, side)
    for plane, (column, row) in enumerate(AXES):
        corners = ((rows.index_select(0, texels[corner, plane]) * gradient).sum(-1) for corner in range(4))
        near_left, near_right, far_left, far_right = corners
        total[column] += scale[column] * (before[row] * (near_right - near_left) + beyond[row] * (far_right - far_left))
        total[row] += scale[row] * (before[column] * (far_left - near_left) + beyond[column] * (far_right - near_right))
