"""One photo of an object as pixelNeRF wants it: the object on a plain background, as large as in training images.

pixelNeRF fits an ellipse to the outline of the object's mask, crops a square about its middle whose side goes by the
axes of the ellipse, paints what is not the object in the background's colour, and resizes. Its factors suit cars, seen
from the side or from the front.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.images import read_image

Mask = npt.NDArray[np.float32]
"""(H, W) share of each pixel that shows the object, in [0, 1]."""


@dataclass(frozen=True)
class Square:
    """A square of whole pixels, which may reach beyond the image."""

    left: int
    """First column."""
    top: int
    """First row."""
    side: int
    """Columns and rows."""


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in an image; the first pixel's centre is at 0."""

    centre: Tuple[float, float]
    """Column and row."""
    minor: float
    """Whole length of the shorter axis, pixels."""
    major: float
    """Whole length of the longer axis, pixels."""


def read_photo(path: Path) -> Tuple[npt.NDArray[np.uint8], Optional[Mask]]:
    """Reads a photo as viewers show it.

    Returns:
        (H, W, 3) colours, and the mask that its transparency is; None where it has none, or no transparent pixel.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, or a damaged one.
    """
    image = read_image(path, upright=True)
    if image.shape[-1] == 3 or bool((image[..., 3] == 255).all()):
        return image[..., :3], None
    return image[..., :3], image[..., 3].astype(np.float32) / 255


def read_mask(path: Path, photo: Path, size: Tuple[int, ...]) -> Mask:
    """Reads the mask of a photo: by its transparency where it has some, else white where the object is.

    Args:
        path: image of the mask; one whose largest value is 1 counts in ones.
        photo: file of the photo, for the message.
        size: height and width of the photo.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, or one of another size.
    """
    image = read_image(path, upright=True)
    if image.shape[:2] != size:
        raise ValueError(
            f"{path}: expected a mask of {photo}'s size, {size[1]}x{size[0]} pixels (width x height), found "
            f"{image.shape[1]}x{image.shape[0]}; give --mask of that size"
        )
    transparent = image.shape[-1] == 4 and not bool((image[..., 3] == 255).all())
    values = image[..., 3] if transparent else image[..., :3].mean(axis=-1)
    return (values / (1 if values.max() == 1 else 255)).astype(np.float32)


def outline_of(mask: Mask, where: str) -> npt.NDArray[np.int32]:
    """(P, 2) columns and rows of the outline of the largest connected part of a mask.

    Args:
        mask: Of the object, which is where it is above one half.
        where: File named in the message.

    Raises:
        ValueError: there is no object in it, or one of a few pixels.
    """
    inside = (mask > 0.5).astype(np.uint8)
    if not inside.any():
        raise ValueError(f"{where}: expected a mask with an object in it, found none; give --mask FILE")
    # Every pixel of the outline counts, where the original lets its corners alone do: with few of them, an ellipse
    # about a shape of straight lines is far off.
    found, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(found, key=cv2.contourArea)[:, 0].astype(np.int32)
    if len(outline) < 16 or cv2.contourArea(outline) < 16:
        raise ValueError(f"{where}: expected an object of at least 5x5 pixels in the mask, found a smaller one")
    return outline


def fit_ellipse(outline: npt.NDArray[np.int32], where: str) -> Ellipse:
    """The ellipse that fits an outline (P, 2) best, in the sense of least squares.

    Raises:
        ValueError: no ellipse is anywhere near the outline.
    """
    centre, axes, _ = cv2.fitEllipse(outline)
    ellipse = Ellipse((float(centre[0]), float(centre[1])), float(min(axes)), float(max(axes)))
    low, high = outline.min(axis=0), outline.max(axis=0)
    extent = float(np.linalg.norm(high - low)) + 1.0
    near = bool((low <= np.array(centre)).all() and (np.array(centre) <= high).all())
    if not (near and 0 < ellipse.minor <= ellipse.major <= 3 * extent):
        raise ValueError(
            f"{where}: expected an outline that an ellipse fits, found another; give --fill 0.75, which goes by the "
            "object's box"
        )
    return ellipse


def square_about_ellipse(ellipse: Ellipse, minor_scale: float, major_scale: float) -> Square:
    """pixelNeRF's crop: about the ellipse's middle, half its side max(minor_scale a, major_scale b) / 2, rounded up.

    Args:
        ellipse: Of the object.
        minor_scale: Side of the square in shorter axes a; pixelNeRF's for cars is 4.37.
        major_scale: The same in longer axes b, of which the larger of the two counts; pixelNeRF's is 0.8.

    Raises:
        ValueError: a factor that is not positive.
    """
    if not (minor_scale > 0 and major_scale > 0):
        raise ValueError(
            f"--minor-scale and --major-scale: expected positive factors, got {minor_scale} and {major_scale}"
        )
    half = math.ceil(0.5 * max(minor_scale * ellipse.minor, major_scale * ellipse.major))
    column, row = (round(value) for value in ellipse.centre)
    return Square(column - half, row - half, 2 * half)


def square_about_box(outline: npt.NDArray[np.int32], fill: float) -> Square:
    """A crop about the box of an outline (P, 2), whose longer side takes the share `fill` of the square.

    Raises:
        ValueError: a share that is not above 0 and at most 1.
    """
    if not 0 < fill <= 1:
        raise ValueError(f"--fill: expected a share above 0 and at most 1, got {fill}")
    low, high = outline.min(axis=0), outline.max(axis=0) + 1
    half = math.ceil(0.5 * float((high - low).max()) / fill)
    column, row = (round(0.5 * float(value)) for value in low + high)
    return Square(column - half, row - half, 2 * half)


def normalised_image(
    photo: npt.NDArray[np.uint8], mask: Mask, square: Square, size: int, background: Literal["black", "white"]
) -> npt.NDArray[np.float32]:
    """The object of a photo on a plain background, cropped and resized by area averages (bilinearly to a larger size).

    Args:
        photo: (H, W, 3).
        mask: (H, W) of the object.
        square: Part of the photo that is shown; what lies beyond the photo is background.
        size: Height and width of the result.
        background: Its colour.

    Returns:
        (size, size, 3) in [0, 1].
    """
    height, width = mask.shape
    # Only the rows and columns that are seen: a phone's photo is large.
    rows, columns = (
        slice(max(start, 0), max(min(start + square.side, length), max(start, 0)))
        for start, length in ((square.top, height), (square.left, width))
    )
    colour = 1.0 if background == "white" else 0.0
    part = (photo[rows, columns].astype(np.float32) / 255 - colour) * mask[rows, columns, None]
    down = resampling_weights(square.top, square.side, size, height)[:, rows]
    across = resampling_weights(square.left, square.side, size, width)[:, columns]
    # Differences to the background vanish outside, so that nothing has to be padded.
    mixed = np.einsum("ir,rjc->ijc", down, np.einsum("rwc,jw->rjc", part, across, optimize=True), optimize=True)
    return np.clip(colour + mixed, 0.0, 1.0).astype(np.float32)


def resampling_weights(start: int, side: int, size: int, length: int) -> npt.NDArray[np.float32]:
    """Weights (size, length) by which `size` pixels mix the `length` ones of a line.

    Args:
        start: First pixel of the part that is resampled; may be negative.
        side: Pixels of that part.
        size: Pixels that it becomes.
        length: Pixels of the whole line. Weights of pixels beyond it are left out, so that rows may sum to less than 1.
    """
    step, pixel = side / size, np.arange(length)
    if step < 1:
        centre = np.clip(start + (np.arange(size) + 0.5) * step - 0.5, start, start + side - 1)
        return np.clip(1.0 - np.abs(centre[:, None] - pixel), 0.0, None).astype(np.float32)
    first = start + np.arange(size)[:, None] * step
    overlap = np.minimum(first + step, pixel + 1) - np.maximum(first, pixel)
    return (np.clip(overlap, 0.0, None) / step).astype(np.float32)
