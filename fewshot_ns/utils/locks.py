"""Folders that one process at a time works in.

The lock belongs to whoever has its file open: it ends with the process, however that ends, and commands that inherit
the open file keep it.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

from fewshot_ns.utils.leftovers import is_running

_BUSY = (errno.EAGAIN, errno.EACCES)


class FolderBusyError(RuntimeError):
    """Another process works in the folder.

    Args:
        path: file of the lock.
        process: number of that process; None: not known.
    """

    def __init__(self, path: Path, process: Optional[int]) -> None:
        super().__init__(
            f"{path.parent}: another process{f' ({process})' if process else ''} is working in this folder"
        )
        self.path, self.process = path, process


def lock_file(path: Path, patience: float = 0.0) -> Optional[int]:
    """Takes a lock; one of a process that has ended counts as free.

    Args:
        path: its file, which is made and stays.
        patience: seconds to wait where the process that took it has ended, and what it has started not yet.

    Returns:
        The descriptor of the open file, whose closing gives the lock back; None where the system has no such locks.

    Raises:
        FolderBusyError: another process has it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            holder = _holder(path)
            orphaned = holder is not None and not is_running(holder)
            if error.errno in _BUSY and orphaned and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            os.close(descriptor)
            if error.errno in _BUSY:
                raise FolderBusyError(path, holder) from error
            return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


@contextmanager
def folder_to_itself(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of a folder, which is there, within the block; nothing is written.

    Raises:
        FolderBusyError: another process has it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                raise FolderBusyError(folder / "lock", None) from error
            # Some network file systems have no such locks.
        yield
    finally:
        os.close(descriptor)


def _holder(path: Path) -> Optional[int]:
    """The process that took a lock, as its file says."""
    text = path.read_bytes()[:20].strip()
    return int(text) if text.isdigit() else None
