"""Folders in which computed results are kept for later runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

CACHE_ENV = "FEWSHOT_CACHE"
"""Environment variable that names the cache folder."""


def cache_folder(kind: str, given: Optional[Path] = None) -> Path:
    """Cache folder of one kind of results; it is not created.

    Args:
        kind: name of the kind, one word.
        given: the user's own folder; None: a folder in FEWSHOT_CACHE, else in the user's cache folder.
    """
    if given is not None:
        return given.expanduser()
    if os.environ.get(CACHE_ENV):
        return Path(os.environ[CACHE_ENV]).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fewshot_ns" / kind
