"""JSON files that anybody may have written: read within limits, and held against what their keys may hold."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence, Tuple

from typing_extensions import TypeGuard

from fewshot_ns.utils.shown_values import SHOWN_CHARACTERS, shown

MOST_BYTES = 1 << 29
"""Size above which a file is refused; a transforms.json of ten thousand photos has some ten million bytes."""
MOST_LEVELS = 32
"""How deep lists and objects may lie in each other."""


def shown_keys(values: Mapping[str, Any]) -> str:
    """The keys of an object in a message, the first ones of many."""
    keys = sorted(values)
    more = f" and {len(keys) - 12} more" if len(keys) > 12 else ""
    return f"[{', '.join(shown(key) for key in keys[:12])}]{more}"


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, UTF-16 or UTF-32, with or without the mark that editors of Windows leave.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, says two things under one key, or is larger or deeper than any such file.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise OSError(f"{path}: expected JSON, found a file that cannot be read ({error.strerror or error})") from error
    if size > MOST_BYTES:
        raise ValueError(f"{path}: expected JSON of at most {MOST_BYTES >> 20} MB, found {size >> 20} MB")
    try:
        content = json.loads(data, object_pairs_hook=_object)
    except _TwiceError as error:
        raise ValueError(f"{path}: expected each key once, found {error} twice, with two values") from error
    except RecursionError as error:
        raise ValueError(f"{path}: expected JSON of at most {MOST_LEVELS} levels, found more") from error
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{path}: expected JSON, found {_reason(error)}") from error
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > MOST_LEVELS:
            raise ValueError(f"{path}: expected JSON of at most {MOST_LEVELS} levels, found more")
        level = [child for node in level for child in _children(node) if isinstance(child, (list, dict))]
    return content


def read_json_object(path: Path) -> Dict[str, Any]:
    """As `read_json`, of a file that holds an object.

    Raises:
        OSError: it cannot be read.
        ValueError: see `read_json`, or it holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


class _TwiceError(Exception):
    """A key with two values."""


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        for key, value in pairs:
            if values[key] != value:
                raise _TwiceError(shown(key))
    return values


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 2 * SHOWN_CHARACTERS else f"{text[: 2 * SHOWN_CHARACTERS]}..."


class UnfitError(Exception):
    """A value that is not of its kind; never leaves this module's `checked`."""


@dataclass(frozen=True)
class Kind:
    """What a key may hold."""

    words: str
    """For the message: 'expected <words> for <key>, found <value>'."""
    take: Callable[[Any], Any]
    """The value as it is used; raises `UnfitError`."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a JSON value is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _number(value: Any) -> Any:
    if not is_number(value):
        raise UnfitError
    return value


def _number_or_text(value: Any) -> Any:
    if not isinstance(value, str):
        return _number(value)
    try:
        return _number(float(value))
    except ValueError as error:
        raise UnfitError from error


def _positive(value: Any) -> Any:
    # One over it is a number too.
    if not _number(value) > 1e-300:
        raise UnfitError
    return value


def _is_a(*types: type) -> Callable[[Any], Any]:
    def take(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UnfitError
        return value

    return take


def _file_name(value: Any) -> Any:
    if not isinstance(value, str) or not is_file_name(value):
        raise UnfitError
    return value


def is_file_name(name: str) -> bool:
    """Whether the name of a file is one that any system takes: neither empty nor a folder's alone, and not too long."""
    parts = name.replace("\\", "/").rstrip("/").split("/")
    try:
        short = all(len(os.fsencode(part)) <= 255 for part in parts) and len(os.fsencode(name)) <= 2048
    except UnicodeEncodeError:
        return False
    return short and "\0" not in name and parts[-1] not in ("", ".", "..")


NUMBER = Kind("a number", _number)
NUMBER_OR_TEXT = Kind("a number", _number_or_text)
"""A number, or the text of one, which is taken as a float."""
POSITIVE = Kind("a positive number", _positive)
WHOLE = Kind("a whole number", _is_a(int))
TEXT = Kind("a text", _is_a(str))
SWITCH = Kind("true or false", _is_a(bool))
OBJECT = Kind("an object", _is_a(dict))
LIST = Kind("a list", _is_a(list))
FILE_NAME = Kind("the name of a file", _file_name)


def one_of(*names: str) -> Kind:
    """One of some words."""

    def take(value: Any) -> Any:
        if not isinstance(value, str) or value not in names:
            raise UnfitError
        return value

    return Kind(f"one of {', '.join(names)}", take)


def list_of(kind: Kind, words: str) -> Kind:
    """A list whose entries are all of one kind."""

    def take(value: Any) -> Any:
        return [kind.take(entry) for entry in _is_a(list)(value)]

    return Kind(words, take)


def numbers(words: str, *shapes: Sequence[int]) -> Kind:
    """Finite numbers as lists in lists, of one of some shapes, in which -1 stands for any size."""

    def take(value: Any) -> Any:
        # Not above: commands that read no matrix start without it.
        import numpy as np

        try:
            array = np.asarray(_is_a(list)(value))
        except (ValueError, OverflowError) as error:
            raise UnfitError from error
        fits = any(
            len(shape) == array.ndim
            and all(want in (-1, found) for want, found in zip(shape, array.shape, strict=True))
            for shape in shapes
        )
        if array.dtype.kind not in "iuf" or not fits or not np.isfinite(array).all():
            raise UnfitError
        return value

    return Kind(words, take)


def checked(
    values: Mapping[str, Any], kinds: Mapping[str, Kind], where: str, required: Sequence[str] = ()
) -> Dict[str, Any]:
    """An object whose known keys hold what they may hold: without those that are null, which count as absent; keys
    that nobody knows stay as they are.

    Args:
        values: The object.
        kinds: The known keys.
        where: File, and entry in it, for messages.
        required: Keys that must be there.

    Raises:
        ValueError: a value of another kind, or a key that is missing.
    """
    taken: Dict[str, Any] = {}
    for key, value in values.items():
        kind = kinds.get(key)
        if kind is None:
            taken[key] = value
        elif value is not None:
            try:
                taken[key] = kind.take(value)
            except UnfitError as error:
                raise ValueError(f"{where}: expected {kind.words} for {key!r}, found {shown(value)}") from error
    lacking = [key for key in required if key not in taken]
    if lacking:
        raise ValueError(
            f"{where}: expected {kinds[lacking[0]].words} for {lacking[0]!r}, found {shown_keys(values)}"
            if lacking[0] not in values
            else f"{where}: expected {kinds[lacking[0]].words} for {lacking[0]!r}, found null"
        )
    return taken
