"""Photos that are smaller while training begins, where a smaller render has been repeated to the size of the photo."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor


def as_rendered(rgb: Tensor, photo: Tensor, shown: Tensor, factor: int) -> Tuple[Tensor, Tensor, Tensor]:
    """The small image whose pixels were repeated, and photo and mask averaged to its size.

    Args:
        rgb: (H, W, 3) the render, repeated.
        photo: (H, W, 3).
        shown: (H, W, 1) 1 where a pixel may train, else 0.
        factor: rows and columns of the photo for each of the render.

    Returns:
        (h, w, C) each; a pixel of the mask counts where all that it is made of does.
    """
    height, width = photo.shape[:2]
    size = max(height // factor, 1), max(width // factor, 1)
    rows, columns = (
        torch.div(torch.arange(new, device=rgb.device) * old + new - 1, new, rounding_mode="floor")
        for new, old in zip(size, (height, width), strict=True)
    )
    averaged = (
        torch.nn.functional.interpolate(values.permute(2, 0, 1)[None], size=size, mode="area")[0].permute(1, 2, 0)
        for values in (photo, shown)
    )
    photo, shown = averaged
    return rgb[rows][:, columns], photo, (shown > 0.999).to(shown)
