"""Agreement of two histograms along a ray: bounds of one on the other's bins (mip-NeRF 360, section 3)."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor

HALF_EPSILON = 2.0**-10
"""Machine epsilon of half precision, which depth-mipnerf adds to the weights that it divides by."""


def interval_measures(t: Tensor, t_envelope: Tensor, envelope: Tensor) -> Tuple[Tensor, Tensor]:
    """Weight of the envelope's bins that lie wholly in each interval, and of those that overlap it.

    Args:
        t: (R, S + 1) fenceposts of the intervals.
        t_envelope: (R, P + 1) fenceposts of the envelope.
        envelope: (R, P) its weights.

    Returns:
        (R, S) inner and (R, S) outer measure. A bin that begins where the interval ends overlaps it.
    """
    cumulative = torch.cat([torch.zeros_like(envelope[..., :1]), envelope.cumsum(-1)], dim=-1)
    last = t_envelope.shape[-1] - 1
    above = torch.searchsorted(t_envelope.contiguous(), t.contiguous(), right=True)
    below, above = (above - 1).clamp(0, last), above.clamp(0, last)
    at_below, at_above = cumulative.gather(-1, below), cumulative.gather(-1, above)
    outer = at_above[..., 1:] - at_below[..., :-1]
    whole = above[..., :-1] <= below[..., 1:]
    inner = torch.where(whole, at_below[..., 1:] - at_above[..., :-1], torch.zeros_like(outer))
    return inner, outer


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
    _, outer = interval_measures(t, t_envelope.detach(), envelope)
    return (weights - outer).clamp(min=0.0) ** 2 / (weights + epsilon)
