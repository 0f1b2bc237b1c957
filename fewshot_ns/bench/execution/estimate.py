"""How long cells will take, from those that have been done."""

from __future__ import annotations

import statistics
from typing import Dict, List, Optional, Sequence, Tuple

from fewshot_ns.bench.execution.records import FINISHED, read_record
from fewshot_ns.bench.planning.plan import Cell, Plan

_STARTUP_SECONDS = 30.0
"""What starting two commands and evaluating costs at least, where only the limit of the training is known."""


class Estimator:
    """Seconds per cell: the mean of finished cells of the same method on the same scene, else of the same method,
    else the limit of the recipe. It looks at the folder once and learns from then on."""

    def __init__(self, plan: Plan) -> None:
        self._seconds: Dict[Tuple[str, str], List[float]] = {}
        for cell in plan.cells:
            self.learn(cell)

    def learn(self, cell: Cell) -> None:
        """Takes note of what a cell took, all its attempts together, if it is finished."""
        record = read_record(cell.folder)
        if record is not None and record.get("status") == FINISHED:
            seconds = record.get("seconds_training", 0.0) + record.get("seconds_evaluation", 0.0)
            self._seconds.setdefault((cell.label, cell.scene), []).append(seconds)

    def seconds(self, cell: Cell) -> Optional[float]:
        """Wall clock of one cell; None where nothing is known."""
        same = self._seconds.get((cell.label, cell.scene))
        alike = [value for (label, _), values in self._seconds.items() if label == cell.label for value in values]
        if same or alike:
            return statistics.fmean(same or alike)
        return None if cell.cpu_seconds is None else cell.cpu_seconds + _STARTUP_SECONDS

    def total(self, cells: Sequence[Cell], workers: int) -> Optional[float]:
        """Wall clock of several cells on some workers; None where one of them is not known."""
        known = [self.seconds(cell) for cell in cells]
        if any(value is None for value in known):
            return None
        values = [value for value in known if value is not None]
        # No worker can be done before its share, nor all before the longest cell.
        return max(sum(values) / max(workers, 1), max(values, default=0.0))


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
