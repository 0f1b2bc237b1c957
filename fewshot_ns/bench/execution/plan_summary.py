"""The plan of a benchmark for people, before it runs, and on disk for the report."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union

from rich.console import Console

from fewshot_ns.bench.execution.estimate import Estimator, duration
from fewshot_ns.bench.execution.records import (
    FAILED,
    PLAN,
    is_begun,
    is_finished,
    is_same,
    is_trained,
    last_step,
    read_record,
)
from fewshot_ns.bench.planning.plan import Cell, Plan
from fewshot_ns.bench.planning.trainings import has_figures, remark_of, training_differences
from fewshot_ns.presentation.tables import Column, Table, TableCell, print_table
from fewshot_ns.utils.files import replacing, write_json


def cell_state(cell: Cell, any_source: bool) -> str:
    """How far a cell is: 'finished', 'trained', 'resume at N', 'new' or, with other settings or by other code,
    'made otherwise', which is set aside before the cell is run again."""
    if is_finished(cell, any_source):
        return "finished"
    record = read_record(cell.folder)
    if record is None:
        return "new"
    if not is_same(cell, any_source):
        return "made otherwise"
    if is_trained(cell, any_source):
        return "trained"
    before = "failed, " if record.get("status") == FAILED else ""
    return before + (f"resume at {last_step(cell.run_dir)}" if is_begun(cell, any_source) else "new")


def print_plan(plan: Plan, estimator: Estimator, workers: int, any_source: bool, console: Console) -> None:
    """One row per method and scene, and what all of it will take.

    Args:
        plan: what is to be done.
        estimator: how long cells take.
        workers: cells at a time.
        any_source: whether results of another version of the code count.
        console: where to print.
    """
    recipe = plan.recipe
    titles = (
        "method",
        "scene",
        "protocol",
        "size",
        "test views",
        "steps",
        "CPU s at most",
        "seeds",
        "cells",
        "per cell",
    )
    rows: List[List[TableCell]] = []
    groups: Dict[Any, List[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.label, cell.scene), []).append(cell)
    states = {cell.name: cell_state(cell, any_source) for cell in plan.cells}
    for (label, scene), cells in groups.items():
        first = cells[0]
        seconds = estimator.seconds(first)
        counted = Counter(states[cell.name] for cell in cells)
        rows.append(
            [
                label,
                scene,
                _protocols(first),
                "x".join(map(str, first.size)),
                _measured_views(first),
                "by the method" if first.steps is None else first.steps,
                "no limit" if first.cpu_seconds is None else f"{first.cpu_seconds:g}",
                ", ".join(str(cell.seed) for cell in cells),
                ", ".join(f"{count} {state}" for state, count in counted.items()),
                "unknown" if seconds is None else duration(seconds),
            ]
        )
    print_table(Table([Column(title) for title in titles], rows), recipe.name)
    for line in published_lines(plan.cells):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    missing = [cell for cell in plan.cells if states[cell.name] != "finished"]
    left = estimator.total(missing, workers)
    time = "nothing is left to do" if not missing else "time unknown: no cell of every method has run yet"
    if missing and left is not None:
        time = f"about {duration(left)} on {workers} worker{'s' if workers > 1 else ''}"
    console.print(
        f"{recipe.name}: {len(plan.cells)} cells, {len(missing)} to do; {time}; in {plan.output_dir}",
        highlight=False,
        soft_wrap=True,
    )


def published_lines(cells: Sequence[Cell]) -> List[str]:
    """A line for each row of the tables of which papers print figures: what it does otherwise than they do."""
    rows: Dict[Tuple[str, str], List[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.label, cell.protocol), []).append(cell)
    found = []
    for (label, protocol), row in rows.items():
        if has_figures(row[0]):
            differences = "; ".join(filter(None, [*training_differences(row), remark_of(row[0])]))
            said = f"not as published: {differences}" if differences else "trained as published"
            found.append(f"{label}, {protocol}: {said}")
    return found


def _protocols(cell: Cell) -> str:
    return ", ".join(entry.protocol for entry in cell.evaluations) or cell.protocol


def _measured_views(cell: Cell) -> Union[int, str]:
    limit = cell.evaluation.max_views
    if cell.evaluations:
        return f"{'all' if limit is None else limit} of {cell.test_scenes} scenes"
    return cell.test_views if limit is None else min(limit, cell.test_views)


def _evaluated(cell: Cell) -> List[Tuple[str, str, str]]:
    """Protocol, file of averages and folder of pictures of each evaluation; '' where they have their usual names."""
    return [(entry.protocol, entry.file, entry.views) for entry in cell.evaluations] or [(cell.protocol, "", "")]


def write_plan(plan: Plan) -> None:
    """Keeps the recipe and the list of cells in the folder of the benchmark, for the report."""
    folder, recipe = plan.output_dir, plan.recipe
    cells = [
        {
            **{name: value for name, value in (("eval", file), ("views", views)) if value},
            "folder": cell.folder.relative_to(folder.absolute()).as_posix(),
            "scene": cell.scene,
            "folder_name": cell.folder_name,
            "protocol": protocol,
            "method": cell.method,
            "label": cell.label,
            "seed": cell.seed,
            "as_published": cell.as_published,
        }
        for cell in plan.cells
        for protocol, file, views in _evaluated(cell)
    ]
    write_json(folder / PLAN, {"name": recipe.name, "description": recipe.description, "cells": cells})
    with replacing(folder / "recipe.yaml") as partial:
        shutil.copyfile(Path(recipe.origin), partial)
