"""Files and folders that are either complete or absent: written under a temporary name next to the final one, then
renamed."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional

from fewshot_ns.utils.disk_space import saying_disk_full
from fewshot_ns.utils.leftovers import NEW, OLD, partial_folder, partial_name, sweep


@contextmanager
def replacing(path: Path, staging_dir: Optional[Path] = None) -> Iterator[Path]:
    """Gives a temporary path to write to and renames it to `path` when the block ends without an error.

    Args:
        path: the final file; its folder is created.
        staging_dir: folder of the temporary file, on the same file system; by default the folder of `path`.

    Yields:
        Path of the temporary file. It is removed where the block raises, and `path` stays as it was.

    Raises:
        DiskFullError: there is no room for it.
    """
    temporary = (staging_dir or path.parent) / partial_name(path.name)
    with saying_disk_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    sweep(temporary.parent)
    try:
        with saying_disk_full(path, temporary):
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
        DiskFullError: there is no room for it.
        OSError: without `overwrite`, where a folder with files in it exists.
    """
    with saying_disk_full(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    with partial_folder(folder) as temporary, saying_disk_full(folder, Path(temporary)):
        fresh = Path(temporary) / NEW
        fresh.mkdir()
        yield fresh
        if overwrite and folder.exists():
            os.replace(folder, Path(temporary) / OLD)
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
    try:
        text = json.dumps(data, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: expected finite numbers to write, found another ({error})") from error
    write_text(path, text + "\n")
