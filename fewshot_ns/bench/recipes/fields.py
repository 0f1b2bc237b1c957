"""Kinds of values in a recipe file, as annotations of pydantic fields."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema
from typing_extensions import Annotated

from fewshot_ns.bench.recipes.problems import Expected

FILE = ConfigDict(
    extra="forbid",
    alias_generator=lambda name: name.replace("_", "-"),
    use_attribute_docstrings=True,
)
"""Of every mapping in the file: no unknown keys, dashes in keys."""


_INTEGER_BITS = 64
"""Of the largest whole number that a flag takes."""
_LONGEST_NAME = 120
"""Characters of a folder's name; file systems take 255 with all that is put behind it."""
_MOST_SEED = 2**32 - 1
"""numpy's largest seed."""


def _different(entries: Tuple[Any, ...]) -> Tuple[Any, ...]:
    if len(set(entries)) != len(entries):
        raise ValueError
    return entries


def flag_words(value: Any) -> Tuple[str, ...]:
    """Flags of the command line from a mapping {flag: value} or a list of words.

    A mapping may be nested ({pipeline: {depth: {loss: cdf}}} is --pipeline.depth.loss cdf); a list as a value becomes
    several words.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, (list, tuple)):
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
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        raise ValueError
    return str(value)


Text = Annotated[str, Field(strict=True, pattern=r"\S"), Expected("a text")]
FolderName = Annotated[
    str,
    Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$", max_length=_LONGEST_NAME),
    Expected("a name of letters, digits and . _ + = - that can be a folder"),
]
Switch = Annotated[bool, Field(strict=True), Expected("true or false")]
Count = Annotated[int, Field(strict=True, ge=1), Expected("a whole number of at least 1")]
Views = Annotated[int, Field(strict=True, ge=0), Expected("a whole number of at least 0")]
Side = Annotated[int, Field(strict=True, ge=16), Expected("a whole number of at least 16")]
PositiveNumber = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False), Expected("a number above 0")]
Names = Annotated[
    Tuple[Annotated[str, Field(strict=True, pattern=r"\S")], ...],
    Field(min_length=1),
    AfterValidator(_different),
    Expected("a list of different entries, each a text"),
]
Seeds = Annotated[
    Tuple[Annotated[int, Field(strict=True, ge=0, le=_MOST_SEED)], ...],
    Field(min_length=1),
    AfterValidator(_different),
    Expected(f"a list of different entries, each a whole number of at least 0 and at most {_MOST_SEED}"),
]
Flags = Annotated[
    Tuple[str, ...],
    BeforeValidator(flag_words),
    WithJsonSchema(
        {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": ["string", "number", "boolean"]}}]}
    ),
    Expected("flags as a mapping or as a list of words"),
]
