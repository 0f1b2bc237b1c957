"""gpu_report.md and results.csv: what the cells of several recipes have come to, what is left, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from protocol_worth import Ranked, WholePlan
from splat_renderers import Comparison, as_text

from fewshot_ns.bench.execution.cells import Outcome
from fewshot_ns.bench.execution.estimate import Estimator, duration
from fewshot_ns.bench.execution.plan_summary import cell_state
from fewshot_ns.bench.results.cells import BenchResults, CellResult, read_results
from fewshot_ns.bench.results.csv_file import as_csv
from fewshot_ns.bench.results.status import published
from fewshot_ns.bench.results.summary import Group, groups_of, protocols_of
from fewshot_ns.presentation.tables import Column, Table, TableCell, as_markdown
from fewshot_ns.utils.files import write_text

REPORT, RESULTS = "gpu_report.md", "results.csv"


@dataclass(frozen=True)
class Missing:
    """What keeps cells from being run, or rows from being whole."""

    plan: WholePlan
    """Its absent scenes and problems are told."""
    data: Path
    """Folder of the scenes."""
    weights: Mapping[str, Tuple[str, ...]]
    """Methods that want weights which are not on this disk, by the name of the weights."""

    def lines(self) -> List[str]:
        """A line for each thing."""
        found = [
            f"{path}: not in {self.data}; wanted by {', '.join(recipes)}" for path, recipes in self.plan.absent.items()
        ]
        found += self.plan.problems
        found += [
            f"weights of {name}: not on this disk; wanted by {', '.join(labels)}, downloaded if that can be"
            for name, labels in self.weights.items()
        ]
        return found


def plan_table(plan: WholePlan, estimator: Estimator, any_source: bool) -> Table:
    """A row for each recipe and round, in the order in which they are begun.

    Args:
        plan: of all recipes.
        estimator: how long cells take.
        any_source: whether results of another version of the code count.
    """
    rows: List[List[TableCell]] = []
    groups: Dict[Tuple[str, int], List[Ranked]] = {}
    for one in plan.cells:
        groups.setdefault((one.recipe, one.round), []).append(one)
    for (recipe, number), ranked in groups.items():
        cells = [one.cell for one in ranked]
        states = Counter(cell_state(cell, any_source) for cell in cells)
        left = [cell for cell in cells if cell_state(cell, any_source) != "finished"]
        seconds = estimator.total(left, 1)
        scenes = list(dict.fromkeys(cell.scene for cell in cells))
        shown = ", ".join(scenes[:4]) + (f" and {len(scenes) - 4} more" if len(scenes) > 4 else "")
        seeds = sorted({cell.seed for cell in cells})
        rows.append(
            [
                recipe,
                shown,
                ", ".join(map(str, seeds)),
                len({cell.label for cell in cells}),
                ", ".join(f"{count} {state}" for state, count in states.items()),
                "nothing" if not left else "unknown" if seconds is None else duration(seconds),
                ranked[0].worth.reason if number == 0 else "",
            ]
        )
    titles = ("recipe", "scenes", "seeds", "methods", "cells", "time left", "why here")
    return Table([Column(title) for title in titles], rows)


def results_of(plan: WholePlan) -> List[BenchResults]:
    """What the folders of the recipes hold."""
    return [read_results(each.output_dir) for each in plan.plans]


def results_table(results: List[BenchResults]) -> Table:
    """A row for each finished cell, with the paper's PSNR on the same scene."""
    rows: List[List[TableCell]] = []
    for result in results:
        for protocol in protocols_of(result):
            for group in groups_of(result, protocol):
                rows += [_result_row(result.name, group, cell) for cell in group.finished]
    titles = ("recipe", "scene", "method", "seed", "steps", "size", "PSNR", "SSIM", "LPIPS", "paper's PSNR")
    columns = [Column(title, 3 if title in ("SSIM", "LPIPS") else 2) for title in titles]
    costs = ("as published", "device", "peak GPU MB", "CPU s", "wall s")
    columns += [Column(title, 0) for title in costs]
    caption = (
        "Seconds are those of the training's steps. On dtu-N of the object alone. As published: the method, its length "
        "and no variant of it."
    )
    return Table(columns, rows, caption)


def _result_row(recipe: str, group: Group, cell: CellResult) -> List[TableCell]:
    paper = published(group, cell.scene).get("psnr")
    peak = cell.training.get("peak_gpu_memory_bytes")
    return [
        recipe,
        cell.scene if len(cell.protocol) == 0 else f"{cell.scene} ({cell.protocol})",
        cell.label,
        cell.seed,
        cell.steps,
        None if cell.size is None else f"{cell.size[0]}x{cell.size[1]}",
        *(cell.metrics.get(group.metric_name(name)) for name in ("psnr", "ssim", "lpips")),
        None if paper is None else paper.value,
        "yes" if cell.as_published and cell.own_length else "no",
        cell.gpu_name or cell.device,
        None if peak is None else peak / 1e6,
        *(cell.training.get(name) for name in ("cpu_seconds", "wall_seconds")),
    ]


def done_table(outcomes: List[Tuple[Ranked, Outcome]]) -> Table:
    """A row for each cell that had its turn in a call.

    Args:
        outcomes: cells and how they ended.
    """
    rows: List[List[TableCell]] = []
    for one, outcome in outcomes:
        error = outcome.error.strip().splitlines()[-1].strip() if outcome.status == "failed" else ""
        rows.append([one.name, outcome.status, duration(outcome.seconds), error])
    return Table([Column(title) for title in ("cell", "ended", "time", "error")], rows)


@dataclass(frozen=True)
class Page:
    """All that the report says."""

    machine: str
    """What it ran on, in words."""
    outcomes: List[Tuple[Ranked, Outcome]]
    """What this call did."""
    missing: Missing
    """What is missing."""
    renderers: Optional[Comparison]
    """The comparison of splats' renderers; None: it was not asked for."""

    def write(self, folder: Path, estimator: Estimator, any_source: bool) -> Path:
        """Writes the page and the rows of all cells.

        Args:
            folder: where to.
            estimator: how long cells take.
            any_source: whether results of another version of the code count.

        Returns:
            The page.
        """
        plan = self.missing.plan
        results = results_of(plan)
        cells = tuple(replace(cell, recipe=result.name) for result in results for cell in result.cells)
        write_text(folder / RESULTS, as_csv(BenchResults("gpu", "", cells)))
        finished = [cell for cell in cells if cell.finished]
        parts = [
            "# Protocol recipes on one machine",
            f"{self.machine}. {len(finished)} of {len(cells)} cells are finished. Rows of all cells: [{RESULTS}]"
            f"({RESULTS}); tables and pictures of one recipe: `ns-fewshot report {folder.name}/RECIPE`.",
        ]
        if finished:
            parts += ["## Results", as_markdown(results_table(results)).rstrip()]
        if self.renderers is not None:
            parts += ["## Splats: gsplat's kernels and torch", as_text(self.renderers)]
        if self.outcomes:
            parts += ["## Done by the last call", as_markdown(done_table(self.outcomes)).rstrip()]
        parts += ["## In order of worth", as_markdown(plan_table(plan, estimator, any_source)).rstrip()]
        lines = self.missing.lines()
        if lines:
            parts += ["## Missing", "\n".join(f"- {line}" for line in lines)]
        write_text(folder / REPORT, "\n\n".join(parts) + "\n")
        return folder / REPORT
