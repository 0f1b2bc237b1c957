"""What a run resumes from: its last good checkpoint, and the states of the global random generators in it.

The checkpoint before the newest is kept as a backup, for the case that the newest is damaged.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, cast

import numpy as np
import torch
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
    # Whatever else lies there is not ours to remove.
    older = [path for _, path in sorted(checkpoints_in(newest.parent).items()) if path != newest]
    if older:
        last = older.pop()
        folder.mkdir(exist_ok=True)
        os.replace(last, folder / last.name)
        older += [path for path in checkpoints_in(folder).values() if path.name != last.name]
    for path in older:
        path.unlink()


def load_last_good(load_dir: Path, step: Optional[int] = None, backup: bool = True) -> Tuple[Path, Dict[str, Any]]:
    """Reads the newest undamaged checkpoint of a run, the backup included; prints where it is not the newest.

    Args:
        load_dir: the run's folder of checkpoints.
        step: the only one that will do; None: any.
        backup: whether the backup will do; not where the folder holds another choice than the newest, such as the best.

    Returns:
        The file and its content.

    Raises:
        FileNotFoundError: there is no checkpoint, or none of that step.
        DamagedCheckpointError: all are damaged.
        ValueError: the newest readable one is not a training checkpoint.
    """
    if step is not None:
        path = find_checkpoint(load_dir, step)
        return path, load_checkpoint(path)
    found = {**(checkpoints_in(load_dir.parent / BACKUP_DIR) if backup else {}), **checkpoints_in(load_dir)}
    if not found or not load_dir.is_dir():
        find_checkpoint(load_dir)  # says what is missing
    damaged = []
    for number in sorted(found, reverse=True):
        try:
            state = load_checkpoint(found[number])
        except DamagedCheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged:
            CONSOLE.print(
                f"[bold yellow]Damaged:[/bold yellow] {'; '.join(damaged)}. "
                f"Falling back to the last good checkpoint, {found[number]}.",
                soft_wrap=True,
            )
        return found[number], state
    raise DamagedCheckpointError("no checkpoint of the run can be read:\n  " + "\n  ".join(damaged))


def capture_random_states() -> Dict[str, Any]:
    """States of the generators of Python, numpy and torch, as ints, floats, lists and tensors that load under
    `torch.load(weights_only=True)`."""
    version, words, gauss = random.getstate()
    legacy = cast(Dict[str, Any], np.random.get_state(legacy=False))
    return {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "bit_generator": str(legacy["bit_generator"]),
            "key": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Dict[str, Any]) -> None:
    """Restores captured states.

    Args:
        states: result of `capture_random_states`; states of absent CUDA devices are ignored.
    """
    python = states["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    captured = states["numpy"]
    np.random.set_state(
        {
            "bit_generator": captured["bit_generator"],
            "state": {"key": captured["key"].numpy().astype(np.uint32), "pos": captured["pos"]},
            "has_gauss": captured["has_gauss"],
            "gauss": captured["gauss"],
        }
    )
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
            torch.cuda.set_rng_state(state.cpu(), device)


def draw_apart(rank: int) -> None:
    """Has the processes of a training draw other numbers than the first, whose states are those that were restored.

    Args:
        rank: of this process; the first goes on as it is.
    """
    if rank == 0:
        return
    seed = (int(torch.randint(2**31, (1,))) + rank) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
