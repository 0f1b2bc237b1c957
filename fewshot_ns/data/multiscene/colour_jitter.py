"""Random changes of colour, the same for all views of a scene: pixelNeRF's augmentation on DTU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor


@dataclass(frozen=True)
class ColourJitter:
    """One draw, for all images of a scene."""

    hue: float = 0.0
    """Shift of the hue as a share of the colour circle, in [-0.5, 0.5]."""
    saturation: float = 1.0
    """Factor of the saturation."""
    brightness: float = 1.0
    """Factor of the brightness."""
    contrast: float = 1.0
    """Factor of the contrast about the mean grey of each image."""

    def apply(self, images: Tensor) -> Tensor:
        """Changes images, in the original's order: saturation, hue, contrast, brightness, clamped after each.

        Args:
            images: (N, H, W, 3) in [0, 1], float.

        Returns:
            The same shape, in [0, 1].
        """
        # Imported late: a dataparser must not load what nerfstudio has not loaded.
        from torchvision.transforms import functional

        changed = images.movedim(-1, -3)
        changed = functional.adjust_saturation(changed, self.saturation)
        changed = functional.adjust_hue(changed, self.hue)
        changed = functional.adjust_contrast(changed, self.contrast)
        changed = functional.adjust_brightness(changed, self.brightness)
        return changed.movedim(-3, -1)


def draw_colour_jitter(amount: float = 0.1, generator: Optional[torch.Generator] = None) -> ColourJitter:
    """Draws hue in [-amount, amount], and the three factors in [1 - amount, 1 + amount], all uniformly.

    Args:
        amount: In [0, 0.5].
        generator: Source of the draws; None: torch's own.

    Raises:
        ValueError: an amount out of range.
    """
    if not 0.0 <= amount <= 0.5:
        raise ValueError(f"expected an amount of colour jitter in [0, 0.5], got {amount}")
    hue, saturation, brightness, contrast = (amount * (2.0 * torch.rand(4, generator=generator) - 1.0)).tolist()
    return ColourJitter(hue, 1.0 + saturation, 1.0 + brightness, 1.0 + contrast)
