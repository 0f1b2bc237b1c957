"""Values of files as they stand in messages: short, however large or deep they are."""

from __future__ import annotations

import itertools
from typing import Any, Mapping

SHOWN_CHARACTERS = 60
_ENTRIES, _DEPTH = 6, 3
_INTEGER_BITS = 200


def shown(value: Any, most: int = SHOWN_CHARACTERS) -> str:
    """At most so many characters of a value's text, made without the text of all of it."""
    text = _text(value, most, _DEPTH)
    return text if len(text) <= most else text[: most - 3] + "..."


def _text(value: Any, most: int, depth: int) -> str:
    if isinstance(value, (str, bytes)):
        return repr(value[: most + 1])
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        # Python refuses to write some of them out.
        return f"a whole number of {value.bit_length()} bits"
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return repr(value)
    if depth == 0:
        return "..."
    few = list(itertools.islice(value, _ENTRIES))
    if isinstance(value, Mapping):
        parts = [f"{_text(key, most, depth - 1)}: {_text(value[key], most, depth - 1)}" for key in few]
    else:
        parts = [_text(entry, most, depth - 1) for entry in few]
    parts += ["..."] if len(value) > _ENTRIES else []
    begin, end = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
    return f"{begin}{', '.join(parts)}{end}"
