"""Samples that are points on a ray, as in NeRF: each stands for the stretch up to the next, the last for all beyond."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from fewshot_ns.model_components.ray_samplers import jittered, stratified_fenceposts
from fewshot_ns.model_components.renderers import opacity_and_transmittance

LAST_LENGTH = 1e10
"""Length of the stretch that the last sample of a ray stands for, units of t."""
_PADDING = 1e-5
"""Added to the weights before resampling, and smallest share of a bin that is divided by."""
_LEAST_PASSED = 1e-10
"""Added to the share of light that a point lets pass (pixelNeRF)."""


def stratified_points(
    near: Tensor, far: Tensor, num_samples: int, jitter: Optional[Tensor] = None, in_disparity: bool = False
) -> Tensor:
    """(R, num_samples) points from near to far, both ends included; with jitter one random point per stratum.

    Args:
        near: (R, 1).
        far: (R, 1).
        num_samples: number of points.
        jitter: (R, num_samples) uniform numbers in [0, 1), or None for equal steps.
        in_disparity: equal steps in 1 / t, which near then has to allow, instead of in t.

    Source: NeRF, eq. 2.
    """
    if in_disparity:
        return jittered(1.0 / stratified_fenceposts(1.0 / near, 1.0 / far, num_samples - 1), jitter)
    return stratified_fenceposts(near, far, num_samples - 1, jitter)


def resample_points(z: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Points by the inverse of the piecewise constant density that a ray's weights make; no gradient flows.

    Args:
        z: (R, S) points, ascending; the bins lie between the mid-points of neighbours.
        weights: (R, S) their weights, of which the first and the last have no bin.
        u: (R, N) positions in [0, 1].

    Returns:
        (R, N), ascending where u is.

    Source: NeRF, section 5.2.
    """
    with torch.no_grad():
        return invert_density(0.5 * (z[..., 1:] + z[..., :-1]), weights[..., 1:-1], u)


def invert_density(edges: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """(R, N) positions at which the piecewise density of weights (R, B) between edges (R, B + 1) has reached u."""
    padded = weights + _PADDING
    reached = torch.cumsum(padded / padded.sum(-1, keepdim=True), dim=-1)
    reached = torch.cat([torch.zeros_like(reached[..., :1]), reached], dim=-1)
    above = torch.searchsorted(reached, u.contiguous(), right=True)
    below, above = (above - 1).clamp(min=0), above.clamp(max=edges.shape[-1] - 1)
    share = reached.gather(-1, above) - reached.gather(-1, below)
    share = torch.where(share < _PADDING, torch.ones_like(share), share)
    start, end = edges.gather(-1, below), edges.gather(-1, above)
    return start + (u - reached.gather(-1, below)) / share * (end - start)


def point_weights(density: Tensor, z: Tensor, directions: Tensor) -> Tensor:
    """(R, S) weights of volume rendering (NeRF, eq. 3) of points.

    Args:
        density: (R, S) non-negative, per unit length of the ray space.
        z: (R, S) points as multiples of the directions, ascending.
        directions: (R, 3), any length.
    """
    last = torch.full_like(z[..., :1], LAST_LENGTH)
    lengths = torch.cat([z[..., 1:] - z[..., :-1], last], dim=-1) * directions.norm(dim=-1, keepdim=True)
    opacity, transmittance = opacity_and_transmittance(density, lengths)
    return opacity * transmittance


def point_fenceposts(z: Tensor, far: Tensor) -> Tensor:
    """(R, S + 1) ends of the stretches that points z (R, S) stand for; the last one ends at far (R, 1)."""
    return torch.cat([z, torch.maximum(z[..., -1:], far)], dim=-1)


def points_in_bins(near: Tensor, far: Tensor, fractions: Tensor, in_disparity: bool = False) -> Tensor:
    """(R, N) points at fractions (R, N) of the way from near (R, 1) to far (R, 1), linear in t or in 1 / t.

    At `stratum_fractions` these are pixelNeRF's coarse samples.
    """
    if in_disparity:
        return 1.0 / (1.0 / near * (1.0 - fractions) + 1.0 / far * fractions)
    return near * (1.0 - fractions) + far * fractions


def stratum_fractions(jitter: Tensor) -> Tensor:
    """(R, N) fractions (k + jitter) / N of N equal strata, by uniform numbers (R, N) in [0, 1)."""
    return (torch.arange(jitter.shape[-1], dtype=jitter.dtype, device=jitter.device) + jitter) / jitter.shape[-1]


def importance_fractions(weights: Tensor, u: Tensor, jitter: Tensor) -> Tensor:
    """Fractions of the way from near to far where the weights of equal bins are; no gradient flows (pixelNeRF).

    Args:
        weights: (R, S) weights of the samples of S equal bins.
        u: (R, N) uniform numbers in [0, 1), by which a bin is chosen.
        jitter: (R, N) uniform numbers in [0, 1), the position in it.

    Returns:
        (R, N), not ordered.
    """
    with torch.no_grad():
        padded = weights + _PADDING
        reached = torch.cumsum(padded / padded.sum(-1, keepdim=True), dim=-1)
        reached = torch.cat([torch.zeros_like(reached[..., :1]), reached], dim=-1)
        # Rounding may leave the last sum below u.
        bins = (torch.searchsorted(reached, u.contiguous(), right=True) - 1).clamp(0, weights.shape[-1] - 1)
        return (bins + jitter) / weights.shape[-1]


def points_around_depth(depth: Tensor, noise: Tensor, deviation: float, near: Tensor, far: Tensor) -> Tensor:
    """(R, N) points around a depth (R, 1), by normal numbers (R, N) times a deviation, kept between near and far.

    Differentiable by the depth: through the positions of its samples the fine level's loss reaches the coarse one
    (pixelNeRF).
    """
    return torch.minimum(torch.maximum(depth + deviation * noise, near), far)


def bounded_point_weights(density: Tensor, z: Tensor, far: Tensor) -> Tensor:
    """(R, S) weights of points on unit rays, of which the last stands for the stretch up to far (pixelNeRF).

    Args:
        density: (R, S) non-negative, per unit of length.
        z: (R, S) distances along the rays, ascending.
        far: (R, 1).
    """
    lengths = torch.cat([z[..., 1:], far], dim=-1) - z
    opacity = -torch.expm1(-density * lengths)
    passed = torch.cumprod(1.0 - opacity + _LEAST_PASSED, dim=-1)
    return opacity * torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], dim=-1)
