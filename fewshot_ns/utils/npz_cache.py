"""Entries of a cache on disk: .npz files that are written whole, and read as absent where they are damaged."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np
import numpy.typing as npt

from fewshot_ns.utils.files import replacing


def write_npz(path: Path, arrays: Mapping[str, npt.ArrayLike], compressed: bool = False) -> None:
    """Writes arrays by name, atomically; makes the folder."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        (np.savez_compressed if compressed else np.savez)(stream, **{k: np.asarray(v) for k, v in arrays.items()})


def read_npz(path: Path, *names: str) -> Optional[Dict[str, npt.NDArray[Any]]]:
    """The named arrays of an entry; None where there is no such file, it is damaged or lacks one of them."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile, zipfile.LargeZipFile):
        return None
