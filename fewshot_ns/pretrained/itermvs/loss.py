"""IterMVS' training loss."""

from __future__ import annotations

from typing import Optional, Sequence

import torch
from torch import Tensor

from fewshot_ns.pretrained.itermvs.geometry import DepthRange
from fewshot_ns.pretrained.itermvs.network import UPSAMPLING, State
from fewshot_ns.pretrained.itermvs.updates import BINS, RADIUS

DECAY = 0.8
"""Weight of a state's terms relative to the next state's."""
RIGHT = 0.002
"""Error of normalised inverse depth below which an estimate counts as right, about half a bin."""
_MIN_PROBABILITY = 1e-5


def training_loss(
    depth: Tensor,
    depth_coarse: Tensor,
    states: Sequence[State],
    confidence_logits: Sequence[Tensor],
    depth_range: DepthRange,
    truth: Tensor,
    mask: Tensor,
    regress: bool = True,
) -> Tensor:
    """The loss of one batch.

    Args:
        depth: (B, 1, H, W), the result.
        depth_coarse: (B, 1, h, w), `IterMVS.coarse_depth`; h = H / 4, w = W / 4.
        states: after the initialisation and after each step.
        confidence_logits: (B, 1, h, w) of each state.
        depth_range: of the depths.
        truth: (B, 1, H, W) true planar depth.
        mask: (B, 1, H, W) bool, where it is known and in the range.
        regress: whether the terms on each state's depth and confidence count; they do after the first epoch.

    Returns:
        A scalar; NaN where the mask is empty.
    """
    truth = torch.where(mask, truth, torch.ones_like(truth))
    coarse_truth, known = (each[..., ::UPSAMPLING, ::UPSAMPLING] for each in (truth, mask))
    target = depth_range.normalized(coarse_truth)
    bins = (target.clamp(0.0, 1.0) * (BINS - 1)).floor().long()

    def error(estimate: Tensor, goal: Tensor) -> Tensor:
        return (depth_range.normalized(estimate) - goal).abs()

    loss = DECAY ** len(states) * BINS * error(depth_coarse, target)[known].mean()
    for number, (state, logit) in enumerate(zip(states, confidence_logits, strict=True)):
        probability = state.probabilities.gather(1, bins)[known]
        part = -probability.clamp(min=_MIN_PROBABILITY).log().mean()
        if regress:
            off = error(depth_range.depth(state.normalized), target)
            near = _mean_of(off, known & ((bins - state.peak[:, None]).abs() <= RADIUS))
            right = (off.detach()[known] < RIGHT).to(logit.dtype)
            confidence = torch.nn.functional.binary_cross_entropy_with_logits(logit[known], right)
            part = part + confidence + (0.0 if near is None else BINS * near)
        loss = loss + DECAY ** (len(states) - 1 - number) * part
    return loss + BINS * error(depth, depth_range.normalized(truth))[mask].mean()


def _mean_of(values: Tensor, mask: Tensor) -> Optional[Tensor]:
    """Mean over a mask; None where it is empty."""
    return values[mask].mean() if mask.any() else None
