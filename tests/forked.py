"""Processes of their own that cost no import: forked from a server that has loaded the package once.

They can be killed, interrupted, and given a disk of their own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Callable, List

import pytest

CONTEXT = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
CONTEXT.set_forkserver_preload(
    ["nerfstudio.configs.method_configs", "nerfstudio.scripts.train", "fewshot_ns.configs.sparsenerf_lite"]
)
SECONDS = 120.0
"""After which a process counts as hung."""


def _child(action: Callable[..., object], arguments: tuple, log: Path) -> None:
    import torch

    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.environ["COLUMNS"] = "200"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    try:
        action(*arguments)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


class Forked:
    """A process that does something, and what has become of it.

    Args:
        action: function of a module, in `tests` or the package.
        arguments: that can be pickled.
        log: file of what it prints.
    """

    def __init__(self, action: Callable[..., object], *arguments: Any, log: Path) -> None:
        self.log = log
        self.process: BaseProcess = CONTEXT.Process(target=_child, args=(action, arguments, log))
        self.process.start()

    def send(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        if self.process.pid is not None and self.process.exitcode is None:
            os.kill(self.process.pid, number)

    def wait_for(self, there: Callable[[], bool], pause: float = 0.0005) -> None:
        """Until something is there; the test fails where the process ends before."""
        deadline = time.monotonic() + SECONDS
        while not there():
            assert self.process.is_alive(), f"ended with {self.process.exitcode}:\n{self.said}"
            assert time.monotonic() < deadline, f"nothing came:\n{self.said}"
            time.sleep(pause)

    def end(self) -> int:
        """Its status once it has ended, negative of the signal that killed it."""
        self.process.join(SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            pytest.fail(f"a process hung:\n{self.said}")
        return self.process.exitcode

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text("utf8", errors="replace") if self.log.is_file() else ""


def own_disk(folder: Path, size: str) -> None:
    """Mounts an empty disk of a size for this test; skips the test where that is not allowed."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


def give_back(folder: Path) -> None:
    """Takes such a disk away."""
    subprocess.run(["umount", "-l", str(folder)], check=True)


def tree(folder: Path) -> List[str]:
    """Files below a folder, for messages and comparisons."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
