"""Fenceposts along rays: the first, stratified level and resampling from the weights of a level before."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor


def stratified_fenceposts(near: Tensor, far: Tensor, num_samples: int, jitter: Optional[Tensor] = None) -> Tensor:
    """Linearly spaced fenceposts; with jitter each lies uniformly between the mid-points to its neighbours.

    Args:
        near: (R, 1).
        far: (R, 1).
        num_samples: number of segments S.
        jitter: (R, S + 1) uniform numbers in [0, 1), or None for the deterministic fenceposts.

    Returns:
        (R, S + 1), ascending.
    """
    steps = torch.linspace(0.0, 1.0, num_samples + 1, dtype=near.dtype, device=near.device)
    return jittered(near * (1.0 - steps) + far * steps, jitter)


def geometric_fenceposts(near: Tensor, far: Tensor, num_samples: int, jitter: Optional[Tensor] = None) -> Tensor:
    """The same, with fenceposts at equal steps of the logarithm: each lies a constant share farther than the last.

    Args:
        near: (R, 1), above zero.
        far, num_samples, jitter: as of `stratified_fenceposts`.
    """
    return stratified_fenceposts(near.log(), far.log(), num_samples, jitter).exp()


def jittered(t: Tensor, jitter: Optional[Tensor]) -> Tensor:
    """(R, N) ascending positions, each moved to a random position between the mid-points to its neighbours.

    Args:
        t: (R, N), ascending.
        jitter: (R, N) uniform numbers in [0, 1), or None to leave them where they are.
    """
    if jitter is None:
        return t
    middle = (t[..., 1:] + t[..., :-1]) / 2
    lower = torch.cat([t[..., :1], middle], dim=-1)
    upper = torch.cat([middle, t[..., -1:]], dim=-1)
    return lower + (upper - lower) * jitter


def depth_guided_fenceposts(
    near: Tensor, far: Tensor, num_samples: int, depth: Tensor, spread: Tensor, noise: Tensor, jitter: Optional[Tensor]
) -> Tensor:
    """Stratified fenceposts, some of them around the measured depth where a ray has one.

    Args:
        near: (R, 1).
        far: (R, 1).
        num_samples: number of segments S.
        depth: (R, 1) measured depth; not positive where there is none.
        spread: (R, 1) standard deviation around it, in units of t; gradients flow into it.
        noise: (R, G) normal numbers, G < S.
        jitter: (R, S + 1) uniform numbers in [0, 1), or None for those without jitter.

    Returns:
        (R, S + 1), ascending.
    """
    plain = stratified_fenceposts(near, far, num_samples, jitter)
    fewer = num_samples - noise.shape[-1]
    rest = stratified_fenceposts(near, far, fewer, None if jitter is None else jitter[:, : fewer + 1])
    around = torch.minimum(torch.maximum(depth + spread * noise, near), far)
    return torch.where(depth > 0, torch.cat([rest, around], dim=-1).sort(dim=-1).values, plain)


def blur_pool(weights: Tensor, padding: float) -> Tensor:
    """Widens and smooths weights (..., S) before resampling: maximum, then mean of neighbours, plus padding
    (mip-NeRF, section 3.1)."""
    padded = torch.cat([weights[..., :1], weights, weights[..., -1:]], dim=-1)
    highest = torch.maximum(padded[..., :-1], padded[..., 1:])
    return 0.5 * (highest[..., :-1] + highest[..., 1:]) + padding


def cdf_positions(num: int, like: Tensor, stratified: bool) -> Tensor:
    """(R, num) positions in [0, 1): equally spaced with both ends, or one uniform draw per stratum."""
    eps = torch.finfo(torch.float32).eps
    rows = like.shape[0]
    if not stratified:
        u = torch.linspace(0.0, 1.0 - eps, num, dtype=like.dtype, device=like.device)
        return u.expand(rows, num)
    jitter = torch.rand(rows, num, dtype=like.dtype, device=like.device) * (1.0 / num - eps)
    return torch.arange(num, dtype=like.dtype, device=like.device) / num + jitter


def sample_piecewise_constant(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Inverse-CDF samples of a piecewise constant density.

    Args:
        t: (R, S + 1) fenceposts.
        weights: (R, S) non-negative; a ray whose weights vanish is sampled uniformly.
        u: (R, N) positions in [0, 1).

    Returns:
        (R, N) samples, ascending where u is. No gradient flows.
    """
    with torch.no_grad():
        # As the original: only sums below float32's eps are raised, by the lack in every bin.
        weights = weights + (torch.finfo(torch.float32).eps - weights.sum(-1, keepdim=True)).clamp(min=0.0)
        pdf = weights / weights.sum(-1, keepdim=True)
        cdf = torch.cumsum(pdf[..., :-1], dim=-1).clamp(max=1.0)
        zeros, ones = torch.zeros_like(pdf[..., :1]), torch.ones_like(pdf[..., :1])
        cdf = torch.cat([zeros, cdf, ones], dim=-1)
        above = torch.searchsorted(cdf, u.contiguous(), right=True).clamp(1, t.shape[-1] - 1)
        below = above - 1
        cdf0, cdf1 = cdf.gather(-1, below), cdf.gather(-1, above)
        t0, t1 = t.gather(-1, below), t.gather(-1, above)
        fraction = torch.nan_to_num((u - cdf0) / (cdf1 - cdf0), nan=0.0).clamp(0.0, 1.0)
        return t0 + fraction * (t1 - t0)


def resample_fenceposts(t: Tensor, weights: Tensor, num_samples: int, padding: float, stratified: bool) -> Tensor:
    """(R, num_samples + 1) new fenceposts from blur-pooled weights; the old ones are dropped, no gradient flows.

    Args:
        t: (R, S + 1) fenceposts of the level before.
        weights: (R, S) its weights.
        num_samples: segments of the new level.
        padding: added to the blurred weights (0.01 in mip-NeRF).
        stratified: random positions in training, fixed ones at evaluation.
    """
    with torch.no_grad():
        u = cdf_positions(num_samples + 1, t, stratified)
        return sample_piecewise_constant(t, blur_pool(weights, padding), u)
