"""Reading numpy's .npy and .npz: never pickles, and nothing that is larger than its file can be.

A header of 80 bytes may claim any size, for which numpy would ask the system at once.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Sequence, Tuple, Type

import numpy as np
import numpy.typing as npt

from fewshot_ns.utils.reading import reading

_NPY, _ZIP = b"\x93NUMPY", b"PK"
DEFLATE_RATIO = 1032
"""Bytes that a byte of deflated data may stand for at most (zlib's technical notes)."""
_MOST_UNPACKED = 1 << 33
"""Bytes of a compressed array beyond which it is no array but a trap, 8 GiB."""

Array = npt.NDArray[Any]


def read_array(path: Path, expected: str, kind: Type[Exception] = ValueError) -> Array:
    """The array of a .npy file.

    Args:
        path: the file.
        expected: what it should hold, for the message.
        kind: class of the error.

    Raises:
        FileNotFoundError: no such file.
        kind: no .npy file, a damaged one, one of Python objects, or one that claims more than it holds.
    """
    with reading(path, expected, kind=kind):
        with path.open("rb") as stream:
            start = stream.read(len(_NPY))
            if start.startswith(_ZIP):
                raise ValueError("an archive of arrays, .npz, under another name")
            stream.seek(0)
            dtype, shape = _header(stream)
            _check_size(dtype, shape, os.path.getsize(path) - stream.tell())
        return np.load(path, allow_pickle=False)


def read_arrays(
    path: Path, expected: str, names: Optional[Sequence[str]] = None, kind: Type[Exception] = ValueError
) -> Dict[str, Array]:
    """Arrays of a .npz file by name.

    Args:
        path: the file.
        expected: what it should hold, for the message.
        names: those that are wanted; None: all.
        kind: class of the error.

    Raises:
        FileNotFoundError: no such file.
        kind: no .npz file, a damaged one, an entry that is missing, of Python objects, or that claims more than the
            file can hold.
    """
    with reading(path, expected, kind=kind):
        _check_archive(path, names)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in (archive.files if names is None else names)}


def array_names(path: Path, expected: str) -> List[str]:
    """Names of the arrays of a .npz file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no .npz file, or one whose directory is damaged.
    """
    with reading(path, expected), _opened(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _opened(path: Path) -> zipfile.ZipFile:
    with path.open("rb") as stream:
        start = stream.read(len(_NPY))
    if start == _NPY:
        raise ValueError("a single array, .npy, under another name")
    # The directory of an archive is at its end; numpy asks for a beginning as well.
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise ValueError("File is not a zip file")
    return zipfile.ZipFile(path)


def _check_archive(path: Path, names: Optional[Sequence[str]]) -> None:
    size = os.path.getsize(path)
    with _opened(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            if info.compress_size > size or info.file_size > DEFLATE_RATIO * (info.compress_size + 1):
                raise ValueError(f"{name!r} claims {info.file_size} bytes in a file of {size}")
            if info.compress_type != zipfile.ZIP_STORED and info.file_size > _MOST_UNPACKED:
                raise ValueError(f"{name!r} unpacks to {info.file_size} bytes, from a file of {size}")
            with archive.open(info) as stream:
                dtype, shape = _header(stream)  # type: ignore[arg-type]
                _check_size(dtype, shape, info.file_size - stream.tell())


def _header(stream: BinaryIO) -> Tuple[np.dtype, Tuple[int, ...]]:
    """Number format and shape that stand at the start of an array."""
    version = np.lib.format.read_magic(stream)
    # Versions 2 and 3 differ in the alphabet of the names of fields, of which arrays of numbers have none.
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("Python objects, which are never loaded")
    return dtype, shape


def _check_size(dtype: np.dtype, shape: Tuple[int, ...], held: int) -> None:
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize > held:
        listed = "x".join(str(side) for side in shape[:8])
        raise ValueError(f"the header says {dtype} of shape {listed}, beyond the {held} bytes that follow")
