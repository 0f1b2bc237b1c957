"""Two trainings do not write into one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from fewshot_ns.engine.run_lock import LOCK_NAME, RunBusyError, claim_run, free_timestamp, release_run

HOLD = """
import sys, time
from pathlib import Path
from fewshot_ns.engine.run_lock import claim_run
claim_run(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_second_is_refused_while_the_first_runs_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with held(run) as process:
        with pytest.raises(RunBusyError, match=rf"run: expected .* process {process.pid}.*--timestamp"):
            claim_run(run)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        claim_run(run)
        # Once more, as config and trainer of one training do.
        claim_run(run)
    assert (run / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    release_run(run)
    release_run(run)
    with held(run), pytest.raises(RunBusyError):
        claim_run(run)


def test_a_timestamp_made_from_the_time_goes_beside_one_that_is_taken(tmp_path: Path) -> None:
    run = tmp_path / "2026-11-30_101112"
    with held(run):
        assert free_timestamp(run) == "2026-11-30_101112-2"
        (tmp_path / "2026-11-30_101112-3").mkdir()
        with held(tmp_path / "named"), pytest.raises(RunBusyError, match="named"):
            free_timestamp(tmp_path / "named")
    assert free_timestamp(run) == run.name
    for folder in (run, tmp_path / "2026-11-30_101112-2"):
        release_run(folder)


def test_processes_of_the_same_training_share_it(tmp_path: Path) -> None:
    """As those that nerfstudio starts for several GPUs."""
    claim_run(tmp_path)
    with held(tmp_path):
        pass
    release_run(tmp_path)
