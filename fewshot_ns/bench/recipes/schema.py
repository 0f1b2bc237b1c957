"""Reading a mapping key by key: what is wrong is noted with the key's path, so that all of it can be said at once."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

REQUIRED: Any = object()
"""Default of a key that has to be there."""
_SHOWN = 60


class SchemaError(ValueError):
    """A file does not follow its schema; the message lists every problem."""

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{origin}: {count}", *(f"  {problem}" for problem in self.problems)]))


@dataclass(frozen=True)
class Kind:
    """What a value has to be."""

    words: str
    """For the message: 'expected <words>, found ...'."""
    convert: Callable[[Any], Any]
    """Gives the value to keep.

    Raises:
        ValueError: it is of another kind."""


@dataclass
class Section:
    """One mapping of the file.

    Args:
        path: its key's path, '' for the whole file.
        value: what stands there.
        problems: where problems go.
    """

    path: str
    value: Any
    problems: List[str]
    _known: Set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not isinstance(self.value, Mapping):
            self.note("", f"expected a mapping, found {shown(self.value)}")
            self.value = {}
            # Keys that are missing in what is no mapping at all are not worth a line each.
            self._broken = True
        else:
            self._broken = False

    def where(self, key: str) -> str:
        """The path of a key."""
        return ".".join(part for part in (self.path, key) if part)

    def note(self, key: str, problem: str) -> None:
        """Notes a problem of a key."""
        where = self.where(key)
        self.problems.append(f"{where}: {problem}" if where else problem)

    def take(self, key: str, kind: Kind, default: Any = REQUIRED) -> Any:
        """The value of a key as its kind gives it; the default where it is absent, null or wrong."""
        self._known.add(key)
        fallback = None if default is REQUIRED else default
        value = self.value.get(key)
        if value is None:
            if default is REQUIRED and not self._broken:
                self.note(key, f"expected {kind.words}, found nothing")
            return fallback
        try:
            return kind.convert(value)
        except ValueError:
            self.note(key, f"expected {kind.words}, found {shown(value)}")
            return fallback

    def finish(self) -> None:
        """Notes the keys that nobody asked for."""
        for key in self.value:
            if key in self._known:
                continue
            near = difflib.get_close_matches(str(key), self._known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(self._known))}"
            self.note(str(key), f"unknown key{hint}")


def shown(value: Any) -> str:
    """A value as it stands in a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _integer(value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError
    return float(value)


def integer(least: int) -> Kind:
    """A whole number of at least `least`."""
    return Kind(f"a whole number of at least {least}", lambda value: _integer(value, least))


def list_of(kind: Kind) -> Kind:
    """A list with at least one entry, all of one kind and no two alike."""

    def convert(value: Any) -> Tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError
        entries = tuple(kind.convert(entry) for entry in value)
        if len(set(entries)) != len(entries):
            raise ValueError
        return entries

    return Kind(f"a list of different entries, each {kind.words}", convert)


TEXT = Kind("a text", _text)
FLAG = Kind("true or false", _flag)
POSITIVE = Kind("a number above 0", _positive)


def _entries(value: Any) -> List[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return value


ENTRIES = Kind("a list with at least one entry", _entries)


def flag_words(value: Any) -> Tuple[str, ...]:
    """Flags of the command line from a mapping {flag: value} or a list of words.

    A mapping may be nested ({pipeline: {depth: {loss: cdf}}} is --pipeline.depth.loss cdf); a list as a value becomes
    several words.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, list):
        if not all(isinstance(word, (str, int, float)) for word in value):
            raise ValueError
        return tuple(_word(word) for word in value)
    if not isinstance(value, Mapping):
        raise ValueError
    words: List[str] = []
    for flag, setting in _flattened(value).items():
        entries = setting if isinstance(setting, list) else [setting]
        words += [f"--{flag}", *(_word(entry) for entry in entries)]
    return tuple(words)


def _flattened(value: Mapping, path: str = "") -> Dict[str, Any]:
    flat: Dict[str, Any] = {}
    for key, setting in value.items():
        if not isinstance(key, str):
            raise ValueError
        name = f"{path}.{key.lstrip('-')}" if path else key.lstrip("-")
        flat.update(_flattened(setting, name) if isinstance(setting, Mapping) else {name: setting})
    return flat


def _word(value: Any) -> str:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError
    return str(value)


FLAGS = Kind("flags as a mapping or as a list of words", flag_words)


def take_section(parent: Section, key: str, problems: List[str]) -> Optional[Section]:
    """A mapping below a key; None where there is none."""
    value = parent.take(key, Kind("a mapping", lambda found: found), None)
    return None if value is None else Section(parent.where(key), value, problems)
