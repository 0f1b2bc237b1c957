"""Losses on the normals of a ray's samples, averaged over the rays that have a measured normal; 0 where none has."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_ns.model_components.depth_losses import masked_mean


def normal_alignment_loss(weights: Tensor, normals: Tensor, target: Tensor) -> Tensor:
    """Weighted sum of 1 - cosine between the samples' normals and the measured one.

    Args:
        weights: (R, S).
        normals: (R, S, 3) unit normals of the samples.
        target: (R, 3) unit normals measured; zero where there is none.
    """
    valid = has_normal(target)
    misfit = 1.0 - (normals * _known(target, valid)[:, None]).sum(-1)
    return masked_mean((weights * misfit).sum(-1), valid)


def normal_chord_loss(weights: Tensor, normals: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance of the unit vectors, weighted; for unit normals the same as their alignment.

    Arguments as in `normal_alignment_loss`.
    """
    valid = has_normal(target)
    chord = 0.5 * ((normals - _known(target, valid)[:, None]) ** 2).sum(-1)
    return masked_mean((weights * chord).sum(-1), valid)


def orientation_loss(weights: Tensor, normals: Tensor, viewdirs: Tensor, valid: Tensor) -> Tensor:
    """Weighted squared cosine of normals that point away from the camera (Ref-NeRF, eq. 11).

    Args:
        weights: (R, S).
        normals: (R, S, 3) unit normals of the samples.
        viewdirs: (R, 3) unit directions from the camera into the scene.
        valid: (R,) bool, rays that count.
    """
    away = (normals * viewdirs[:, None]).sum(-1).clamp(min=0.0)
    return masked_mean((weights * away**2).sum(-1), valid)


def has_normal(target: Tensor) -> Tensor:
    """(R,) bool, whether a ray has a measured normal (R, 3): one of numbers that are not all zero."""
    return torch.any(target != 0, dim=-1) & target.isfinite().all(dim=-1)


def _known(target: Tensor, valid: Tensor) -> Tensor:
    """Measured normals (R, 3) where there are some, else zero."""
    return torch.where(valid[:, None], target, torch.zeros_like(target))
