"""Files that are either whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional


@contextmanager
def replacing(path: Path, staging_dir: Optional[Path] = None) -> Iterator[Path]:
    """Gives a temporary path to write to and moves it to `path` when the block ends without an error.

    Args:
        path: where the file shall be; its folder is created.
        staging_dir: folder of the temporary file, on the same file system; by default the folder of `path`.

    Yields:
        Path of the temporary file. It is removed where the block raises, and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (staging_dir or path.parent) / f".{path.name}.{os.getpid()}.partial"
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Writes valid JSON (no NaN, no infinity) atomically.

    Raises:
        ValueError: where `data` holds a number that JSON cannot hold.
    """
    text = json.dumps(data, indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf8")
