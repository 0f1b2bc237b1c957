"""A cache that forgets what was not asked for the longest, bounded by the sizes of what it keeps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Callable, Generic, Hashable, Tuple, TypeVar

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """Least-recently-used cache; may be used from several threads.

    Args:
        max_size: sum of the sizes kept, in the unit of `size_of`; 0 keeps nothing.
        size_of: value -> its size; by default each counts 1.

    Raises:
        ValueError: a negative `max_size`.
    """

    def __init__(self, max_size: int, size_of: Callable[[Value], int] = lambda value: 1) -> None:
        if max_size < 0:
            raise ValueError(f"expected a cache of size 0 or more, got {max_size}")
        self.max_size = max_size
        self.size = 0
        """Sum of the sizes of what is kept now."""
        self.hits = 0
        """How often a value was found."""
        self.misses = 0
        """How often a value had to be made."""
        self._size_of = size_of
        self._kept: OrderedDict[Hashable, Tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; made, and kept where it fits, if it is not there. An error of `make` keeps nothing."""
        with self._lock:
            if key in self._kept:
                self.hits += 1
                self._kept.move_to_end(key)
                return self._kept[key][0]
            self.misses += 1
        # Made outside of the lock, so that threads can decode at the same time.
        value = make()
        size = self._size_of(value)
        with self._lock:
            if size <= self.max_size and key not in self._kept:
                self._kept[key] = (value, size)
                self.size += size
                while self.size > self.max_size:
                    self.size -= self._kept.popitem(last=False)[1][1]
        return value
