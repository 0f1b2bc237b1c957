"""ID-NeRF's imaginative latent: a latent of the target view, inferred from the source views and their cameras."""

from __future__ import annotations

from typing import Sequence, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.pretrained.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD

LATENT_CHANNELS = 4
LATENT_SIZE = 64
"""Channels and sides of the latent, those of Stable Diffusion for an image of 512 x 512."""
_VIEW_CHANNELS = 32
_RAY_CHANNELS = 6


class LatentInference(nn.Module):
    """Convolutional network from V source views and a target camera to a latent of the target view.

    Views are concatenated in their order by channel, so a network is made for one number of views; 153,860 parameters
    with three. Parameters have the names of the original's.

    Args:
        num_views: V.
    """

    def __init__(self, num_views: int = 3) -> None:
        super().__init__()
        self.num_views = num_views
        self.mix_1 = _convolutions(3 + _RAY_CHANNELS, (16, 32, _VIEW_CHANNELS), (2, 1, 1))
        self.mix_2 = _convolutions(_VIEW_CHANNELS * num_views, (64, 64, 32), (2, 2, 1))
        self.mix_3 = _convolutions(32 + _RAY_CHANNELS, (32, 32, 16, 16), (2, 2, 2, 1))
        self.final_layer = nn.Linear(16, LATENT_CHANNELS)

    def forward(self, images: Tensor, source_rays: Tensor, target_rays: Tensor) -> Tensor:
        """Latents of B target views.

        In training the statistics of the batch norms are those of each source view by itself, as in the original.

        Args:
            images: (B, V, 3, H, W) colours of the source views in [0, 1].
            source_rays: (B, V, 6, H, W) their ray images: origin and direction of the ray of each pixel.
            target_rays: (B, 6, H, W) ray images of the target views.

        Returns:
            (B, 4, 64, 64); for the diffusion prior a latent scaled to [0, 1], of which 2 x - 1 is compared.

        Raises:
            ValueError: another number of views.
        """
        if images.shape[1] != self.num_views:
            raise ValueError(
                f"the latent network is made for {self.num_views} source views (--pipeline.model.num-views), got "
                f"{images.shape[1]}"
            )
        mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        seen = torch.cat([(images - mean) / std, source_rays], dim=2)
        mixed = self.mix_2(torch.cat([self.mix_1(view) for view in seen.unbind(1)], dim=1))
        mixed = nn.functional.interpolate(mixed, size=images.shape[-2:], mode="bilinear", align_corners=False)
        mixed = self.mix_3(torch.cat([mixed, target_rays], dim=1))
        latent = self.final_layer(mixed.movedim(1, -1)).movedim(-1, 1)
        return nn.functional.interpolate(latent, size=(LATENT_SIZE, LATENT_SIZE), mode="bilinear", align_corners=False)


def _convolutions(columns: int, widths: Sequence[int], strides: Tuple[int, ...]) -> nn.Sequential:
    """3x3 convolutions, each with batch norm and leaky ReLU."""
    layers = []
    for width, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(columns, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU()]
        columns = width
    return nn.Sequential(*layers)
