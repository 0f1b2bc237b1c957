"""Agreement of two histograms along a ray: bounds of one on the other's bins (mip-NeRF 360, section 3)."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor

HALF_EPSILON = 2.0**-10
"""Machine epsilon of half precision, which depth-mipnerf adds to the weights that it divides by."""


def cumulative_around(x: Tensor, t: Tensor, weights: Tensor) -> Tuple[Tensor, Tensor]:
    """Cumulative weight of a histogram just before and just beyond given positions.

    Args:
        x: (R, N) positions.
        t: (R, P + 1) fenceposts of the histogram.
        weights: (R, P) its weights.

    Returns:
        (R, N) weight up to the last fencepost at or before x, and (R, N) up to the first one behind x; positions
        outside of the histogram count as its ends.
    """
    reached = torch.nn.functional.pad(weights.cumsum(-1), (1, 0))
    behind = torch.searchsorted(t.contiguous(), x.contiguous(), right=True)
    last = weights.shape[-1]
    return reached.gather(-1, (behind - 1).clamp(0, last)), reached.gather(-1, behind.clamp(max=last))


def overlapping_weight(t: Tensor, t_envelope: Tensor, envelope: Tensor) -> Tensor:
    """(R, S) weight of all bins of an envelope that overlap each interval, which bounds what the interval may hold.

    Args:
        t: (R, S + 1) fenceposts of the intervals.
        t_envelope: (R, P + 1) fenceposts of the envelope.
        envelope: (R, P) its weights. A bin that begins where the interval ends overlaps it.
    """
    before, beyond = cumulative_around(t, t_envelope, envelope)
    return beyond[..., 1:] - before[..., :-1]


def interlevel_loss(
    t: Tensor, weights: Tensor, t_envelope: Tensor, envelope: Tensor, epsilon: float = HALF_EPSILON
) -> Tensor:
    """Excess of the final weights over what a proposal level allows them (mip-NeRF 360, eq. 13).

    Args:
        t: (R, S + 1) fenceposts of the final level.
        weights: (R, S) its weights; no gradient flows into either.
        t_envelope: (R, P + 1) fenceposts of the proposal level.
        envelope: (R, P) its weights.
        epsilon: added to the weights that the loss divides by.

    Returns:
        (R, S) loss of each sample.
    """
    t, weights = t.detach(), weights.detach()
    allowed = overlapping_weight(t, t_envelope.detach(), envelope)
    return (weights - allowed).clamp(min=0.0) ** 2 / (weights + epsilon)
