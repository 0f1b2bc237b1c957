"""Alpha compositing along un-normalised rays, and the distances that the depth losses need."""

from __future__ import annotations

from typing import Literal, Tuple

import torch
from torch import Tensor


def segment_lengths(t: Tensor, directions: Tensor) -> Tensor:
    """(R, S) lengths in ray space of the segments between fenceposts t (R, S + 1) along directions (R, 3)."""
    return (t[..., 1:] - t[..., :-1]) * directions.norm(dim=-1, keepdim=True)


def opacity_and_transmittance(density: Tensor, lengths: Tensor) -> Tuple[Tensor, Tensor]:
    """(R, S) opacity of each segment and (R, S) share of light that reaches it, from density and segment lengths."""
    optical = density * lengths
    before = torch.cat([torch.zeros_like(optical[..., :1]), torch.cumsum(optical[..., :-1], dim=-1)], dim=-1)
    return -torch.expm1(-optical), torch.exp(-before)


def compositing_weights(density: Tensor, t: Tensor, directions: Tensor) -> Tensor:
    """Weights of volume rendering (NeRF, eq. 3); segment lengths are t-differences times |direction|.

    Args:
        density: (R, S) non-negative, per unit length of the ray space.
        t: (R, S + 1) fenceposts.
        directions: (R, 3), any length.

    Returns:
        (R, S) weights; their sum is the accumulation, at most 1.
    """
    opacity, transmittance = opacity_and_transmittance(density, segment_lengths(t, directions))
    return opacity * transmittance


def composite_rgb(rgb: Tensor, weights: Tensor, background: Literal["black", "white"]) -> Tensor:
    """(R, 3) colour of samples (R, S, 3) under weights (R, S) before a black or white background."""
    colour = (weights[..., None] * rgb).sum(dim=-2)
    return colour + (1.0 - weights.sum(-1, keepdim=True)) if background == "white" else colour


def accumulated_distance(weights: Tensor, t: Tensor) -> Tensor:
    """(R, 1) sum(w t_mid), not divided by the opacity (depth-mipnerf): an empty ray gets zero."""
    return (weights * (0.5 * (t[..., 1:] + t[..., :-1]))).sum(-1, keepdim=True)


def expected_distance(weights: Tensor, t: Tensor) -> Tensor:
    """Mean ray parameter sum(w t_mid) / sum(w), clipped to the ray's own [first, last] fencepost.

    A ray of zero opacity gets its first fencepost and a zero gradient (the original code gives the same value with a
    gradient that is not a number).

    Args:
        weights: (R, S).
        t: (R, S + 1).

    Returns:
        (R, 1), units of t, differentiable through the weights and their sum.
    """
    middle = 0.5 * (t[..., 1:] + t[..., :-1])
    accumulation = weights.sum(-1)
    # Below the smallest normal number its inverse, the gradient, is infinite.
    opaque = accumulation >= torch.finfo(accumulation.dtype).tiny
    safe = torch.where(opaque, accumulation, torch.ones_like(accumulation))
    mean = torch.where(opaque, (weights * middle).sum(-1) / safe, t[..., 0])
    return torch.minimum(torch.maximum(mean, t[..., 0]), t[..., -1])[..., None]


def expected_distance_clipped(weights: Tensor, t: Tensor) -> Tensor:
    """As `expected_distance`, but the accumulation is clipped to float32's eps; what RegNeRF's smoothness compares.

    Args:
        weights: (R, S).
        t: (R, S + 1).

    Returns:
        (R, 1), units of t.
    """
    middle = 0.5 * (t[..., 1:] + t[..., :-1])
    mean = (weights * middle).sum(-1) / weights.sum(-1).clamp(min=torch.finfo(torch.float32).eps)
    return torch.minimum(torch.maximum(mean, t[..., 0]), t[..., -1])[..., None]


def distance_deviation(weights: Tensor, t: Tensor) -> Tensor:
    """(R, 1) standard deviation of the distance, units of t, under weights (R, S) between fenceposts t (R, S + 1)."""
    middle = 0.5 * (t[..., 1:] + t[..., :-1])
    squared = (weights * (middle - expected_distance(weights, t)) ** 2).sum(-1, keepdim=True)
    accumulation = weights.sum(-1, keepdim=True)
    opaque = accumulation >= torch.finfo(accumulation.dtype).tiny
    variance = squared / torch.where(opaque, accumulation, torch.ones_like(accumulation))
    # The root of nothing has no finite gradient.
    return torch.where(variance > 0, torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt(), variance)


def distance_percentile(weights: Tensor, t: Tensor, fraction: float) -> Tensor:
    """Distance at which a fraction of a ray's weight is reached; 0.5 gives the median.

    Interpolates between the mid-points of the segments, at each of which its whole weight counts.

    Args:
        weights: (R, S).
        t: (R, S + 1).
        fraction: in [0, 1].

    Returns:
        (R, 1), units of t; a ray of zero opacity gets its second last mid-point, as in the original, one of a single
        segment that one's.
    """
    middle, reached = 0.5 * (t[..., 1:] + t[..., :-1]), weights.cumsum(-1)
    target = (fraction * reached[..., -1:]).contiguous()
    if weights.shape[-1] == 1:
        return middle
    above = torch.searchsorted(reached, target, right=True).clamp(1, weights.shape[-1] - 1)
    before, after = reached.gather(-1, above - 1), reached.gather(-1, above)
    gap = after - before
    share = torch.where(gap > 0, (target - before) / torch.where(gap > 0, gap, torch.ones_like(gap)), 0.0)
    return torch.lerp(middle.gather(-1, above - 1), middle.gather(-1, above), share.clamp(0.0, 1.0))
