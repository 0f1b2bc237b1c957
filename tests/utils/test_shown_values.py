"""Values in messages are short, and cost nothing to make."""

from __future__ import annotations

import time
from typing import Any, Dict, List

from fewshot_ns.utils.shown_values import shown


def test_small_values_are_as_python_shows_them() -> None:
    for value in (1, -2.5, "a", b"a", None, True, [1, "a"], {"a": [1]}, [], {}, (1, 2)):
        assert shown(value) == repr(value)


def test_large_and_deep_ones_are_cut_in_no_time() -> None:
    bomb: List[Any] = ["x"]
    for _ in range(60):
        bomb = [bomb] * 9
    itself: Dict[str, Any] = {}
    itself["a"] = itself
    start = time.process_time()
    for value in (bomb, itself, "x" * 10**7, {n: n for n in range(10**5)}, list(range(10**6)), 2**10**6, [2**20_000]):
        assert len(shown(value)) <= 60
    assert "2" in shown(2**20_000) and time.process_time() - start < 0.5
