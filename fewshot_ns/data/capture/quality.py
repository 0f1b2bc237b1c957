"""How sharp and how bright a picture is, measured at one size so that pictures of all sizes compare."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

WORKING_SIDE = 512
"""Longer side at which pictures are measured, pixels."""


def working_grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey values of a picture at the working size, on white where it is transparent.

    Args:
        pixels: (H, W, 3) or (H, W, 4).

    Returns:
        (h, w), the longer side of WORKING_SIDE. Smaller pictures are enlarged: they lack detail, and count as such.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_RGB2GRAY)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3].astype(np.float32) / 255
        grey = np.round(grey * alpha + 255 * (1 - alpha)).astype(np.uint8)
    scale = WORKING_SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR).astype(np.uint8)


def sharpness_of(grey: npt.NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of grey values (H, W), 0 to 255 (Pech-Pacheco et al., ICPR 2000)."""
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
