"""Depth maps on disk: polarity, validity, names, and resampling to the size of the cameras.

A map says which of two pixels is nearer; its scale and shift mean nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.files.depth_formats import EIGHT_BIT_SUFFIXES, SUFFIXES, read_depth_file, resolve_polarity
from fewshot_ns.data.files.images import check_proportions
from fewshot_ns.data.files.photo_files import FileNames, FilesOfPhotos, files_of_photos, photo_names
from fewshot_ns.data.records.metadata import DepthEncoding, Polarity
from fewshot_ns.data.records.photo_name import PhotoName

DepthNames = FileNames
"""Stem of an image -> stems that its depth map may have, preferred first."""


@dataclass(frozen=True)
class DepthMap:
    """One depth map at the size of its camera."""

    values: npt.NDArray[np.float32]
    """(H, W) in the units of the file, 0 where invalid."""
    valid: npt.NDArray[np.bool_]
    """(H, W), False where the map says nothing."""
    polarity: Polarity
    """'inverse_depth': larger values are nearer; 'distance': larger values are farther."""

    def nearness(self) -> npt.NDArray[np.float32]:
        """Returns (H, W), larger = nearer whatever the polarity; meaningless where not valid."""
        return self.values if self.polarity == "inverse_depth" else -self.values


def resample_depth(
    values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], size: Size, nearest: bool = False
) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Bilinear resampling (cv2.INTER_LINEAR) that never mixes invalid pixels in.

    Args:
        values: (H, W) float32, finite; its value where not valid does not matter.
        valid: (H, W).
        size: (height, width) wanted.
        nearest: Takes the nearest pixel instead, which invents no depth between a surface and what lies behind it.

    Returns:
        values and validity at the wanted size; a pixel is valid only where every pixel that it is made of is.
    """
    values = np.where(valid, values, np.float32(0))
    if values.shape == tuple(size):
        return values, valid
    height, width = size
    if nearest:
        rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
        return values[rows[:, None], columns], valid[rows[:, None], columns]
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    # The weight of the invalid pixels is a sum of exact zeros where there are none, so the comparison is exact.
    invalid_weight = cv2.resize((~valid).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    resized_valid = invalid_weight == 0
    return np.where(resized_valid, resized, np.float32(0)).astype(np.float32), resized_valid


def read_depth_map(
    path: Path, polarity: Optional[Polarity], size_hw: Size, encoding: Optional[DepthEncoding] = None
) -> DepthMap:
    """Reads a depth map of any resolution and brings it to the size of its camera.

    Args:
        path: A file of one of the known formats.
        polarity: What its values mean; None takes what its folder or format implies (16-bit PNG: inverse depth).
        size_hw: (height, width) of the camera.
        encoding: What else is known of the file: 8 bits, largest valid value.

    Returns:
        The map. Zero, negative, infinite and NaN values are invalid.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: unknown format or polarity, unreadable file, wrong shape or proportions, or no valid pixel where
            the encoding does not allow that.
    """
    path = Path(path)
    encoding = DepthEncoding() if encoding is None else encoding
    values, valid = read_valid_depth(path, size_hw, encoding)
    polarity = resolve_polarity(path, polarity or encoding.polarity)
    values, valid = resample_depth(values, valid, size_hw)
    if not valid.any() and not encoding.may_be_empty:
        raise ValueError(f"{path}: no valid pixel is left at {size_hw[1]}x{size_hw[0]} pixels; the prior is too sparse")
    return DepthMap(values, valid, polarity)


def read_valid_depth(
    path: Path, size_hw: Size, encoding: DepthEncoding
) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Values (H, W) as stored, and which of them are valid, at the resolution of the file.

    Args:
        path: A depth map.
        size_hw: (height, width) of the camera, for its proportions.
        encoding: What is known of the file.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: unreadable file, wrong shape or proportions, or no valid pixel where the encoding does not
            allow that.
    """
    values = read_depth_file(path, encoding.eight_bit)
    check_proportions(path, values.shape, size_hw, "the image")
    valid = np.isfinite(values) & (values > 0)
    if encoding.min_depth is not None:
        valid &= values >= encoding.min_depth
    if encoding.max_depth is not None:
        valid &= values <= encoding.max_depth
    if not valid.any() and not encoding.may_be_empty:
        limit = "" if encoding.max_depth is None else f" up to {encoding.max_depth:g}"
        raise ValueError(f"{path}: expected some positive finite values{limit}, found none among {values.size} pixels")
    return values, valid


def usual_names(stem: str) -> Tuple[str, ...]:
    """`depth_<name of the image>` (the layout of SparseNeRF) and `<name of the image>`."""
    return f"depth_{stem}", stem


def find_depth_maps(
    folder: Path, images: Sequence[Path], names: DepthNames = usual_names, eight_bit: bool = False
) -> Tuple[Optional[Path], ...]:
    """Looks up the depth map of each image in a folder: by its path below the folder of all images, `left/0005.npy`,
    or by its bare name where no other image has it.

    Args:
        folder: Where to look; it need not exist.
        images: Images of the scene.
        names: Names that the maps may have, without suffix; each is tried with every known suffix.
        eight_bit: Whether the layout may hold depth in 8 bits, so that JPEG files count.

    Returns:
        One entry per image; None where the folder holds no map of it.

    Raises:
        ValueError: a map that may be of several images.
    """
    return depth_maps_of_photos(folder, photo_names(images), names, eight_bit).check("depth map")


def depth_maps_of_photos(
    folder: Path, photos: Sequence[PhotoName], names: DepthNames = usual_names, eight_bit: bool = False
) -> FilesOfPhotos:
    """As `find_depth_maps`, of photos whose names are known; maps that may be of several are no error yet."""
    return files_of_photos(folder, photos, names, EIGHT_BIT_SUFFIXES if eight_bit else SUFFIXES)
