"""The parameters of Gaussians: from points to what is learned, and from that to what is rendered."""

from __future__ import annotations

from typing import Dict

import torch
from torch import Tensor

_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""
NAMES = ("means", "scales", "quats", "features_dc", "features_rest", "opacities")
"""Parameters of a Gaussian, by splatfacto's names."""


def to_harmonics(rgb: Tensor) -> Tensor:
    """Coefficient of the constant harmonic of colours 0 to 1."""
    return (rgb - 0.5) / _C0


def from_harmonics(coefficients: Tensor) -> Tensor:
    """Colours of coefficients of the constant harmonic."""
    return coefficients * _C0 + 0.5


def initial_gaussians(
    positions: Tensor, colours: Tensor, radii: Tensor, scale: float, opacity: float, sh_degree: int
) -> Dict[str, Tensor]:
    """Round Gaussians on points, of one colour from all sides.

    Args:
        positions: (N, 3) in the world.
        colours: (N, 3) 0 to 1.
        radii: (N,) world size of what a point stands for, such as a pixel at its depth.
        scale: standard deviation as a fraction of that.
        opacity: 0 to 1, without its ends.
        sh_degree: highest degree of spherical harmonics.

    Returns:
        `means` (N, 3), `scales` (N, 3) logarithms, `quats` (N, 4), `features_dc` (N, 3), `features_rest` (N, K - 1, 3)
        and `opacities` (N, 1) logits, as splatfacto and .ply files of splats have them.
    """
    count = len(positions)
    one = positions.new_ones(count, 1)
    return {
        "means": positions.clone(),
        "scales": (scale * radii).clamp(min=1e-8).log()[:, None].expand(-1, 3).clone(),
        "quats": torch.cat([one, positions.new_zeros(count, 3)], dim=-1),
        "features_dc": to_harmonics(colours),
        "features_rest": positions.new_zeros(count, (sh_degree + 1) ** 2 - 1, 3),
        "opacities": torch.logit(opacity * one),
    }


def decayed(opacities: Tensor, factor: float) -> Tensor:
    """Logits of opacities that have fallen by a factor (Binocular3DGS; o <- logit(factor sigmoid(o)))."""
    return torch.logit((factor * torch.sigmoid(opacities)).clamp(1e-5, 1.0 - 1e-5))
