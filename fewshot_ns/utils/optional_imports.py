"""Imports of optional packages at the time of use."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any


class MissingExtraError(ImportError):
    """A package that one of our extras brings is needed and not installed."""


class UnfitExtraError(ImportError):
    """A package that one of our extras brings does not fit what is installed beside it."""


def require(module: str, extra: str) -> ModuleType:
    """Imports a package that belongs to one of our extras.

    Args:
        module: dotted name, e.g. 'open_clip'.
        extra: the extra of `fewshot-ns` that installs it, e.g. 'priors'.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: it is not installed; the message gives the command.
        UnfitExtraError: it is there and asks for what another package does not have.
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
    except AttributeError as error:
        raise _unfit(module, extra, error) from error


def require_class(module: str, name: str, extra: str) -> Any:
    """A class of a package that loads its parts when they are asked for, as diffusers and transformers do.

    Args:
        module: the package.
        name: of the class.
        extra: see `require`.

    Raises:
        MissingExtraError: the package is not installed.
        UnfitExtraError: the part does not load, as where it asks for a newer torch; or the release has no such class.
    """
    library = require(module, extra)
    try:
        return getattr(library, name)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise _unfit(module, extra, error) from error


def _unfit(module: str, extra: str, error: Exception) -> UnfitExtraError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UnfitExtraError(
        f"{_release(module.split('.')[0])}: expected a release that works with {_release('torch')}, found that it does "
        f'not load ({lines[-1][:200]}); install releases that agree: pip install "fewshot-ns[{extra}]"'
    )


def _release(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
