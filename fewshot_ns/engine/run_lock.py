"""One training at a time writes into the folder of a run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, Optional

from fewshot_ns.utils.locks import FolderBusyError, lock_file

LOCK_NAME = "training.lock"
"""File of the lock in the folder of a run; it holds the number of the process."""
_AUTOMATIC = re.compile(r"\d{4}-\d\d-\d\d_\d{6}")
"""What nerfstudio makes of the time, to the second."""
_MOST_TRIES = 100
_PATIENCE = 10.0
_held: Dict[Path, Optional[int]] = {}


class RunBusyError(RuntimeError):
    """Another training writes into the folder of a run."""


def claim_run(folder: Path) -> None:
    """Takes the folder of a run for the trainings of this process, which keeps it until `release_run` or its end.

    Processes that the holder has started for a training on several GPUs share it.

    Raises:
        RunBusyError: another process trains there.
    """
    place = folder.resolve()
    if place in _held:
        return
    try:
        _held[place] = lock_file(place / LOCK_NAME, _PATIENCE)
    except FolderBusyError as error:
        if error.process == os.getppid():
            return
        who = "another training" + ("" if error.process is None else f", process {error.process}")
        raise RunBusyError(
            f"{folder}: expected a run folder of this training's own, found {who}, writing into it; wait for it, or "
            "give another --timestamp or --output-dir"
        ) from error


def release_run(folder: Path) -> None:
    """Gives a claimed folder back; nothing happens where it is not claimed."""
    descriptor = _held.pop(folder.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)


def free_timestamp(folder: Path) -> str:
    """Claims the folder of a run, or one beside it where another training has taken the same second's.

    Args:
        folder: named by its timestamp.

    Returns:
        The timestamp of the claimed folder.

    Raises:
        RunBusyError: another process trains there, and the name is not one that was made from the time.
    """
    try:
        claim_run(folder)
        return folder.name
    except RunBusyError:
        if not _AUTOMATIC.fullmatch(folder.name):
            raise
    for number in range(2, _MOST_TRIES):
        beside = folder.with_name(f"{folder.name}-{number}")
        if not beside.exists():
            claim_run(beside)
            return beside.name
    raise RunBusyError(f"{folder}: expected a run folder of this training's own, found {_MOST_TRIES - 1} taken ones")
