"""The bounded cache: what it keeps, what it forgets, and that errors and threads do no harm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fewshot_ns.utils.cache import LRUCache


def test_it_forgets_what_was_not_used_the_longest():
    cache = LRUCache(10, len)
    for key in "abc":
        cache.get(key, lambda: "xxx")
    cache.get("a", lambda: pytest.fail("a was kept"))
    cache.get("d", lambda: "xxx")
    assert (cache.size, len(cache)) == (9, 3)
    assert cache.get("a", lambda: "other") == "xxx"
    assert cache.get("b", lambda: "other") == "other"


def test_what_is_too_large_is_given_but_not_kept():
    cache = LRUCache(2, len)
    cache.get("small", lambda: "x")
    assert cache.get("large", lambda: "xxx") == "xxx"
    assert cache.get("large", lambda: "yyy") == "yyy"
    assert cache.get("small", lambda: "y") == "x"


def test_an_error_keeps_nothing():
    cache = LRUCache(10)

    def broken():
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        cache.get("a", broken)
    assert cache.get("a", lambda: 1) == 1 and cache.size == 1


def test_threads_do_not_lose_count():
    cache = LRUCache(20, lambda value: 3)

    def work(start: int) -> None:
        for step in range(300):
            key = (start + step * 7) % 11
            assert cache.get(key, lambda key=key: key) == key

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert cache.size == 3 * len(cache) <= 20


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="size 0 or more, got -1"):
        LRUCache(-1)
