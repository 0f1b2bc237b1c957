"""Semi-global aggregation of matching costs (Hirschmueller, PAMI 2008): smooth surfaces that may break at edges."""

from __future__ import annotations

import torch
from torch import Tensor


def semi_global(costs: Tensor, guide: Tensor, small_step: float, large_step: float, edge: float) -> Tensor:
    """Sums of path costs from the left, the right, above and below.

    Args:
        costs: (D, H, W) cost of each label.
        guide: (H, W) grey values; labels may change where they do.
        small_step: cost of a change by one label.
        large_step: cost of a larger one, where grey values do not change.
        edge: the cost of a larger change is divided by 1 + edge * |grey step|.

    Returns:
        (D, H, W) mean over the four directions.
    """
    total = torch.zeros_like(costs).permute(2, 1, 0).contiguous()
    along_rows = costs.permute(2, 1, 0).contiguous()
    _add_paths(total, along_rows, guide.T.contiguous(), small_step, large_step, edge)
    total = total.transpose(0, 1).contiguous()
    _add_paths(total, along_rows.transpose(0, 1).contiguous(), guide.contiguous(), small_step, large_step, edge)
    return total.permute(2, 0, 1) / 4.0


def _add_paths(total: Tensor, costs: Tensor, guide: Tensor, small: float, large: float, edge: float) -> None:
    """Adds the path costs along the first axis, forwards and backwards, to `total` (N, M, D)."""
    steps = (guide[1:] - guide[:-1]).abs()
    penalty = (large / (1.0 + edge * steps)).clamp(min=small)[..., None]
    for backwards in (False, True):
        order = range(len(costs) - 1, -1, -1) if backwards else range(len(costs))
        previous = costs[order[0]]
        total[order[0]] += previous
        for here, before in zip(order[1:], order[:-1], strict=False):
            best = previous.min(dim=-1, keepdim=True).values
            jump = torch.minimum(previous, best + penalty[min(here, before)])
            jump[:, 1:] = torch.minimum(jump[:, 1:], previous[:, :-1] + small)
            jump[:, :-1] = torch.minimum(jump[:, :-1], previous[:, 1:] + small)
            previous = costs[here] + jump - best
            total[here] += previous
