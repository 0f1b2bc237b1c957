"""The depth prior: order of depths, or depth of known scale."""

from typing import Any

from fewshot_ns.utils.moved_modules import moved_class


def __getattr__(name: str) -> Any:
    """Classes that were in a module of this name: configs of old runs name them so."""
    return moved_class(__name__, name)
