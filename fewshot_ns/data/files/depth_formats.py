"""Depth files: how each kind is decoded, and what it says about the meaning of its values. A new kind is one entry."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.exr import read_exr_depth
from fewshot_ns.data.files.images import image_size
from fewshot_ns.data.records.metadata import Polarity
from fewshot_ns.utils.arrays import array_names, read_array, read_arrays
from fewshot_ns.utils.reading import reading

NPZ_KEY = "depth"
"""Array read from an .npz that holds more than one."""
MIDAS_FOLDERS = tuple(f"depth_midas_temp_{model}" for model in ("DPT_Hybrid", "DPT_Large", "MiDaS", "MiDaS_small"))
"""Folders that SparseNeRF's own script writes, with `LLFF/<scene>` and `DTU/<scan>` below: inverse depth."""
_SILENT = 0
"""OpenCV's log level without any lines."""
_LOGGING: Any = cv2 if hasattr(cv2, "getLogLevel") else cv2.utils.logging  # pyright: ignore[reportAttributeAccessIssue]
"""Where OpenCV has it: release 5, which another package may lay over the one of nerfstudio's pin, has moved it."""
_PFM_HEADER = re.compile(rb"Pf\n\s*(\d{1,9})\s+(\d{1,9})\s+\S{1,40}\s")
"""Width, height and scale after the mark of a PFM of one channel."""
_GREY_TOLERANCE = 12
"""By how much the channels of a grey JPEG may differ, in steps of 8 bits."""


@dataclass(frozen=True)
class DepthFormat:
    """How one kind of file is read."""

    read: Callable[[Path], npt.NDArray[Any]]
    """Path -> array as stored."""
    polarity: Optional[Polarity]
    """What the values mean unless the user or the layout says otherwise; None where the format leaves it open."""


def _decode(path: Path, what: str) -> npt.NDArray[Any]:
    with reading(path, what, "a file that cannot be decoded", also=(cv2.error,)), quiet_opencv():
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path}: expected {what}, found a file that cannot be decoded")
    return image


def _read_png(path: Path) -> npt.NDArray[Any]:
    image_size(path)  # raises before OpenCV asks for the memory that a header claims
    return _decode(path, "a 16-bit PNG")


def _read_pfm(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        start = file.read(128)
    if not start.startswith(b"Pf"):
        raise ValueError(f"{path}: expected a PFM file of one channel, which starts with 'Pf', found {start[:2]!r}")
    header = _PFM_HEADER.match(start)
    if header is None:
        raise ValueError(f"{path}: expected width, height and scale of a PFM file, found a damaged header")
    held, claimed = os.path.getsize(path) - header.end(), 4 * int(header[1]) * int(header[2])
    if claimed > held:
        raise ValueError(
            f"{path}: expected the {claimed} bytes of {int(header[1])}x{int(header[2])} pixels, as the header of the "
            f"PFM file says, found {held}"
        )
    return _decode(path, "a PFM file")


def _read_jpeg(path: Path) -> npt.NDArray[Any]:
    image_size(path)
    image = _decode(path, "a grey JPEG")
    if image.ndim == 3:
        apart = int(np.ptp(image.astype(np.int16), axis=-1).max())
        if apart > _GREY_TOLERANCE:
            raise ValueError(
                f"{path}: expected a grey depth map, found colours (channels {apart} steps apart); "
                "a picture of depth in false colours does not say what is nearer"
            )
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return image


def _read_npy(path: Path) -> npt.NDArray[Any]:
    return read_array(path, "a numeric array in .npy form")


def _read_npz(path: Path) -> npt.NDArray[Any]:
    names = array_names(path, "arrays in .npz form")
    if len(names) != 1 and NPZ_KEY not in names:
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise ValueError(f"{path}: expected one array, or one named {NPZ_KEY!r}, found {names[:8]}{more}")
    name = names[0] if len(names) == 1 else NPZ_KEY
    return read_arrays(path, "arrays in .npz form", [name])[name]


_JPEG = DepthFormat(_read_jpeg, None)
FORMATS: Dict[str, DepthFormat] = {
    # The layout of SparseNeRF: DPT's inverse depth, each image stretched to 0..65535.
    ".png": DepthFormat(_read_png, "inverse_depth"),
    ".npy": DepthFormat(_read_npy, None),
    ".npz": DepthFormat(_read_npz, None),
    ".pfm": DepthFormat(_read_pfm, None),
    ".exr": DepthFormat(read_exr_depth, None),
    # Only in layouts that are known to hold depth in 8 bits; see `read_depth_file`.
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
}
SUFFIXES: Tuple[str, ...] = (".png", ".npy", ".npz", ".pfm", ".exr")
"""Formats of a depth map in general, in the order in which they are looked for."""
EIGHT_BIT_SUFFIXES: Tuple[str, ...] = (".png", ".jpg", ".jpeg", ".npy", ".npz", ".pfm", ".exr")
"""Formats looked for in a layout that may hold depth in 8 bits."""


def depth_format(path: Path) -> DepthFormat:
    """Returns the entry of `FORMATS` for a file.

    Raises:
        ValueError: an unknown suffix.
    """
    entry = FORMATS.get(path.suffix.lower())
    if entry is None:
        raise ValueError(f"{path}: expected a depth prior as {', '.join(SUFFIXES)}, found {path.suffix or 'no suffix'}")
    return entry


def implied_polarity(path: Path) -> Optional[Polarity]:
    """What a file's values mean by its folder or its format; None where neither says it."""
    if any(parent.name in MIDAS_FOLDERS for parent in path.parents):
        return "inverse_depth"
    return depth_format(path).polarity


def resolve_polarity(path: Path, polarity: Optional[Polarity]) -> Polarity:
    """Returns the polarity of a file: the given one, else the one that its folder or format implies.

    Raises:
        ValueError: nothing says it.
    """
    resolved = polarity or implied_polarity(path)
    if resolved is None:
        raise ValueError(
            f"{path}: a {path.suffix} file does not say whether larger values are nearer; "
            "give --depth-polarity inverse_depth (larger = nearer) or --depth-polarity distance (larger = farther)"
        )
    return resolved


def read_depth_file(path: Path, eight_bit: bool = False) -> npt.NDArray[np.float32]:
    """Reads a depth map as it is stored.

    Args:
        path: A file of one of `FORMATS`.
        eight_bit: Whether the layout is known to hold depth in 8 bits.

    Returns:
        (H, W) float32, at least 2x2; any value may be in it.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: unknown format, unreadable file, wrong type or shape.
    """
    entry = depth_format(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a depth prior, found no such file")
    with reading(path, f"a readable {path.suffix} depth prior"):
        stored = entry.read(path)
    if stored.dtype.kind not in "uif":
        raise ValueError(f"{path}: expected real numbers, found dtype {stored.dtype}")
    if entry.read in (_read_png, _read_jpeg) and stored.dtype != np.uint16 and not eight_bit:
        raise ValueError(f"{path}: expected a PNG of 16 bits, found {stored.dtype} of shape {stored.shape}")

    found_shape = stored.shape
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    elif stored.ndim == 3 and stored.shape[0] == 1:
        stored = stored[0]
    if stored.ndim != 2 or min(stored.shape) < 2:
        raise ValueError(f"{path}: expected one depth value per pixel, shape (H, W), found shape {found_shape}")
    return stored.astype(np.float32)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Suppresses OpenCV's own lines about damaged files; the caller raises one error instead."""
    before = _LOGGING.getLogLevel()
    _LOGGING.setLogLevel(_SILENT)
    try:
        yield
    finally:
        _LOGGING.setLogLevel(before)
