"""Samples at planar depths whose density is an optical depth in itself, not one per unit of length (MatchNeRF)."""

from __future__ import annotations

from typing import Literal, Optional

import torch
from torch import Tensor

from fewshot_ns.model_components.point_samples import stratified_points
from fewshot_ns.model_components.renderers import opacity_and_transmittance

TrainingDepths = Literal["within", "overshooting"]
"""Random depths. within: of strata between near and far. overshooting: of strata whose last one lies behind far."""


def planar_depths(near: Tensor, far: Tensor, num_samples: int, jittered: Optional[TrainingDepths] = None) -> Tensor:
    """(R, N) planar depths between near and far (R, 1), at equal steps, or random ones of a kind."""
    if jittered is None:
        return stratified_points(near, far, num_samples)
    jitter = torch.rand(len(near), num_samples, dtype=near.dtype, device=near.device)
    draw = stratified_points if jittered == "within" else overshooting_depths
    return draw(near, far, num_samples, jitter)


def overshooting_depths(near: Tensor, far: Tensor, num_samples: int, jitter: Tensor) -> Tensor:
    """Random depths of MatchNeRF's training: near + (k + u) / (N - 1) (far - near), k = 0 .. N - 1.

    The strata are as wide as the steps of evaluation and begin where its samples are, so the last one lies behind far.
    `point_samples.stratified_points` stays between near and far.

    Args:
        near: (R, 1) planar depth.
        far: (R, 1) planar depth.
        num_samples: N, at least 2.
        jitter: (R, N) uniform numbers u in [0, 1).

    Returns:
        (R, N), ascending.
    """
    steps = torch.arange(num_samples, dtype=near.dtype, device=near.device)
    return near + (steps + jitter) / (num_samples - 1) * (far - near)


def sample_weights(density: Tensor) -> Tensor:
    """(R, S) weights of samples of densities (R, S), at least 0: each absorbs 1 - exp(-density), whatever its distance.

    Source: MatchNeRF's `wo_render_interval`, which ID-NeRF keeps.
    """
    opacity, transmittance = opacity_and_transmittance(density, torch.ones_like(density))
    return opacity * transmittance
