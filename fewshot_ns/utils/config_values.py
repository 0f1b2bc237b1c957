"""Whether the fields of a restored config hold values of their kinds."""

from __future__ import annotations

import dataclasses
import typing
from functools import cache
from pathlib import PurePath
from typing import Any, Dict, Literal, Union, get_args, get_origin

_TARGET = "_target"
_COMMON = ("builtins", "abc", "typing", "typing_extensions", "torch.nn.modules.module")
"""Modules of bases that every class may have, which say nothing of its kind."""


def misfit(config: Any) -> str:
    """The first field whose value is of another kind than the class says, in words; empty where there is none.

    Ranges and the lengths of tuples are not looked at, nor fields whose annotation cannot be evaluated.

    Args:
        config: a dataclass, perhaps without some of its fields.
    """
    kinds = _kinds(type(config))
    for one in dataclasses.fields(config):
        value = vars(config).get(one.name, dataclasses.MISSING)
        if value is dataclasses.MISSING:
            continue
        if one.name == _TARGET:
            if not _is_of_kind(value, _default(one)):
                return f"expected {_TARGET} to be a class of the kind of its default, found {_name(value)}"
        elif not fits(value, kinds.get(one.name, Any)) and not _contradicts(kinds[one.name], _default(one), value):
            wanted = str(kinds[one.name]).replace("typing.", "")
            wanted = kinds[one.name].__name__ if isinstance(kinds[one.name], type) else wanted
            return f"expected {one.name} to be {wanted[:200]}, found {_name(value)}"
    return ""


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind that an annotation names; True where this cannot be said.

    Args:
        value: any.
        kind: an evaluated annotation.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return fits(value, inner[0])
    if origin is Literal:
        # Of the same type is enough: an earlier version may have had other words.
        return any(type(value) is type(one) for one in inner)
    if origin is Union or type(kind).__name__ == "UnionType":
        return any(fits(value, one) for one in inner)
    if kind is None or kind is type(None):
        return value is None
    outer = origin or kind
    if not isinstance(outer, type):
        return True
    if outer is type:
        return callable(value)
    if outer is bool:
        return isinstance(value, bool)
    if outer in (int, float):
        # A whole number is written without a point.
        return isinstance(value, (int, outer)) and not isinstance(value, bool)
    if outer is str:
        return isinstance(value, str)
    if issubclass(outer, PurePath):
        return isinstance(value, (PurePath, str))
    if issubclass(outer, (list, tuple)):
        return isinstance(value, (list, tuple)) and (
            not inner or all(any(fits(one, kind) for kind in inner if kind is not Ellipsis) for one in value)
        )
    if issubclass(outer, dict):
        return isinstance(value, dict)
    if dataclasses.is_dataclass(outer):
        return dataclasses.is_dataclass(value) and not isinstance(value, type)
    return True


def _contradicts(kind: Any, default: Any, value: Any) -> bool:
    """Whether an annotation is wrong about its own default, as some of nerfstudio's are, of whose type a value is."""
    return default is not dataclasses.MISSING and not fits(default, kind) and type(value) is type(default)


def _default(one: Any) -> Any:
    return one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default


def _is_of_kind(target: Any, default: Any) -> bool:
    """Whether a class to make has something in common with the one that a config makes by default."""
    target, default = get_origin(target) or target, get_origin(default) or default
    if not isinstance(target, type):
        return False
    if not isinstance(default, type) or default is target:
        return True
    common = set(target.__mro__) & set(default.__mro__)
    return any(base.__module__ not in _COMMON for base in common)


@cache
def _kinds(config: type) -> Dict[str, Any]:
    """Annotations of a class that can be evaluated, by field."""
    try:
        return typing.get_type_hints(config)
    except (NameError, TypeError, AttributeError):
        return {}


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else type(value).__name__
