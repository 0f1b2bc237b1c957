"""The checkpoint before the newest is kept out of the host's sight, and resuming falls back to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Tuple

from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.utils.checkpoints import DamagedCheckpointError, checkpoints_in, find_checkpoint, load_checkpoint

BACKUP_DIR = "checkpoint_backup"
"""Folder beside that of the checkpoints, where the host would take every file for one of its own."""


def retire_older(newest: Path) -> None:
    """Leaves a checkpoint alone in its folder; the last one before it becomes the only backup.

    Args:
        newest: checkpoint that has just been written.
    """
    folder = newest.parent.parent / BACKUP_DIR
    older = sorted(path for path in newest.parent.glob("*.ckpt") if path != newest)
    if older:
        last = older.pop()
        folder.mkdir(exist_ok=True)
        os.replace(last, folder / last.name)
        older += [path for path in folder.glob("*.ckpt") if path.name != last.name]
    for path in older:
        path.unlink()


def load_last_good(load_dir: Path) -> Tuple[Path, Dict[str, Any]]:
    """Reads the newest checkpoint of a run that is whole, its backup included, and says so where it is not the newest.

    Args:
        load_dir: the run's folder of checkpoints.

    Returns:
        The file and its content.

    Raises:
        FileNotFoundError: there is none.
        DamagedCheckpointError: all of them are damaged.
        ValueError: the newest readable one is no checkpoint of a training.
    """
    found = {**checkpoints_in(load_dir.parent / BACKUP_DIR), **checkpoints_in(load_dir)}
    if not found or not load_dir.is_dir():
        find_checkpoint(load_dir)  # says what is missing
    damaged = []
    for step in sorted(found, reverse=True):
        try:
            state = load_checkpoint(found[step])
        except DamagedCheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged:
            CONSOLE.print(
                f"[bold yellow]Damaged:[/bold yellow] {'; '.join(damaged)}. "
                f"Falling back to the last good checkpoint, {found[step]}.",
                soft_wrap=True,
            )
        return found[step], state
    raise DamagedCheckpointError("no checkpoint of the run can be read:\n  " + "\n  ".join(damaged))
