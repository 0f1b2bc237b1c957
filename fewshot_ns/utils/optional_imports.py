"""Imports of optional packages at the time of use."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class MissingExtraError(ImportError):
    """A package that one of our extras brings is needed and not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Imports a package that belongs to one of our extras.

    Args:
        module: dotted name, e.g. 'open_clip'.
        extra: the extra of `fewshot-ns` that installs it, e.g. 'priors'.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: it is not installed; the message gives the command.
        ImportError: it fails to import, with its own message.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            # The package is there; something it needs in turn is not, and its own message says what.
            raise
        raise MissingExtraError(
            f"this needs the package {module.split('.')[0]!r}, which is not installed; "
            f'install it with: pip install "fewshot-ns[{extra}]"'
        ) from error
