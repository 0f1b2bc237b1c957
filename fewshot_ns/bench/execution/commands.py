"""The `ns-fewshot eval` commands of a cell."""

from __future__ import annotations

from typing import List, Optional, Tuple

from fewshot_ns.bench.execution.records import EVAL, VIEWS
from fewshot_ns.bench.planning.plan import Cell, SourceEvaluation
from fewshot_ns.utils.processes import console_script


def evaluate_commands(cell: Cell) -> List[Tuple[str, ...]]:
    """What measures a trained cell, as ns-eval does; each command can be taken up again.

    Args:
        cell: of one scene: one command; of a multi-scene dataset: two for each evaluation.
    """
    if cell.evaluations:
        return [command for entry in cell.evaluations for command in _source_commands(cell, entry)]
    options = cell.evaluation
    words = _given(("--max-views", options.max_views), ("--max-side", options.max_side))
    return [_command(cell, EVAL, *words, *_pictures(cell, VIEWS))]


def _source_commands(cell: Cell, entry: SourceEvaluation) -> List[Tuple[str, ...]]:
    """All test scenes with some source views, then pictures of one scene."""
    options = cell.evaluation
    words = _given(("--max-views", options.max_views), ("--max-scenes", options.max_scenes))
    commands = [_command(cell, entry.file, *words, *entry.flags)]
    if options.pictures:
        words = ("--scenes", cell.pictured_scene, "--max-views", str(options.pictures), *entry.flags)
        commands.append(_command(cell, f"pictures-{entry.protocol}.json", *words, *_pictures(cell, entry.views)))
    return commands


def _pictures(cell: Cell, folder: str) -> Tuple[str, ...]:
    number = cell.evaluation.pictures
    return ("--render-dir", str(cell.folder / folder), "--render-views", str(number)) if number else ()


def _command(cell: Cell, file: str, *words: str) -> Tuple[str, ...]:
    files = ("--load-config", str(cell.run_dir / "config.yml"), "--output-path", str(cell.folder / file))
    metrics = cell.evaluation.metrics
    chosen = () if metrics is None else ("--metrics", *metrics)
    return (str(console_script("ns-fewshot")), "eval", *files, *words, *chosen)


def _given(*flags: Tuple[str, Optional[int]]) -> Tuple[str, ...]:
    """Words of the flags that have a value."""
    return tuple(word for flag, value in flags if value is not None for word in (flag, str(value)))
