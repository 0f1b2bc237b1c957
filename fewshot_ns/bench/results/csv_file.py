"""Results as CSV: one line per cell, so that a version control system shows what changed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from fewshot_ns.bench.results.cells import BenchResults, CellResult, with_folder_name
from fewshot_ns.utils.files import write_text

COLUMNS = (
    "recipe",
    "protocol",
    "scene",
    "folder_name",
    "method",
    "label",
    "seed",
    "as_published",
    "own_length",
    "status",
    "steps",
    "width",
    "height",
    "test_views",
    "evaluated_views",
    "device",
    "cpu_seconds",
    "wall_seconds",
    "rays",
    "peak_memory_bytes",
    "peak_gpu_memory_bytes",
    "source",
    "overrides",
    "scene_overrides",
    "error",
)
"""Columns before the metrics."""
SCENE_COUNTS = ("objects", "test_objects")
"""Further columns where a scene of the recipe is a multi-scene dataset."""
INITIAL_POINTS = ("initial_points",)
"""Further column where a model started from points."""
_OPTIONAL = (*SCENE_COUNTS, *INITIAL_POINTS)
_COST = ("cpu_seconds", "wall_seconds", "rays", "peak_memory_bytes", "peak_gpu_memory_bytes")
_DIGITS = 6
"""Digits behind the point of metrics, more than any table shows."""


def as_csv(results: BenchResults) -> str:
    """All cells, the metrics in alphabetical order behind what they are about."""
    names = sorted({name for cell in results.cells for name in cell.metrics})
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = (
        *COLUMNS,
        *(SCENE_COUNTS if any(cell.test_objects is not None for cell in results.cells) else ()),
        *(INITIAL_POINTS if any(cell.initial_points for cell in results.cells) else ()),
    )
    writer.writerow([*columns, *names])
    for cell in results.cells:
        values = _row(cell)
        writer.writerow([*(values[name] for name in columns), *(_number(cell.metrics.get(name)) for name in names)])
    return stream.getvalue()


def read_csv(path: Path) -> BenchResults:
    """Reads what `as_csv` has written; rows per image and curves are not in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing or a value is no number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected results of benchmarks (CSV), found no such file")
    with path.open(encoding="utf8", newline="") as stream:
        reader = csv.DictReader(stream)
        names = with_folder_name(dict.fromkeys(reader.fieldnames or ()))
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, {', '.join(missing)} not found")
        try:
            cells = tuple(_cell(with_folder_name(row)) for row in reader)
        except ValueError as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return BenchResults("results", "", cells)


def merge_into(path: Path, results: BenchResults) -> None:
    """Puts the cells of a benchmark into a CSV file of many; all earlier ones of the same recipe go."""
    before = read_csv(path).cells if path.is_file() else ()
    kept = [cell for cell in before if cell.recipe != results.name]
    cells = sorted([*kept, *results.cells], key=lambda cell: cell.recipe)
    write_text(path, as_csv(BenchResults("results", "", tuple(cells))))


def _row(cell: CellResult) -> Dict[str, Any]:
    width, height = cell.size or ("", "")
    known = {name: getattr(cell, name) for name in (*COLUMNS, *_OPTIONAL) if hasattr(cell, name)}
    cost = {name: cell.training.get(name) for name in _COST}
    cost = {name: _number(value, 1 if name.endswith("seconds") else 0) for name, value in cost.items()}
    return {
        **{name: "" if value is None else value for name, value in {**known, **cost}.items()},
        "width": width,
        "height": height,
        "evaluated_views": cell.num_images or "",
        "overrides": " ".join(cell.overrides),
        "scene_overrides": " ".join(cell.scene_overrides),
        # The last line is the error itself, what stands before it the way there.
        "error": cell.error.strip().splitlines()[-1].strip() if cell.error.strip() else "",
    }


def _number(value: Any, digits: int = _DIGITS) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _cell(row: Dict[str, str]) -> CellResult:
    def optional(name: str, kind: Callable[[str], Any]) -> Any:
        return kind(row[name]) if row.get(name) else None

    size = (int(row["width"]), int(row["height"])) if row["width"] else None
    training = {name: optional(name, float) for name in _COST}
    return CellResult(
        recipe=row["recipe"],
        protocol=row["protocol"],
        scene=row["scene"],
        folder_name=row["folder_name"],
        method=row["method"],
        label=row["label"],
        status=row["status"],
        device=row["device"],
        source=row["source"],
        seed=int(row["seed"]),
        as_published=row["as_published"] == "True",
        own_length=row["own_length"] == "True",
        overrides=tuple(row["overrides"].split()),
        scene_overrides=tuple(row["scene_overrides"].split()),
        error=row["error"],
        steps=optional("steps", int),
        size=size,
        test_views=optional("test_views", int),
        metrics={name: float(value) for name, value in row.items() if name not in (*COLUMNS, *_OPTIONAL) and value},
        num_images=optional("evaluated_views", int) or 0,
        objects=optional("objects", int),
        test_objects=optional("test_objects", int),
        initial_points=row.get("initial_points") or "",
        training={name: value for name, value in training.items() if value is not None},
    )


def groups_by_recipe(cells: Sequence[CellResult]) -> List[Tuple[str, BenchResults]]:
    """The cells of each recipe of a file of many."""
    names = dict.fromkeys(cell.recipe for cell in cells)
    return [(name, BenchResults(name, "", tuple(cell for cell in cells if cell.recipe == name))) for name in names]


def as_json_text(results: BenchResults) -> str:
    """All results but the pictures, for a results file that `read_results` reads."""
    return json.dumps(results.as_json(), indent=1, allow_nan=False) + "\n"
