"""A least-recently-used cache, bounded by the total size of its values."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Callable, Generic, Hashable, Tuple, TypeVar

Value = TypeVar("Value")


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
        self.hits = 0
        """Number of calls of `get` that found their value."""
        self.misses = 0
        """Number of calls of `get` that had to compute it."""
        self._size_of = size_of
        self._kept: OrderedDict[Hashable, Tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, computed by `make` and kept where it is missing. An error of `make` keeps nothing."""
        with self._lock:
            if key in self._kept:
                self.hits += 1
                self._kept.move_to_end(key)
                return self._kept[key][0]
            self.misses += 1
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
