"""The cells of a plan on this machine: one worker per GPU, or per part of the CPU."""

from __future__ import annotations

import queue
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Sequence

from fewshot_ns.bench.execution.cells import Outcome, WorkerResources, run_cell, usable_cores
from fewshot_ns.bench.execution.progress import Board
from fewshot_ns.bench.planning.plan import Cell
from fewshot_ns.utils.processes import CommandRunner, end_on_termination


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


@dataclass
class LocalExecutor:
    """Runs cells on this machine."""

    workers: Sequence[WorkerResources]
    """One worker each."""
    any_source: bool = False
    """Whether results of another version of the code are taken as they are."""
    run: Callable[..., Outcome] = field(default=run_cell)
    """Does one cell."""

    def execute(self, cells: Sequence[Cell], output_dir: Path, board: Board) -> Dict[str, Outcome]:
        """Runs all cells; one that fails does not stop the rest.

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
                with board.cell(cell) as line:
                    outcome = self.run(cell, output_dir, resources, runner, line.update, self.any_source)
                    line.finish(outcome)
                return outcome
            finally:
                free.put(resources)

        with end_on_termination(), ThreadPoolExecutor(len(self.workers)) as pool:
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
