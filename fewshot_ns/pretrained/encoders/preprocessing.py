"""From rendered colours to what an image encoder takes: clamped, resized, normalised."""

from __future__ import annotations

from typing import Literal, Sequence

import torch
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import Size

Resize = Literal["bilinear", "bicubic", "keys"]
"""bilinear and bicubic: torch's, without antialiasing; keys: JAX's cubic (a = -0.5), antialiased where it shrinks."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def encoder_input(
    images: Tensor, size: Size, resize: Resize, mean: Sequence[float], std: Sequence[float], clamp: bool = True
) -> Tensor:
    """Batch of images as an encoder takes it, differentiable.

    Args:
        images: (N, H, W, 3) colours, [0, 1] where they are photos.
        size: (height, width) of the result.
        resize: how it is resized, see `Resize`; every kind samples at pixel centres.
        mean: per channel, subtracted at the end.
        std: per channel, divided by.
        clamp: whether colours outside of [0, 1] are clamped first, and get no gradient then.

    Returns:
        (N, 3, height, width).
    """
    batch = images.permute(0, 3, 1, 2)
    batch = batch.clamp(0.0, 1.0) if clamp else batch
    if resize == "keys":
        batch = keys_cubic(keys_cubic(batch, size[1]).transpose(-1, -2), size[0]).transpose(-1, -2)
    else:
        batch = torch.nn.functional.interpolate(batch, size=size, mode=resize, align_corners=False)
    shift, scale = (torch.tensor(values, dtype=batch.dtype, device=batch.device) for values in (mean, std))
    return (batch - shift[:, None, None]) / scale[:, None, None]


def keys_cubic(signal: Tensor, size: int) -> Tensor:
    """Resamples the last axis (..., N) to (..., size) by Keys' cubic kernel; weights beyond the ends count for none."""
    length = signal.shape[-1]
    where = {"dtype": signal.dtype, "device": signal.device}
    centres = (torch.arange(size, **where) + 0.5) * length / size - 0.5
    width = max(length / size, 1.0)
    x = (centres[:, None] - torch.arange(length, **where)).abs() / width
    near = (1.5 * x - 2.5) * x * x + 1.0
    beyond = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = torch.where(x < 1.0, near, torch.where(x < 2.0, beyond, torch.zeros_like(x)))
    return signal @ (weights / weights.sum(-1, keepdim=True)).t()


def cosine_similarity(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean cosine between embeddings (..., C) of renderings and of photos."""
    return torch.nn.functional.cosine_similarity(rendered, target, dim=-1).mean()
