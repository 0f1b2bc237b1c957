"""The cells of a plan on a Ray cluster: each is a task, the folder of the benchmark is one that all nodes see."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

from fewshot_ns.bench.execution.cells import Outcome, WorkerResources, run_cell
from fewshot_ns.bench.execution.progress import Board
from fewshot_ns.bench.execution.records import FAILED
from fewshot_ns.bench.planning.plan import Cell
from fewshot_ns.utils.optional_imports import require
from fewshot_ns.utils.processes import end_on_termination

_POLL_SECONDS = 1.0


def connect(address: Optional[str]) -> Any:
    """Connects to a cluster, or starts one on this machine.

    Args:
        address: of the head node, 'auto' for the one that runs here; None: RAY_ADDRESS, else a new one on this machine.

    Returns:
        The module `ray`.

    Raises:
        ImportError: ray is not installed.
        ConnectionError: there is no cluster at the address.
    """
    ray = require("ray", "bench")
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    return ray


def cluster_workers(ray: Any, resources: WorkerResources, device: str) -> int:
    """How many cells fit on the cluster at a time.

    Args:
        ray: the module, connected.
        resources: what a cell gets.
        device: 'cpu' or 'cuda'.
    """
    available = ray.cluster_resources()
    by_cpu = int(available.get("CPU", 0.0) // resources.threads)
    return max(1, min(by_cpu, int(available.get("GPU", 0.0))) if device == "cuda" else by_cpu)


@dataclass
class RayExecutor:
    """Runs cells as Ray tasks, spread over the nodes.

    A cell whose node is lost goes on from its last checkpoint on another one.
    """

    ray: Any
    """The module, connected."""
    resources: WorkerResources
    """What a cell gets; on CUDA one GPU beside it, which Ray chooses."""
    any_source: bool = False
    """Whether results of another version of the code are taken as they are."""
    run: Callable[..., Outcome] = field(default=run_cell)
    """Does one cell."""

    def execute(self, cells: Sequence[Cell], output_dir: Path, board: Board) -> Dict[str, Outcome]:
        """Runs all cells; one that fails does not stop the rest.

        Returns:
            How each ended, by its name.
        """
        ray, started = self.ray, time.monotonic()
        task = ray.remote(self.run)
        open_cells: Dict[Any, Cell] = {}
        for cell in cells:
            gpus = 1 if cell.device == "cuda" else 0
            options = dict(num_cpus=self.resources.threads, num_gpus=gpus, scheduling_strategy="SPREAD", name=cell.name)
            reference = task.options(**options).remote(cell, output_dir, self.resources, any_source=self.any_source)
            open_cells[reference] = cell
        outcomes: Dict[str, Outcome] = {}
        with end_on_termination():
            try:
                while open_cells:
                    for reference in ray.wait(list(open_cells), timeout=_POLL_SECONDS)[0]:
                        cell = open_cells.pop(reference)
                        outcomes[cell.name] = self._outcome(reference, cell, time.monotonic() - started)
                        board.ended(cell, outcomes[cell.name])
            except BaseException:
                # Also Ctrl-C: what has not begun shall not begin, and what runs ends with its commands.
                for reference in open_cells:
                    ray.cancel(reference)
                raise
        return outcomes

    def _outcome(self, reference: Any, cell: Cell, seconds: float) -> Outcome:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return Outcome(cell.name, FAILED, seconds, f"Ray lost the cell: {error}")
