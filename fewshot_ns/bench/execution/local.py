"""The cells of a plan on this machine: one worker per GPU, or per part of the CPU."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from fewshot_ns.bench.execution.cells import Outcome, WorkerResources, run_cell, usable_cores
from fewshot_ns.bench.execution.progress import Board
from fewshot_ns.bench.planning.plan import Cell
from fewshot_ns.utils.processes import CommandRunner, end_on_termination

_POLL_SECONDS = 0.2
NOT_BEGUN = "not begun"
"""Status of a cell whose turn did not come before the deadline."""


def local_workers(device: str, jobs: int, threads: int) -> List[WorkerResources]:
    """The workers of this machine, with what each may use.

    Args:
        device: 'cpu' or 'cuda'.
        jobs: cells at a time; 0: one per GPU, or on a CPU as many as its cores allow.
        threads: CPU threads per cell; 0: one on a CPU, an equal part of the cores beside a GPU.

    Raises:
        ValueError: CUDA is asked for where there is none.
    """
    cores = usable_cores()
    if device == "cpu":
        per_cell = threads or max(1, cores // jobs if jobs else 1)
        return [WorkerResources(per_cell)] * (jobs or max(1, cores // per_cell))
    gpus = visible_gpus()
    if not gpus:
        raise ValueError("--device cuda: this machine shows no CUDA device; give --device cpu")
    count = jobs or len(gpus)
    return [WorkerResources(threads or max(1, cores // count), gpus[number % len(gpus)]) for number in range(count)]


def visible_gpus() -> List[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import os

    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [name.strip() for name in given.split(",") if name.strip()]
        return names[: torch.cuda.device_count()]
    return [str(number) for number in range(torch.cuda.device_count())]


@dataclass(frozen=True)
class Deadline:
    """When cells are ended, whether they are finished or not."""

    asked: float
    """When commands are asked to end, which leaves trainings the time for a checkpoint; seconds of the clock."""
    killed: float
    """When those are killed that have not ended; seconds of the clock."""
    clock: Callable[[], float] = time.monotonic
    """What tells the time."""


@contextmanager
def ended_in_time(runner: CommandRunner, deadline: Optional[Deadline]) -> Iterator[None]:
    """Within the block a runner's commands end at a deadline, and later ones do not start.

    Args:
        runner: of the commands.
        deadline: None: never.
    """
    if deadline is None:
        yield
        return
    over = threading.Event()

    def watch(deadline: Deadline) -> None:
        for when, act in ((deadline.asked, runner.end_all), (deadline.killed, runner.kill_all)):
            while deadline.clock() < when:
                if over.wait(_POLL_SECONDS):
                    return
            act()

    if deadline.clock() >= deadline.asked:
        # Before the first command can start.
        runner.end_all()
    watcher = threading.Thread(target=watch, args=(deadline,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@dataclass
class LocalExecutor:
    """Runs cells on this machine."""

    workers: Sequence[WorkerResources]
    """One worker each."""
    any_source: bool = False
    """Whether results of another version of the code are taken as they are."""
    run: Callable[..., Outcome] = field(default=run_cell)
    """Does one cell."""
    deadline: Optional[Deadline] = None
    """When all of it ends, finished or not; None: never."""

    def execute(self, cells: Sequence[Cell], output_dir: Path, board: Board) -> Dict[str, Outcome]:
        """Runs all cells; one that fails does not stop the rest. At the deadline what runs ends with a checkpoint, and
        nothing else begins.

        Returns:
            How each ended, by its name.
        """
        runner = CommandRunner()
        free: queue.SimpleQueue[WorkerResources] = queue.SimpleQueue()
        for resources in self.workers:
            free.put(resources)

        def work(cell: Cell) -> Outcome:
            resources = free.get()
            try:
                if runner.given_up:
                    return Outcome(cell.name, NOT_BEGUN, 0.0)
                with board.cell(cell) as line:
                    outcome = self.run(cell, output_dir, resources, runner, line.update, self.any_source)
                    line.finish(outcome)
                return outcome
            finally:
                free.put(resources)

        with end_on_termination(), ended_in_time(runner, self.deadline), ThreadPoolExecutor(len(self.workers)) as pool:
            futures: List[Future[Outcome]] = []
            try:
                futures = [pool.submit(work, cell) for cell in cells]
                return {cell.name: future.result() for cell, future in zip(cells, futures, strict=True)}
            except BaseException:
                # Also Ctrl-C: what has not begun shall not begin, and what runs ends with its commands.
                for future in futures:
                    future.cancel()
                runner.end_all()
                raise
