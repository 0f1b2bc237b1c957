"""Files and folders that are either complete or absent: written under a temporary name next to the final one, then
renamed."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional


@contextmanager
def replacing(path: Path, staging_dir: Optional[Path] = None) -> Iterator[Path]:
    """Gives a temporary path to write to and renames it to `path` when the block ends without an error.

    Args:
        path: the final file; its folder is created.
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


@contextmanager
def replacing_folder(folder: Path, overwrite: bool = True) -> Iterator[Path]:
    """Gives a new empty folder to write into and renames it to `folder` when the block ends without an error.

    Args:
        folder: the final folder; its parent is created.
        overwrite: whether a folder that exists is replaced, with all that is in it.

    Yields:
        Path of the temporary folder. It is removed where the block raises, and `folder` stays as it was.

    Raises:
        OSError: without `overwrite`, where a folder with files in it exists.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        fresh = Path(temporary) / "new"
        fresh.mkdir()
        yield fresh
        if overwrite and folder.exists():
            os.replace(folder, Path(temporary) / "old")
        os.replace(fresh, folder)


def write_text(path: Path, text: str) -> None:
    """Writes text atomically; makes the folder."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf8")


def write_json(path: Path, data: Any) -> None:
    """Writes valid JSON (no NaN, no infinity) atomically.

    Raises:
        ValueError: where `data` holds a number that JSON cannot hold.
    """
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")
