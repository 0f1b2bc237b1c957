"""Files and folders half-written by processes that were killed: known by their names, removed at the next start.

A name says which machine and process wrote it: `.NAME.MACHINE-PROCESS.partial`. What a process that still runs may be
writing stays, and so does everything that is named otherwise.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Set

_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?:(?P<machine>[0-9a-f]{4})-)?(?P<process>\d{1,9})\.partial", re.DOTALL)
"""Earlier versions gave no machine."""
NEW, OLD = "new", "old"
"""What a half-written folder holds: what is written, and what it is about to replace."""
_FORGOTTEN = 24 * 3600.0
"""Seconds after which what another machine has not gone on writing counts as left behind: its processes are not seen
from here."""
_swept: Set[Path] = set()


def partial_name(name: str) -> str:
    """The name under which this process writes what will be called `name`."""
    return f".{name}.{_machine()}-{os.getpid()}.partial"


def partial_folder(folder: Path) -> tempfile.TemporaryDirectory:
    """A folder beside `folder` to write it in, which nobody else has."""
    suffix = f".{_machine()}-{os.getpid()}.partial"
    return tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=suffix, dir=folder.parent)


def sweep(folder: Path) -> None:
    """Removes what killed processes have left half-written in a folder; the first call of this process for it looks.

    Nothing is raised: what cannot be removed stays.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):
        with os.scandir(folder) as entries:
            left = [entry.name for entry in entries if entry.name.endswith(".partial")]
        for name in left:
            match = _PARTIAL.fullmatch(name)
            if match is not None and _abandoned(folder / name, match["machine"], int(match["process"])):
                _remove(folder / name, match["name"])


def is_running(process: int) -> bool:
    """Whether a process of this machine runs, as far as can be seen."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    # A killed process that nobody has asked after is still listed.
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[:1]
    except OSError:
        return True
    return state not in ([b"Z"], [b"X"])


def _abandoned(path: Path, machine: str, process: int) -> bool:
    if machine == _machine() and os.name == "posix":
        return not is_running(process)
    return time.time() - path.stat().st_mtime > _FORGOTTEN


def _remove(path: Path, name: str) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # Killed between two renames, when neither the old folder nor the new one was in its place.
    final = path.with_name(name.rpartition(".")[0])
    if (path / OLD).is_dir() and final.name and not final.exists():
        os.replace(path / (NEW if (path / NEW).is_dir() else OLD), final)
    shutil.rmtree(path, ignore_errors=True)


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()) & 0xFFFF:04x}"
