"""Alpha compositing along un-normalised rays, and the distances that the depth losses need."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def compositing_weights(density: Tensor, t: Tensor, directions: Tensor) -> Tensor:
    """Weights of volume rendering (NeRF, eq. 3); segment lengths are t-differences times |direction|.

    Args:
        density: (R, S) non-negative, per unit length of the ray space.
        t: (R, S + 1) fenceposts.
        directions: (R, 3), any length.

    Returns:
        (R, S) weights; their sum is the accumulation, at most 1.
    """
    delta = (t[..., 1:] - t[..., :-1]) * directions.norm(dim=-1, keepdim=True)
    optical = density * delta
    before = torch.cat([torch.zeros_like(optical[..., :1]), torch.cumsum(optical[..., :-1], dim=-1)], dim=-1)
    return -torch.expm1(-optical) * torch.exp(-before)


def composite_rgb(rgb: Tensor, weights: Tensor, background: Literal["black", "white"]) -> Tensor:
    """(R, 3) colour of samples (R, S, 3) under weights (R, S) before a black or white background."""
    colour = (weights[..., None] * rgb).sum(dim=-2)
    return colour + (1.0 - weights.sum(-1, keepdim=True)) if background == "white" else colour


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
    opaque = accumulation > 0
    safe = torch.where(opaque, accumulation, torch.ones_like(accumulation))
    mean = torch.where(opaque, (weights * middle).sum(-1) / safe, t[..., 0])
    return torch.minimum(torch.maximum(mean, t[..., 0]), t[..., -1])[..., None]
