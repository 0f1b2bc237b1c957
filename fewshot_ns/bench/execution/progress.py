"""What a benchmark shows while it runs: one bar for all, one per running cell, a line for every finished one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Dict, Iterator, Mapping, Optional, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fewshot_ns.bench.execution.cells import Outcome
from fewshot_ns.bench.execution.estimate import Estimator, duration
from fewshot_ns.bench.planning.plan import Cell

_EVALUATION_SHARE = 0.1
"""Part of a cell's bar that its evaluation takes."""


class Board:
    """The lines of a benchmark.

    Args:
        console: where to draw.
        cells: all cells that are to be done.
        estimator: how long a cell takes.
        workers: how many cells run at a time.
        names: what cells are called, by their folders; others by their own names.
    """

    def __init__(
        self,
        console: Console,
        cells: Sequence[Cell],
        estimator: Estimator,
        workers: int,
        names: Mapping[Path, str] = MappingProxyType({}),
    ) -> None:
        self._names = names
        self.console, self.estimator, self.workers = console, estimator, workers
        # Cells of several benchmarks may have one name.
        self._open: Dict[Path, Cell] = {cell.folder: cell for cell in cells}
        self._count, self._failed = len(cells), 0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._overall: Optional[TaskID] = None

    @contextmanager
    def showing(self) -> Iterator[Board]:
        """The lines are alive within the block."""
        with self.progress:
            self._overall = self.progress.add_task("[bold]all cells", total=max(self._count, 1), note=self._note())
            yield self

    @contextmanager
    def cell(self, cell: Cell) -> Iterator[CellLine]:
        """The line of a cell that is worked on within the block."""
        task = self.progress.add_task(escape(self._name(cell)), total=1.0, note="waiting")
        try:
            yield CellLine(self, cell, task)
        finally:
            self.progress.remove_task(task)

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Says how a cell ended."""
        self._open.pop(cell.folder, None)
        self._failed += outcome.status == "failed"
        if outcome.status == "finished":
            self.estimator.learn(cell)
        done = self._count - len(self._open)
        colour = {"failed": "red", "reused": "dim"}.get(outcome.status, "green")
        first = outcome.error.splitlines()[0] if outcome.error else ""
        note = "; ".join(part for part in (duration(outcome.seconds), self._note()) if part)
        self.console.print(
            f"{done}/{self._count} [{colour}]{outcome.status}[/{colour}] {escape(self._name(cell))} ({note}) "
            f"{escape(first)}".rstrip(),
            highlight=False,
            soft_wrap=True,
        )
        if self._overall is not None:
            self.progress.update(self._overall, completed=done, note=self._note())

    def _name(self, cell: Cell) -> str:
        return self._names.get(cell.folder, cell.name)

    def _note(self) -> str:
        left = self.estimator.total(list(self._open.values()), self.workers)
        parts = [f"{self._failed} failed"] if self._failed else []
        if self._open:
            parts.append("time left unknown" if left is None else f"about {duration(left)} left")
        return ", ".join(parts)


@dataclass
class CellLine:
    """The line of one running cell."""

    board: Board
    """Where it is."""
    cell: Cell
    """Whose it is."""
    task: TaskID
    """Its bar."""

    def update(self, what: str, step: int) -> None:
        """Moves the bar.

        Args:
            what: 'train' or 'evaluate'.
            step: steps of the training that are done.
        """
        total = self.cell.steps
        share = 1.0 if what == "evaluate" else min(step / total, 1.0) if total else 0.0
        note = f"step {step}" + (f" of {total}" if total else "") if what == "train" else "evaluating"
        self.board.progress.update(self.task, completed=share * (1.0 - _EVALUATION_SHARE), note=note)

    def finish(self, outcome: Outcome) -> None:
        """Says how the cell ended."""
        self.board.ended(self.cell, outcome)
