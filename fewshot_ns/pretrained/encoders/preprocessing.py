"""Preprocessing of rendered images for an image encoder: clamped, resized, normalised."""

from __future__ import annotations

from typing import Literal, Sequence

import torch
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import Size

Resize = Literal["bilinear", "bicubic", "keys"]
"""bilinear and bicubic: without antialiasing; keys: JAX's cubic (a = -0.5), antialiased where an image shrinks."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def encoder_input(
    images: Tensor, size: Size, resize: Resize, mean: Sequence[float], std: Sequence[float], clamp: bool = True
) -> Tensor:
    """Batch of images in the form that an encoder expects; differentiable.

    Args:
        images: (N, H, W, 3) colours; photos lie in [0, 1].
        size: (height, width) of the result.
        resize: kind of resampling, see `Resize`; every kind samples at pixel centres.
        mean: per channel, subtracted at the end.
        std: per channel, divided by.
        clamp: whether colours are clamped to [0, 1] first; those outside then get no gradient.

    Returns:
        (N, 3, height, width).
    """
    batch = images.permute(0, 3, 1, 2)
    batch = batch.clamp(0.0, 1.0) if clamp else batch
    mode = "bicubic" if resize == "keys" else resize
    # With antialiasing torch takes Keys' kernel (a = -0.5), whose weights outside the image count for none, as in JAX
    # and Pillow; without it another one (a = -0.75).
    batch = torch.nn.functional.interpolate(
        batch, size=size, mode=mode, align_corners=False, antialias=resize == "keys"
    )
    shift, scale = (torch.tensor(values, dtype=batch.dtype, device=batch.device) for values in (mean, std))
    return (batch - shift[:, None, None]) / scale[:, None, None]


def cosine_similarity(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean cosine similarity of embeddings (..., C) of rendered images and photos; zero of none."""
    similarity = torch.nn.functional.cosine_similarity(rendered, target, dim=-1)
    return similarity.mean() if similarity.numel() else similarity.sum()
