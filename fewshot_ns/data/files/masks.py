"""Masks of photos as any tool writes them: what they hold, which pixels they mean, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.images import IMAGE_SUFFIXES, check_proportions, image_size, read_image
from fewshot_ns.data.files.photo_files import files_of_photos
from fewshot_ns.data.files.scene_folder import Files
from fewshot_ns.data.records.photo_name import PhotoName

HALF = 128
"""Smallest of 256 values that counts: nearer to white than to black."""


def mask_values(path: Path) -> npt.NDArray[np.uint8]:
    """Decodes a mask of any kind of 8-bit image: grey, RGB, palette, 1-bit, or with alpha.

    Returns:
        (H, W) uint8: the alpha where it hides something, else the largest of the colour channels.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image, is cut short, has more than 8 bits per channel, or is coloured all over.
    """
    image = read_image(path)
    if image.shape[-1] == 4 and image[..., 3].min() < HALF <= image[..., 3].max():
        return image[..., 3]
    values = image[..., :3].max(axis=-1)
    if values.min() >= HALF > image[..., :3].min():
        raise ValueError(
            f"{path}: expected a mask that is dark off the object, found colours on both sides of it; make it black "
            "and white"
        )
    return values


def read_mask(path: Path, least: int = HALF) -> npt.NDArray[np.bool_]:
    """Decodes a mask: a pixel counts where it is at least half white, so that what JPEG leaves around edges does not.

    Of a file of two values, zero and another, the other counts, however dark: masks of zeros and ones.

    Args:
        path: its file.
        least: smallest value that counts in a file of more values.

    Returns:
        (H, W) bool.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no readable image of 8 bits, or none of several values reaches half.
    """
    values = mask_values(path)
    largest = int(values.max())
    if largest < HALF:
        others = np.unique(values[values > 0])
        if len(others) > 1:
            raise ValueError(
                f"{path}: expected a mask that is white where pixels count (or of zero and one other value), found "
                f"{len(others)} values from {others[0]} to {others[-1]} of 255"
            )
        return values > 0
    return values >= least


def check_mask_of(path: Path, found: Tuple[int, ...], photo: Path) -> None:
    """Checks that a mask of size (height, width) shows the frame of its photo.

    Raises:
        ValueError: other proportions; names mask, photo and both sizes.
    """
    check_proportions(path, found, image_size(photo), photo.name)


def find_masks(folder: Path, photos: Sequence[PhotoName], chosen: Optional[Sequence[int]] = None) -> Files:
    """Masks of photos in a folder, which may not be there: NAME.png or NAME.jpg.png (COLMAP's) for NAME.jpg.

    Photos of several folders have their masks in the same folders below this one; or in this one itself, where no
    other photo has the name.

    Args:
        folder: of the masks.
        photos: (N) all photos of the scene.
        chosen: which of them need masks; None: all.

    Returns:
        (N) files; None where there is none, or none is needed.

    Raises:
        ValueError: a mask whose name fits several photos of different folders.
    """
    found: List[Optional[Path]] = [None] * len(photos)
    wanted = list(range(len(photos)) if chosen is None else chosen)
    candidates = files_of_photos(folder, [photos[index] for index in wanted], lambda stem: (stem,), IMAGE_SUFFIXES)
    for index, file in zip(wanted, candidates.check("mask"), strict=True):
        found[index] = file
    return tuple(found)
