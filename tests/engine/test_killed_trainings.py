"""A training that is killed ten times, while it writes a checkpoint too, ends as one that nobody has disturbed."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import List, Optional

from forked import Forked
from tiny_training import MODELS, differences, state_of, tiny_config, train

from fewshot_ns.engine.best import BEST_DIR, BEST_KEY
from fewshot_ns.engine.resume import BACKUP_DIR
from fewshot_ns.utils.checkpoints import checkpoints_in, load_checkpoint

KILLS = 10
IN_A_WRITE = (1, 4, 6, 8)
"""Which of them come while a checkpoint is written."""
SAVED_EVERY = 3
STEPS = 150
KEEP = {"steps_per_save": SAVED_EVERY, "keep_best": "psnr", "keep_best_every": 7, "keep_best_views": (2,)}


def half_written(run: Path) -> List[Path]:
    """Checkpoints that a process is writing, or was."""
    return list(run.glob(".step-*.ckpt.*.partial"))


def kill_in_a_write(process: Forked, run: Path) -> None:
    """Kills a training while a checkpoint is half there."""
    before = set(half_written(run))
    while True:
        process.wait_for(lambda: bool(set(half_written(run)) - before), pause=0.0)
        process.send(signal.SIGSTOP)
        time.sleep(0.01)
        if set(half_written(run)) - before:
            break
        process.send(signal.SIGCONT)
    process.send(signal.SIGKILL)


def newest(run: Path) -> Optional[int]:
    return max(checkpoints_in(run / MODELS) if (run / MODELS).is_dir() else (), default=None)


def test_it_goes_on_every_time_and_ends_the_same(tiny_scene: Path, tmp_path: Path) -> None:
    draw = random.Random(19)
    folder = tmp_path / "faults" / "sparsenerf-lite"
    whole = Forked(train, tiny_config(tiny_scene, tmp_path, "whole", STEPS, **KEEP), log=tmp_path / "whole.log")
    run, reached = folder / "run", []
    for kill in range(KILLS):
        start = newest(run)
        config = tiny_config(tiny_scene, tmp_path, "run", STEPS, None if start is None else run / MODELS, **KEEP)
        process = Forked(train, config, log=tmp_path / f"{kill}.log")
        wanted = (start or 0) + SAVED_EVERY * draw.choice((1, 2))
        process.wait_for(lambda wanted=wanted: (newest(run) or 0) >= wanted)
        if kill in IN_A_WRITE:
            kill_in_a_write(process, run)
            assert half_written(run)
        else:
            time.sleep(draw.uniform(0.0, 0.06))
            process.send(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL, process.said
        for name in (MODELS, BACKUP_DIR, BEST_DIR):
            for step, path in checkpoints_in(run / name).items() if (run / name).is_dir() else ():
                assert load_checkpoint(path)["step"] == step
        reached.append(newest(run))
    assert reached == sorted(reached) and reached[0] < reached[-1] < STEPS - 1
    last = Forked(train, tiny_config(tiny_scene, tmp_path, "run", STEPS, run / MODELS, **KEEP), log=tmp_path / "last")
    assert (whole.end(), last.end()) == (0, 0), whole.said + last.said
    expected, found = state_of(folder / "whole", STEPS - 1), state_of(run, STEPS - 1)
    assert differences(expected, found) == []
    assert expected[BEST_KEY]["step"] in checkpoints_in(run / BEST_DIR)
    # What the killed ones had half-written is gone.
    assert not list(run.rglob(".*partial"))
