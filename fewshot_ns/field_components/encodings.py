"""Positional and integrated positional encoding, and how frequencies and levels open over the steps."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor


def positional_encoding(x: Tensor, num_octaves: int, include_input: bool = True, by_octave: bool = False) -> Tensor:
    """Sines and cosines of x at octaves 2^0 .. 2^(num_octaves-1), no factor of pi (mip-NeRF code convention).

    Args:
        x: (..., D).
        num_octaves: number of octaves.
        include_input: whether x itself comes first.
        by_octave: order of columns, see below.

    Returns:
        (..., D * (2 * num_octaves + include_input)), columns [identity, all sines, all cosines], or with `by_octave`
        [identity, sines and cosines of octave 0, sines and cosines of octave 1, ...] as in NeRF's own code.
    """
    scaled = _scaled(x, num_octaves)
    parts = [torch.sin(scaled), torch.cos(scaled)]
    if by_octave:
        parts = [torch.stack([part.unflatten(-1, (num_octaves, -1)) for part in parts], dim=-2).flatten(-3)]
    return torch.cat([x, *parts] if include_input else parts, dim=-1)


def encode_directions(directions: Tensor, num_octaves: Optional[int]) -> Tensor:
    """(R, 3 + 6 * num_octaves) positional encoding of directions (R, 3); (R, 0) for None."""
    return directions[:, :0] if num_octaves is None else positional_encoding(directions, num_octaves)


def integrated_positional_encoding(means: Tensor, cov_diag: Tensor, num_octaves: int) -> Tensor:
    """Expected positional encoding of Gaussians with diagonal covariance (mip-NeRF, eq. 13-14).

    Args:
        means: (..., D) Gaussian means.
        cov_diag: (..., D) diagonal of their covariances.
        num_octaves: octaves 2^0 .. 2^(num_octaves-1).

    Returns:
        (..., 2 * D * num_octaves), columns [all sines, all cosines], low octaves first.
    """
    scaled = _scaled(means, num_octaves)
    four = 4.0 ** torch.arange(num_octaves, dtype=means.dtype, device=means.device)
    variance = (cov_diag[..., None, :] * four[:, None]).flatten(-2)
    damping = torch.exp(-0.5 * variance)
    return torch.cat([damping * torch.sin(scaled), damping * torch.cos(scaled)], dim=-1)


def frequency_mask(
    num_columns: int,
    step: int,
    end_step: int,
    device: torch.device | str = "cpu",
    visible_ratio: Optional[float] = None,
) -> Tensor:
    """Linearly growing visibility of encoding columns (FreeNeRF, eq. 4), columns in encoding order.

    The first 3 columns are visible from the start; all are from `end_step` on.

    Args:
        num_columns: columns of the encoding, in order of appearance.
        step: current step.
        end_step: step at which everything is visible; 0 disables the mask.
        visible_ratio: instead of the schedule, this fraction of the columns is visible at every step.

    Returns:
        (num_columns,) in [1e-8, 1], or of zeros and ones under a fixed ratio.
    """
    if visible_ratio is not None:
        return (torch.arange(num_columns, device=device) < int(num_columns * visible_ratio)).float()
    if step >= end_step:
        return torch.ones(num_columns, device=device)
    visible = min(num_columns / 3 * step / end_step + 1, num_columns / 3) * 3
    whole, fraction = int(visible / 3) * 3, visible / 3 - int(visible / 3)
    mask = torch.zeros(num_columns, device=device)
    mask[:whole] = 1.0
    mask[whole : whole + 3] = fraction
    return mask.clamp(1e-8, 1 - 1e-8)


def octave_mask(num_octaves: int, dim: int, step: int, end_step: int, device: torch.device | str = "cpu") -> Tensor:
    """`frequency_mask` in octave order: sine and cosine of one octave open together, low octaves first.

    FreeNeRF's column order opens the highest sines before the lowest cosines; this is the order its text describes.

    Returns:
        (2 * dim * num_octaves,) for the columns of `integrated_positional_encoding`.
    """
    if step >= end_step:
        return torch.ones(2 * dim * num_octaves, device=device)
    visible = torch.tensor(num_octaves * step / end_step + 1.0, device=device)
    per_octave = (visible - torch.arange(num_octaves, device=device)).clamp(0.0, 1.0)
    return per_octave.repeat_interleave(dim).repeat(2)


def level_visibility(
    num_levels: int, step: int, start_step: int, end_step: int, device: torch.device | str = "cpu"
) -> Tensor:
    """(L,) factor per level: the first is always visible, the others open one after the other between two steps.

    Args:
        num_levels: levels, coarse to fine.
        step: current step.
        start_step: until here only the first level is visible.
        end_step: from here on all are visible.
    """
    if step >= end_step:
        return torch.ones(num_levels, device=device)
    progress = max(step - start_step, 0) / (end_step - start_step)
    visible = 1.0 + (num_levels - 1) * progress
    return (visible - torch.arange(num_levels, device=device)).clamp(0.0, 1.0)


def _scaled(x: Tensor, num_octaves: int) -> Tensor:
    octaves = 2.0 ** torch.arange(num_octaves, dtype=x.dtype, device=x.device)
    return (x[..., None, :] * octaves[:, None]).flatten(-2)
