"""Samplers of the pixels of a training step: images of any size, and uniform draws under masks."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor


class PixelRequest(NamedTuple):
    """Pixels of photos that a prior needs in the batch, instead of as many others; they serve the colour loss too."""

    pixels: Tensor
    """(N, 3) training view, row, column."""
    draw_others: Optional[Callable[[int, Optional[int]], Tensor]] = None
    """Function (count, view or None) -> (count, 3) by which the remaining pixels of the batch are drawn; None: as the
    datamanager draws them."""


class ImageStack:
    """Pixels of images of any size in one flat tensor.

    Args:
        images: V tensors (H_v, W_v, C).
    """

    def __init__(self, images: List[Tensor]) -> None:
        self.heights = torch.tensor([image.shape[0] for image in images])
        self.widths = torch.tensor([image.shape[1] for image in images])
        sizes = self.heights * self.widths
        self.offsets = torch.cumsum(sizes, 0) - sizes
        self.pixels = torch.cat([image.reshape(-1, image.shape[-1]) for image in images])

    def __len__(self) -> int:
        return len(self.heights)

    def lookup(self, indices: Tensor) -> Tensor:
        """(N, C) values at (N, 3) indices of (view, row, column)."""
        view, row, column = indices.unbind(-1)
        return self.pixels[self.offsets[view] + row * self.widths[view] + column]


class MaskedPixelSampler:
    """Draws pixels uniformly where masks are True.

    Args:
        masks: V maps (H_v, W_v, 1) of bool.
        names: (V) what each mask is called in an error, such as its file; None: its number.

    Raises:
        ValueError: where a mask leaves no pixel.
    """

    def __init__(self, masks: List[Tensor], names: Optional[Sequence[str]] = None) -> None:
        self.allowed = []
        for view, mask in enumerate(masks):
            pixels = mask[..., 0].nonzero()
            if len(pixels) == 0:
                name = f"the mask of training view {view}" if names is None else names[view]
                raise ValueError(f"{name}: expected pixels to train on, white at the size of the camera, found none")
            self.allowed.append(torch.cat([torch.full_like(pixels[:, :1], view), pixels], dim=-1))
        self.all = torch.cat(self.allowed)

    def sample(self, num: int, view: Optional[int] = None) -> Tensor:
        """(num, 3) indices (view, row, column), of all views or of one."""
        pool = self.all if view is None else self.allowed[view]
        return pool[torch.randint(len(pool), (num,))]


def centre_crop(height: int, width: int, fraction: float) -> Tuple[slice, slice]:
    """Rows and columns of the middle of an image, with this fraction of its sides (DietNeRF's first steps).

    Raises:
        ValueError: a fraction that leaves no pixel, or above 1.
    """
    half = int(height // 2 * fraction), int(width // 2 * fraction)
    if not fraction <= 1 or min(half) < 1:
        raise ValueError(f"expected a fraction up to 1 that leaves pixels of {height}x{width}, got {fraction}")
    return slice(height // 2 - half[0], height // 2 + half[0]), slice(width // 2 - half[1], width // 2 + half[1])
