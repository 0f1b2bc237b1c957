"""What is kept instead of computed again: folders for later runs, .npz files in them, and a cache in memory.

The files are written whole, and read as absent where they are damaged.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict, Generic, Hashable, Mapping, Optional, Tuple, TypeVar

import numpy as np
import numpy.typing as npt

from fewshot_ns.utils.arrays import read_arrays
from fewshot_ns.utils.files import replacing

CACHE_ENV = "FEWSHOT_CACHE"
"""Environment variable that names the cache folder."""


Value = TypeVar("Value")


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
        return read_arrays(path, "an entry of the cache", names)
    except (OSError, ValueError):
        return None


class LRUCache(Generic[Value]):
    """Least-recently-used cache; safe to use from several threads.

    Args:
        max_size: limit of the total size, in the unit of `size_of`; 0 keeps nothing.
        size_of: size of a value; by default each counts 1.

    Raises:
        ValueError: a negative `max_size`.
    """

    def __init__(self, max_size: int, size_of: Callable[[Value], int] = lambda value: 1) -> None:
        if max_size < 0:
            raise ValueError(f"expected a cache of size 0 or more, got {max_size}")
        self.max_size = max_size
        self.size = 0
        """Total size of the values in the cache."""
        self._size_of = size_of
        self._kept: OrderedDict[Hashable, Tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, computed by `make` and kept where it is missing. An error of `make` keeps nothing."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        # Computed outside the lock, so that threads can decode at the same time.
        value = make()
        size = self._size_of(value)
        with self._lock:
            if size <= self.max_size and key not in self._kept:
                self._kept[key] = (value, size)
                self.size += size
                while self.size > self.max_size:
                    self.size -= self._kept.popitem(last=False)[1][1]
        return value
