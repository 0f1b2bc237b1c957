"""The checkpoint before the newest is kept as a backup, from which a run resumes if the newest is damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Tuple

from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.utils.checkpoints import DamagedCheckpointError, checkpoints_in, find_checkpoint, load_checkpoint

BACKUP_DIR = "checkpoint_backup"
"""Folder next to that of the checkpoints, in which nerfstudio would take every file for a checkpoint of its own."""


def retire_older(newest: Path) -> None:
    """Keeps only one checkpoint in its folder; the one before it becomes the only backup.

    Args:
        newest: the checkpoint that was just written.
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
    """Reads the newest undamaged checkpoint of a run, the backup included; prints where it is not the newest.

    Args:
        load_dir: the run's folder of checkpoints.

    Returns:
        The file and its content.

    Raises:
        FileNotFoundError: there is no checkpoint.
        DamagedCheckpointError: all are damaged.
        ValueError: the newest readable one is not a training checkpoint.
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
