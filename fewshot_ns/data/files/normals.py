"""Measured surface normals on disk: where they are looked for, and how they are read.

A PNG holds a coordinate in each channel, 0 to 255 for -1 to 1; an EXR file holds the coordinates as they are. Grey,
black and transparent pixels hold no normal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.files.exr import read_exr_vectors
from fewshot_ns.data.files.images import check_proportions, read_image, resize_float
from fewshot_ns.data.files.photo_files import alike_words, photo_names
from fewshot_ns.data.files.scene_folder import Files
from fewshot_ns.data.records.photo_name import PhotoName

NORMAL_PLACES = (
    "{folder}/{stem}_normal_0001",
    "{folder}/{stem}_normal0001",
    "{folder}/{stem}_normal",
    "{parent}/omni/{stem}_normal",
    "{parent}/normals/{stem}_normal",
    "{parent}/normals/{stem}",
)
"""Where the normals of an image may lie: beside it (Blender's names first), in Omnidata's folder or their own."""

_LENGTHS = (0.5, 1.25)
"""A pixel whose vector is shorter, such as grey, or longer, such as black, holds no normal."""


def find_normals(images: Sequence[Path]) -> Files:
    """Files of the images' normals, None for those without.

    Raises:
        ValueError: a file that may be of several images.
    """
    found: List[Optional[Path]] = []
    owners: Dict[Path, PhotoName] = {}
    for photo in photo_names(images):
        path = next((path for path in _places(photo) if path.is_file()), None)
        found.append(path)
        if path is not None and owners.setdefault(path, photo).path != photo.path:
            raise ValueError(f"{path}: expected the normals of one photo, found {alike_words(photo, path.parent)}")
    return tuple(found)


def _places(photo: PhotoName) -> Iterator[Path]:
    """Where the normals of a photo may lie: of folders of normals, by the photo's path, then by its name alone."""
    image = photo.file
    root, inner = photo.folder.parent, str(Path(photo.path).with_suffix(""))
    for pattern in NORMAL_PLACES:
        for parent, stem in ((root, inner), (image.parent.parent, image.stem), (root, image.stem)):
            if "{parent}" in pattern or stem == image.stem:
                name = pattern.format(folder=image.parent, parent=parent, stem=stem)
                yield from (Path(f"{name}{suffix}") for suffix in (".exr", ".png"))


def read_normals(path: Path, size: Size) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Reads normals in the axes of their file.

    Args:
        path: 8-bit RGB image, or EXR.
        size: (height, width) of the camera.

    Returns:
        (H, W, 3) unit vectors, zero where there is none, and (H, W) where there is one.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is no image or has other proportions.
    """
    if path.suffix.lower() == ".exr":
        vectors = np.nan_to_num(read_exr_vectors(path), posinf=0.0, neginf=0.0).astype(np.float32)
    else:
        image = read_image(path)
        vectors = (image[..., :3] / 127.5 - 1).astype(np.float32)
        vectors[(image[..., 3:] == 0).any(-1)] = 0.0
    check_proportions(path, vectors.shape, size, "the image")
    vectors[np.linalg.norm(vectors, axis=-1) > _LENGTHS[1]] = 0.0
    vectors = resize_float(vectors, size, "area")
    length = np.linalg.norm(vectors, axis=-1)
    valid = length > _LENGTHS[0]
    return np.where(valid[..., None], vectors / np.where(valid, length, 1)[..., None], 0).astype(np.float32), valid
