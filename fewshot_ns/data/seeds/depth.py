"""Points on the surfaces that depth maps of the training views show, and depth for pixels that have none."""

from __future__ import annotations

from typing import List, Literal, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.seeds.cloud import SeedCloud, joined
from fewshot_ns.data.stereo.seed_points import depth_points
from fewshot_ns.data.stereo.views import StereoView, ViewDepth

Unconfirmed = Literal["leave", "fill"]
_REACH = 4
"""Rows and columns, in steps, to each side of a pixel that its window is looked up at."""
_FEWEST = 5
"""Confirmed depths in a window whose median is trusted."""
_CHUNK = 65536
"""Pixels whose windows are looked up together, about 40 MB."""


def depth_cloud(
    kind: str,
    views: Sequence[StereoView],
    depths: Sequence[ViewDepth],
    stride: int = 1,
    unconfirmed: Unconfirmed = "leave",
    thin: bool = True,
) -> SeedCloud:
    """Points of the pixels that have a depth.

    Args:
        kind: where the depth comes from: 'files', 'stereo' or 'mvs'.
        views: (V) photos at the size of training.
        depths: (V) their depth, of the same size.
        stride: every how many rows and columns a pixel is taken.
        unconfirmed: what becomes of pixels without valid depth: they are left out, or get the median of the valid
            depths around them.
        thin: whether what several photos show is taken once, from the first of them, confirmed before filled.

    Raises:
        ValueError: a stride below 1.
    """
    names = tuple(view.name for view in views)
    parts = [_points(kind, names, views, depths, None, stride, thin)]
    if unconfirmed == "fill":
        filled = [filled_depth(depth, view.mask) for view, depth in zip(views, depths, strict=True)]
        parts.append(_points(kind, names, views, filled, depths, stride, thin))
    return joined(parts)


def _points(
    kind: str,
    names: Tuple[str, ...],
    views: Sequence[StereoView],
    depths: Sequence[ViewDepth],
    known: Optional[Sequence[ViewDepth]],
    stride: int,
    thin: bool,
) -> SeedCloud:
    found = depth_points(views, depths, thin=thin, stride=stride, known=known)
    view, (row, column) = torch.from_numpy(found.views), torch.from_numpy(found.pixels).unbind(-1)
    colours, radii = torch.zeros(len(view), 3), torch.zeros(len(view))
    for index, (photo, depth) in enumerate(zip(views, depths, strict=True)):
        mine = view == index
        colours[mine] = photo.image[row[mine], column[mine]]
        radii[mine] = depth.z_depth[row[mine], column[mine]] / photo.intrinsics[:2].mean() * stride
    confirmed = torch.full((len(view),), known is None)
    return SeedCloud(torch.from_numpy(found.positions), colours, radii, view, confirmed, kind, names)


def filled_depth(depth: ViewDepth, mask: Tensor) -> ViewDepth:
    """Depth of the pixels that have none: the median of the valid depths in the smallest window with enough of them.

    Windows are 9x9 pixels, then as many at 2, 4, 8, ... pixels from each other. The standard deviation is the median of
    those there.

    Args:
        depth: of a photo; it stays as it is.
        mask: (H, W) bool, pixels that are to have a depth.

    Returns:
        Valid is what was filled and nothing else; where no window holds enough, nothing is.
    """
    height, width = depth.valid.shape
    z_depth, sigma = torch.zeros_like(depth.z_depth), torch.zeros_like(depth.sigma)
    done, step = torch.zeros_like(depth.valid), 1
    while step == 1 or _REACH * step < 2 * max(height, width):
        open_ones = (mask & ~depth.valid & ~done).nonzero()
        if len(open_ones) == 0:
            break
        for pixels in open_ones.split(_CHUNK):
            medians, enough = _medians(depth, pixels, step)
            row, column = pixels[enough].unbind(-1)
            z_depth[row, column], sigma[row, column] = medians[enough].unbind(-1)
            done[row, column] = True
        step *= 2
    return ViewDepth(z_depth, sigma, done)


def _medians(depth: ViewDepth, pixels: Tensor, step: int) -> Tuple[Tensor, Tensor]:
    """Medians (N, 2) of valid depths and their deviations around pixels (N, 2), and where (N,) there are enough."""
    height, width = depth.valid.shape
    offsets = step * torch.arange(-_REACH, _REACH + 1, device=pixels.device)
    row = (pixels[:, :1, None] + offsets[:, None]).expand(-1, -1, len(offsets)).flatten(1)
    column = (pixels[:, 1:, None] + offsets).expand(-1, len(offsets), -1).flatten(1)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    valid = inside & depth.valid[row, column]
    none = torch.tensor(torch.nan, dtype=depth.z_depth.dtype, device=pixels.device)
    maps: List[Tensor] = [torch.where(valid, one[row, column], none) for one in (depth.z_depth, depth.sigma)]
    return torch.stack([one.nanmedian(dim=-1).values for one in maps], dim=-1), valid.sum(-1) >= _FEWEST
