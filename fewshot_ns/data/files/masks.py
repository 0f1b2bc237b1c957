"""Masks of photos as any tool writes them: what they hold, which pixels they mean, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.images import IMAGE_SUFFIXES, check_proportions, image_size, read_image
from fewshot_ns.data.files.scene_folder import Files

HALF = 128
"""Smallest of 256 values that counts: nearer to white than to black."""


def mask_values(path: Path) -> npt.NDArray[np.uint8]:
    """Decodes a mask of any kind of 8-bit image: grey, RGB, palette, 1-bit, or with alpha.

    Returns:
        (H, W) uint8: the alpha where it varies, else the largest of the colour channels.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image, is cut short, or has more than 8 bits per channel.
    """
    image = read_image(path)
    if image.shape[-1] == 4 and image[..., 3].min() != image[..., 3].max():
        return image[..., 3]
    return image[..., :3].max(axis=-1)


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


def find_masks(folder: Path, images: Sequence[Path], chosen: Optional[Sequence[int]] = None) -> Files:
    """Masks of photos in a folder, which may not be there: NAME.png or NAME.jpg.png (COLMAP's) for NAME.jpg.

    Photos of several folders have their masks in the same folders below this one; or in this one itself, where no two
    of the chosen photos have one name.

    Args:
        folder: of the masks.
        images: (N) all photos of the scene.
        chosen: which of them need masks; None: all.

    Returns:
        (N) files; None where there is none, or none is needed.

    Raises:
        ValueError: a mask whose name fits several photos of different folders.
    """
    root = Path(os.path.commonpath([image.parent for image in images]))
    found: List[Optional[Path]] = [None] * len(images)
    by_name: Dict[Path, Path] = {}
    for index in range(len(images)) if chosen is None else chosen:
        image = images[index]
        path = _first(folder / image.parent.relative_to(root), image)
        if path is None and image.parent != root:
            path = _first(folder, image)
            other = None if path is None else by_name.setdefault(path, image)
            if other is not None and other != image:
                raise ValueError(
                    f"{path}: expected a mask of one photo, found {other} and {image} of this name; put masks into "
                    "folders called like those of the photos"
                )
        found[index] = path
    return tuple(found)


def _first(folder: Path, image: Path) -> Optional[Path]:
    names = [name + suffix for name in (image.stem, image.name) for suffix in IMAGE_SUFFIXES]
    return next((folder / name for name in names if (folder / name).is_file()), None)
