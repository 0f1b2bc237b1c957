"""Checks the counts in COLMAP's binary files (cameras.bin, images.bin, points3D.bin, as colmap.github.io/format.html
lists them) against the bytes that are there, before a reader asks for what they claim."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Callable, Dict

_CAMERA, _IMAGE, _POINT = 24, 64, 43
"""Bytes of an entry before what it counts: camera parameters; the name of an image; the track of a point."""
_SIGHTING, _TRACK_ENTRY = 24, 8


class _Bytes:
    """A file's content, of which pieces are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def skip(self, count: int, what: str) -> None:
        self.at += count
        if self.at > len(self.data):
            raise ValueError(f"{what} goes beyond the end of the file, {len(self.data)} bytes")

    def count(self, what: str, each: int) -> int:
        """A number of entries that take at least `each` bytes."""
        at = self.at
        self.skip(8, what)
        (number,) = struct.unpack_from("<Q", self.data, at)
        if number * each > len(self.data) - self.at:
            raise ValueError(f"{what} is {number}, more than the {len(self.data) - self.at} bytes that follow can hold")
        return number


def check_counts(path: Path) -> None:
    """Checks that every count in a binary file fits into it.

    Args:
        path: cameras.bin, images.bin or points3D.bin; others are not looked at.

    Raises:
        OSError: it cannot be read.
        ValueError: a count that is too large, or a camera of an unknown model; the text does not name the file.
    """
    walk = _WALKS.get(path.name)
    if walk is not None:
        walk(_Bytes(path.read_bytes()))


def _cameras(found: _Bytes) -> None:
    from nerfstudio.data.utils.colmap_parsing_utils import CAMERA_MODEL_IDS

    for number in range(found.count("the number of cameras", _CAMERA)):
        at = found.at
        found.skip(_CAMERA, f"camera {number}")
        model = struct.unpack_from("<i", found.data, at + 4)[0]
        if model not in CAMERA_MODEL_IDS:
            raise ValueError(f"camera {number} is of the unknown model {model}")
        found.skip(8 * CAMERA_MODEL_IDS[model].num_params, f"camera {number}")


def _images(found: _Bytes) -> None:
    for number in range(found.count("the number of images", _IMAGE)):
        found.skip(_IMAGE, f"image {number}")
        end = found.data.find(b"\0", found.at)
        if end < 0:
            raise ValueError(f"the name of image {number} does not end")
        found.at = end + 1
        found.skip(_SIGHTING * found.count(f"the number of points in image {number}", _SIGHTING), f"image {number}")


def _points(found: _Bytes) -> None:
    for number in range(found.count("the number of points", _POINT)):
        found.skip(_POINT, f"point {number}")
        found.skip(_TRACK_ENTRY * found.count(f"the track of point {number}", _TRACK_ENTRY), f"point {number}")


_WALKS: Dict[str, Callable[[_Bytes], None]] = {"cameras.bin": _cameras, "images.bin": _images, "points3D.bin": _points}
