"""Score distillation as pure functions: what a diffusion model's noise prediction says about latents.

Sources: DreamFusion (Poole et al. 2022); the weighting and the latents without a decoder are Latent-NeRF's (Metzer et
al. 2022), which ID-NeRF keeps.
"""

from __future__ import annotations

from typing import Literal, Tuple

import torch
from torch import Tensor

Weighting = Literal["latent-nerf", "dreamfusion", "uniform"]
"""Factor on the gradient at a cumulative alpha a: sqrt(a) (1 - a), 1 - a, or 1."""


def timestep_range(num_timesteps: int, min_time: float, max_time: float) -> Tuple[int, int]:
    """First and last time step that is drawn, both included, for shares of the T steps that a model was trained on."""
    return int(num_timesteps * min_time), int(num_timesteps * max_time)


def gradient_weight(alpha: Tensor, weighting: Weighting) -> Tensor:
    """Factor on the gradient at cumulative alphas of any shape."""
    if weighting == "uniform":
        return torch.ones_like(alpha)
    return (1.0 - alpha) * (alpha.sqrt() if weighting == "latent-nerf" else 1.0)


def add_noise(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Latents (B, C, h, w) with noise of that shape at cumulative alphas (B,): sqrt(a) x + sqrt(1 - a) eps."""
    alpha = alpha[:, None, None, None]
    return alpha.sqrt() * latents + (1.0 - alpha).sqrt() * noise


def guided_noise(unconditional: Tensor, conditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: u + guidance (c - u)."""
    return unconditional + guidance * (conditional - unconditional)


def diffusion_latents(predicted: Tensor, size: int) -> Tensor:
    """(B, C, size, size) latents of the diffusion model: a prediction in [0, 1], resized bilinearly, to [-1, 1]."""
    resized = torch.nn.functional.interpolate(predicted, size=(size, size), mode="bilinear", align_corners=False)
    return 2.0 * resized - 1.0


def distillation_loss(latents: Tensor, gradient: Tensor) -> Tensor:
    """A number whose gradient by the latents is `gradient`, averaged over the batch of B.

    Its value has no meaning. Unlike ID-NeRF's own backward pass inside of the forward pass, it can be weighted, summed
    with other losses and run under a gradient scaler.

    Args:
        latents: (B, C, h, w).
        gradient: (B, C, h, w), taken as constant.
    """
    return (gradient.detach() * latents).sum() / max(len(latents), 1)


def lengthen_tokens(embeddings: Tensor, columns: int) -> Tensor:
    """(N, columns) of embeddings (N, C), by linear interpolation from the first to the last column."""
    return torch.nn.functional.interpolate(embeddings[:, None], size=columns, mode="linear", align_corners=True)[:, 0]
