"""Gaussian approximation of the ray segments that a pixel sees (mip-NeRF, section 3.1)."""

from __future__ import annotations

from typing import Literal, Tuple

import torch
from torch import Tensor


def cast_rays(
    t: Tensor,
    origins: Tensor,
    directions: Tensor,
    radii: Tensor,
    ray_shape: Literal["cone", "cylinder"],
    full_covariance: bool = False,
) -> Tuple[Tensor, Tensor]:
    """Means and covariances of the segments between neighbouring fenceposts.

    Args:
        t: (..., S + 1) fenceposts, in units of `directions`.
        origins: (..., 3).
        directions: (..., 3), any length.
        radii: (..., 1) footprint radius; per unit t for cones, absolute for cylinders.
        ray_shape: cone (eq. 7, the numerically stable form) or cylinder.
        full_covariance: whole matrices instead of their diagonals.

    Returns:
        (..., S, 3) means and (..., S, 3) covariance diagonals, or (..., S, 3, 3) covariances, in the frame of the rays.
    """
    t0, t1 = t[..., :-1], t[..., 1:]
    middle, half = (t0 + t1) / 2, (t1 - t0) / 2
    if ray_shape == "cone":
        tiny = 1e-38
        denominator = (3 * middle**2 + half**2).clamp(min=tiny)
        t_mean = middle + (2 * middle * half**2) / denominator
        t_var = half**2 / 3 - (4 / 15) * (half**4 * (12 * middle**2 - half**2)) / denominator**2
        r_var = radii**2 * (middle**2 / 4 + (5 / 12) * half**2 - 4 / 15 * half**4 / denominator)
    elif ray_shape == "cylinder":
        t_mean = middle
        t_var = (t1 - t0) ** 2 / 12
        r_var = (radii**2 / 4).expand_as(middle)
    else:
        raise ValueError(f"expected ray_shape 'cone' or 'cylinder', got {ray_shape!r}")
    squared = directions**2
    length_squared = squared.sum(-1, keepdim=True).clamp(min=1e-10)
    means = origins[..., None, :] + t_mean[..., None] * directions[..., None, :]
    if full_covariance:
        along = directions[..., :, None] * directions[..., None, :]
        across = torch.eye(3, dtype=t.dtype, device=t.device) - along / length_squared[..., None]
        return means, t_var[..., None, None] * along[..., None, :, :] + r_var[..., None, None] * across[..., None, :, :]
    across = 1 - squared / length_squared
    cov_diag = t_var[..., None] * squared[..., None, :] + r_var[..., None] * across[..., None, :]
    return means, cov_diag
