"""Means and deviations over seeds, per scene and per protocol."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from fewshot_ns.bench.recipes.protocols import protocol_or_none
from fewshot_ns.bench.results.cells import BenchResults, CellResult

PAPER_METRICS = ("psnr", "ssim", "lpips")
"""The metrics of the tables, as papers name them."""
DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3, "avg_error": 3}
"""Digits behind the point."""


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    mean: Optional[float]
    """Mean, None where there is none."""
    std: Optional[float]
    """Sample deviation, None for fewer than two seeds."""
    count: int
    """Number of seeds."""

    def text(self, digits: int) -> str:
        """'mean ± deviation', or 'n/a'."""
        if self.mean is None:
            return "n/a"
        return f"{self.mean:.{digits}f}" + ("" if self.std is None else f" ± {self.std:.{digits}f}")


def spread(values: Sequence[Optional[float]]) -> Spread:
    """Mean and sample deviation of the values that are there."""
    known = [value for value in values if value is not None]
    if not known:
        return Spread(None, None, 0)
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


@dataclass(frozen=True)
class Group:
    """The cells of one row of a table: one variant of a method under one protocol."""

    label: str
    """Name of the row."""
    protocol: str
    """Name of the protocol."""
    cells: Tuple[CellResult, ...]
    """Scenes times seeds."""

    @property
    def scenes(self) -> Tuple[str, ...]:
        """Names of the scenes, in the recipe's order."""
        return tuple(dict.fromkeys(cell.scene for cell in self.cells))

    @property
    def folder_names(self) -> Tuple[str, ...]:
        """Names by which published tables know the scenes."""
        return tuple(dict.fromkeys(cell.folder_name for cell in self.cells))

    @property
    def finished(self) -> Tuple[CellResult, ...]:
        """The cells with figures."""
        return tuple(cell for cell in self.cells if cell.finished)

    def metric_name(self, metric: str) -> str:
        """The metric that papers mean on this protocol: on DTU that of the object alone."""
        protocol = protocol_or_none(self.protocol)
        return metric if protocol is None else protocol.metric(metric)

    def on_scene(self, scene: str, metric: str) -> Spread:
        """A metric on one scene over the seeds.

        Args:
            scene: name of the scene.
            metric: name of the metric, as the rows have it.
        """
        return spread([cell.metrics.get(metric) for cell in self.finished if cell.scene == scene])

    def over_scenes(self, metric: str) -> Spread:
        """Mean of the scenes' means, over those seeds that are finished on every scene.

        Args:
            metric: name of the metric, as the rows have it.
        """
        by_seed: Dict[int, List[Optional[float]]] = {}
        for cell in self.finished:
            by_seed.setdefault(cell.seed, []).append(cell.metrics.get(metric))
        whole = [values for values in by_seed.values() if len(values) == len(self.scenes) and None not in values]
        return spread([statistics.fmean(value for value in values if value is not None) for values in whole])

    def cost(self, name: str) -> Spread:
        """An entry of train_stats.json over all finished cells."""
        return spread([cell.training.get(name) for cell in self.finished])


def curve_of(group: Group, scene: str) -> Sequence[Tuple[float, float, float]]:
    """CPU seconds, PSNR and its deviation over the seeds at each measured step; without steps that have no time."""
    metric = group.metric_name("psnr")
    by_step: Dict[int, List[Tuple[float, float]]] = {}
    for cell in group.finished:
        for point in cell.curve if cell.scene == scene else ():
            if point.cpu_seconds is not None and metric in point.metrics:
                by_step.setdefault(point.step, []).append((point.cpu_seconds, point.metrics[metric]))
    points = []
    for _, found in sorted(by_step.items()):
        seconds, values = (spread([pair[number] for pair in found]) for number in (0, 1))
        points.append((round(seconds.mean or 0.0, 2), round(values.mean or 0.0, 4), round(values.std or 0.0, 4)))
    return points


def protocols_of(results: BenchResults) -> Tuple[str, ...]:
    """Protocols, in the recipe's order."""
    return tuple(dict.fromkeys(cell.protocol for cell in results.cells))


def groups_of(results: BenchResults, protocol: str) -> Tuple[Group, ...]:
    """Rows of a protocol's table, in the recipe's order."""
    rows: Dict[str, List[CellResult]] = {}
    for cell in results.cells:
        if cell.protocol == protocol:
            rows.setdefault(cell.label, []).append(cell)
    return tuple(Group(label, protocol, tuple(cells)) for label, cells in rows.items())
