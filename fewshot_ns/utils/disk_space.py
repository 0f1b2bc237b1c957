"""Disks that are full are said as that, with the file that was to be written."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_PROBED_BYTES = 1 << 16


class DiskFullError(OSError):
    """There is no room to write a file."""


def full_disk_words(error: BaseException, path: Optional[Path] = None) -> Optional[str]:
    """What is said of an error that says itself that a disk or quota is full; None of any other.

    Args:
        error: any.
        path: what was to be written; None: what the error names.
    """
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    if path is None:
        name = error.filename if isinstance(error.filename, (str, os.PathLike)) else None
        return f"{name or 'a file of the run'}: expected room to write it, found the disk full"
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), Path())
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.1f} MB are free in {folder}"
    except OSError:
        free = f"its folder is {folder}"
    what = "the disk full" if error.errno == errno.ENOSPC else "the disk full (the user's quota is used up)"
    return f"{path}: expected room to write it, found {what}; {free}. Make room, or write elsewhere"


@contextmanager
def saying_disk_full(path: Path, written: Optional[Path] = None) -> Iterator[None]:
    """Raises DiskFullError, which names `path`, where the block fails because the disk is full; other errors pass.

    Args:
        path: what is written.
        written: the file or folder that the block writes to; None: `path`.

    Raises:
        DiskFullError: the disk, or the user's part of it, is full.
    """
    try:
        yield
    except DiskFullError:
        raise
    except (OSError, RuntimeError) as error:
        # numpy and torch do not pass on why they could not write.
        known = isinstance(error, OSError) and error.errno is not None
        words = full_disk_words(error if known else _tried(written or path) or error, path)
        if words is None:
            raise
        raise DiskFullError(words) from error


def _tried(path: Path) -> Optional[OSError]:
    """The error of writing a little more where `path` lies; None where that goes well."""
    probe = path / "probe" if path.is_dir() else path.with_name(f"{path.name}.probe")
    try:
        # What is no plain file, such as a device, is written to itself.
        file = path if path.exists() and not path.is_dir() and not path.is_file() else probe
        try:
            with file.open("ab") as stream:
                stream.write(bytes(_PROBED_BYTES))
                stream.flush()
                if file is probe:
                    os.fsync(stream.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None
