"""What is wrong with a recipe, told with the path of each key in the YAML file."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fewshot_ns.utils.shown_values import shown

_MOST_PROBLEMS = 12
"""Problems that are told; the others are counted."""
_LONGEST_KEY = 80
_ABSENT: Any = object()


class SchemaError(ValueError):
    """A file does not follow its schema; the message lists every problem."""

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        more = len(self.problems) - _MOST_PROBLEMS
        listed = [*self.problems[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n".join([f"{origin}: {count}", *(f"  {problem}" for problem in listed)]))


@dataclass(frozen=True)
class Expected:
    """Annotation of a pydantic field: every error in its value is told as 'expected <words>, found <value>'."""

    words: str
    """What the value has to be."""
    mapping: Optional[Type[BaseModel]] = None
    """Model of the mapping that the value may be, where the annotated type does not say it."""


def problems_of(error: ValidationError, model: Any, values: Any) -> List[str]:
    """The problems that pydantic has found, a line each.

    Args:
        error: raised by `model`.
        model: the pydantic model of the whole file.
        values: content of the file.
    """
    found: Dict[str, None] = {}
    for entry in error.errors(include_url=False):
        if entry["type"] == "too_short" and entry["input"]:
            continue  # pydantic counts the right entries of a list alone; the wrong ones are told one by one.
        where = tuple(entry["loc"])
        said = str(entry.get("ctx", {}).get("error", ""))
        if entry["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            # Only what is told is worth looking for names like it.
            hint = _hint(str(where[-1]), _fields_at(model, where[:-1])) if len(found) < _MOST_PROBLEMS else ""
            problem = f"unknown key{hint}"
        elif entry["type"] == "value_error" and said:
            problem = said
        elif entry["type"] in ("model_type", "dataclass_type"):
            problem = f"expected a mapping, found {_found(_value_at(values, where))}"
        else:
            where, words = _expected(model, where)
            problem = f"expected {words}, found {_found(_value_at(values, where))}"
        path = _path(values, where)
        found[f"{path}: {problem}" if path else problem] = None
    return list(found)


def _found(value: Any) -> str:
    return "nothing" if value is _ABSENT else shown(value)


def _hint(key: str, fields: Mapping[str, FieldInfo]) -> str:
    near = difflib.get_close_matches(key[:_LONGEST_KEY], fields, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(fields))}"


def _expected(model: Any, where: Tuple[Any, ...]) -> Tuple[Tuple[Any, ...], str]:
    """The innermost field on the way to an error that says what it has to be, and its words."""
    for end in range(len(where), 0, -1):
        field = _fields_at(model, where[: end - 1]).get(where[end - 1])
        for note in () if field is None else _parts_of(field):
            if isinstance(note, Expected):
                return where[:end], note.words
    return where, "something else"


def _fields_at(model: Any, where: Sequence[Any]) -> Mapping[str, FieldInfo]:
    """The fields of the mapping at a path, by their keys in the file."""
    fields = _fields_of(model)
    for part in where:
        if isinstance(part, str):
            fields = _fields_of(fields.get(part))
    return fields


def _fields_of(annotation: Any) -> Mapping[str, FieldInfo]:
    """Fields of the first model in an annotation or field, such as `Tuple[Model, ...]`."""
    for kind in _parts_of(annotation):
        if isinstance(kind, Expected) and kind.mapping is not None:
            kind = kind.mapping
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return {field.alias or name: field for name, field in kind.model_fields.items()}
        if isinstance(kind, type) and hasattr(kind, "__pydantic_config__"):
            hints = get_type_hints(kind, include_extras=True)
            names = [field.name for field in dataclasses.fields(kind)]
            return {name.replace("_", "-"): FieldInfo.from_annotation(hints[name]) for name in names}
    return {}


def _parts_of(annotation: Any) -> Iterator[Any]:
    """All that an annotation or a field is made of: types and what is noted on them."""
    if isinstance(annotation, FieldInfo):
        yield from annotation.metadata
        annotation = annotation.annotation
    yield annotation
    for argument in get_args(annotation):
        yield from _parts_of(argument)


def _value_at(values: Any, where: Sequence[Any]) -> Any:
    """What the file has at a path; an entry that is given in its short form is taken as it is."""
    for part in where:
        if isinstance(part, str):
            values = values.get(part, _ABSENT) if isinstance(values, Mapping) else values
        elif isinstance(values, list):
            values = values[part]
    return _ABSENT if values is None else values


def _path(values: Any, where: Sequence[Any]) -> str:
    """A path as people write it: 'scenes[0].name'. One entry that stands where a list may stand has no number."""
    text = ""
    for part in where:
        if isinstance(part, str):
            text += f".{part[:_LONGEST_KEY]}" if text else part[:_LONGEST_KEY]
            values = values.get(part) if isinstance(values, Mapping) else None
        elif isinstance(values, list):
            text += f"[{part}]"
            values = values[part]
    return text
