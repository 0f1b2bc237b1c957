"""Where what was computed once is kept for the next run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

CACHE_ENV = "FEWSHOT_CACHE"
"""Environment variable that names the folder of the cache."""


def cache_folder(kind: str, given: Optional[Path] = None) -> Path:
    """Folder of one kind of results, which need not exist.

    Args:
        kind: what is kept there, one word.
        given: the user's own folder; None takes FEWSHOT_CACHE, else the user's cache folder.
    """
    if given is not None:
        return given.expanduser()
    if os.environ.get(CACHE_ENV):
        return Path(os.environ[CACHE_ENV]).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fewshot_ns" / kind
