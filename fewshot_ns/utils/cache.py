"""Folders in which computed results are kept for later runs, and the .npz files in them.

The files are written whole, and read as absent where they are damaged.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np
import numpy.typing as npt

from fewshot_ns.utils.files import replacing

CACHE_ENV = "FEWSHOT_CACHE"
"""Environment variable that names the cache folder."""


def cache_folder(kind: str, given: Optional[Path] = None) -> Path:
    """Cache folder of one kind of results; it is not created.

    Args:
        kind: name of the kind, one word.
        given: the user's own folder; None: a folder in FEWSHOT_CACHE, else in the user's cache folder.
    """
    if given is not None:
        return given.expanduser()
    if os.environ.get(CACHE_ENV):
        return Path(os.environ[CACHE_ENV]).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fewshot_ns" / kind


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
