"""Regions of an image that MatchNeRF and ID-NeRF measure: its centre, or the pixels whose true depth is known.

Source: MatchNeRF's evaluation, which ID-NeRF keeps. On DTU the PSNR is that of the pixels with a true depth
(`masked_psnr`), and SSIM and LPIPS are of whole images that are black elsewhere; on other data all three are of the
centre.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Literal, Optional

if TYPE_CHECKING:
    # Flags and tables need the names alone, and should not wait for torch.
    from torch import Tensor

Region = Literal["whole", "centre", "true-depth", "auto"]

MASKED_PREFIX = "masked_"
"""Put before a metric's name for its value on the object's pixels alone."""

REGION_PREFIXES: Dict[str, str] = {"centre": "centre_", "true-depth": "true_depth_"}
"""Put before a metric's name for its value in a region."""


def plain_name(name: str) -> str:
    """A metric's name without the prefix of a mask or region."""
    for prefix in (MASKED_PREFIX, *REGION_PREFIXES.values()):
        name = name.removeprefix(prefix)
    return name


def resolve_region(region: Region, known_depth: Optional[Tensor]) -> Optional[str]:
    """The region of `REGION_PREFIXES` in which a view is measured in addition to the whole image; None: in none.

    Args:
        region: as configured; auto: the pixels of known depth where the view has some, else the centre.
        known_depth: which pixels have a true depth, or None.
    """
    if region == "auto":
        return "centre" if known_depth is None or not bool(known_depth.any()) else "true-depth"
    return None if region == "whole" else region


def central_crop(image: Tensor) -> Tensor:
    """Centre (H', W', ...) of an image (H, W, ...): a tenth of the pixels, rounded down, is cut off on each side."""
    height, width = image.shape[:2]
    rows, columns = int(height * 0.1), int(width * 0.1)
    return image[rows : height - rows, columns : width - columns]


def black_outside(image: Tensor, valid: Tensor) -> Tensor:
    """(H, W, 3) image that is 0 where (H, W) or (H, W, 1) `valid` is False or 0.

    Raises:
        ValueError: `valid` does not fit the image.
    """
    valid = valid if valid.ndim == image.ndim else valid[..., None]
    if valid.shape[:2] != image.shape[:2] or valid.shape[2:] != (1,):
        raise ValueError(f"expected one value per pixel of {tuple(image.shape)}, got {tuple(valid.shape)}")
    return image * valid.to(image)
