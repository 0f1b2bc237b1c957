"""Whether a file that a scene names lies in the scene's folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Union

from fewshot_ns.utils.shown_values import shown

ALLOW = "--allow-outside"
"""Flag of dataparsers whose files name other files."""


def lies_inside(folder: Path, name: Union[str, Path]) -> bool:
    """Whether a path leads to something below a folder. What links in the folder lead to counts as inside, since a link
    is made on purpose; a path that climbs out of a link by '..' does not.

    Args:
        folder: Of the scene.
        name: Relative to it, or absolute.
    """
    if ".." not in PurePosixPath(name).parts and not os.path.isabs(name):
        return True
    path, top = os.path.join(os.path.abspath(folder), name), os.path.abspath(folder)
    plain = os.path.normpath(path)
    if _is_below(plain, top) and (".." not in PurePosixPath(name).parts or os.path.realpath(path) == _real(plain)):
        return True
    # A folder that is reached by a link may be named by where it is.
    return _is_below(_real(path), _real(top))


def outside_words(folder: Path, name: str, flag: bool = True) -> str:
    """What is said of a name that leads out; with `flag` where dataparsers read it."""
    way = f", or give {ALLOW} True for a scene that you trust" if flag else ""
    return f"expected files in {folder}, found {shown(name)} outside of it; move the files together{way}"


def _real(path: str) -> str:
    return os.path.realpath(path)


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)
