"""Results as CSV: one line per cell, so that a version control system shows what changed."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from fewshot_ns.bench.results.cells import BenchResults, CellResult
from fewshot_ns.bench.results.files import STATUS_WORDS, with_folder_name
from fewshot_ns.utils.files import write_text
from fewshot_ns.utils.shown_values import shown

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
GPU_NAME = ("gpu_name",)
"""Further column where a GPU trained."""
_OPTIONAL = (*SCENE_COUNTS, *INITIAL_POINTS, *GPU_NAME)
_COST = ("cpu_seconds", "wall_seconds", "rays", "peak_memory_bytes", "peak_gpu_memory_bytes")
_DIGITS = 6
"""Digits behind the point of metrics, more than any table shows."""
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")
"""How the lines begin that a version control system writes where it cannot merge."""
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def as_csv(results: BenchResults) -> str:
    """All cells, the metrics in alphabetical order behind what they are about."""
    names = sorted({name for cell in results.cells for name in cell.metrics})
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = (
        *COLUMNS,
        *(SCENE_COUNTS if any(cell.test_objects is not None for cell in results.cells) else ()),
        *(INITIAL_POINTS if any(cell.initial_points for cell in results.cells) else ()),
        *(GPU_NAME if any(cell.gpu_name for cell in results.cells) else ()),
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
    rows = _rows(path)
    line, header = next(rows, (1, []))
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path}, line {line}: expected each column once, found {', '.join(twice[:5])} more than once")
    names = with_folder_name(dict.fromkeys(header))
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, {', '.join(missing)} not found")
    cells = []
    for line, values in rows:
        if len(values) != len(header):
            raise ValueError(f"{path}, line {line}: expected {len(header)} values, found {len(values)}")
        try:
            cells.append(_cell(with_folder_name(dict(zip(header, values, strict=True)))))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    return BenchResults("results", "", tuple(cells))


def _rows(path: Path) -> Iterator[Tuple[int, List[str]]]:
    """The rows of a CSV file that are not empty, with their lines' numbers."""
    try:
        # What some programs write begins with a mark of its byte order.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, found another byte at {error.start}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(_CONFLICT):
            raise ValueError(f"{path}, line {number}: expected a row, found the mark of a conflict {shown(line[:20])}")
    if "\0" in text:
        raise ValueError(f"{path}: expected text, found a zero byte at {text.index(chr(0))}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: expected CSV, found another ({error})") from error


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
    if value is not None and not math.isfinite(value):
        raise ValueError(f"expected finite figures in the results of a benchmark, found {value}")
    return "" if value is None else f"{value:.{digits}f}"


def _whole(name: str, text: str) -> int:
    # Whatever else int() takes, such as 1_000, is not what stands in such a file.
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{name}: expected a whole number, found {shown(text)}")
    return int(text)


def _finite(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name}: expected a number, found {shown(text)}") from error
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, found {shown(text)}")
    return value


def _yes(name: str, text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"{name}: expected True or False, found {shown(text)}")
    return text == "True"


def _status(text: str) -> str:
    if text not in STATUS_WORDS:
        raise ValueError(f"status: expected one of {', '.join(STATUS_WORDS)}, found {shown(text)}")
    return text


def _cell(row: Dict[str, str]) -> CellResult:
    def optional(name: str) -> Optional[int]:
        return _whole(name, row[name]) if row.get(name) else None

    size = (_whole("width", row["width"]), _whole("height", row["height"])) if row["width"] else None
    return CellResult(
        recipe=row["recipe"],
        protocol=row["protocol"],
        scene=row["scene"],
        folder_name=row["folder_name"],
        method=row["method"],
        label=row["label"],
        status=_status(row["status"]),
        device=row["device"],
        source=row["source"],
        seed=_whole("seed", row["seed"]),
        as_published=_yes("as_published", row["as_published"]),
        own_length=_yes("own_length", row["own_length"]),
        overrides=tuple(row["overrides"].split()),
        scene_overrides=tuple(row["scene_overrides"].split()),
        error=row["error"],
        steps=optional("steps"),
        size=size,
        test_views=optional("test_views"),
        metrics={name: _finite(name, value) for name, value in row.items() if _is_metric(name) and value},
        num_images=optional("evaluated_views") or 0,
        objects=optional("objects"),
        test_objects=optional("test_objects"),
        initial_points=row.get("initial_points") or "",
        gpu_name=row.get("gpu_name") or "",
        training={name: _finite(name, row[name]) for name in _COST if row[name]},
    )


def _is_metric(name: str) -> bool:
    return name not in (*COLUMNS, *_OPTIONAL)


def groups_by_recipe(cells: Sequence[CellResult]) -> List[Tuple[str, BenchResults]]:
    """The cells of each recipe of a file of many."""
    names = dict.fromkeys(cell.recipe for cell in cells)
    return [(name, BenchResults(name, "", tuple(cell for cell in cells if cell.recipe == name))) for name in names]


def as_json_text(results: BenchResults) -> str:
    """All results but the pictures, for a results file that `read_results` reads."""
    return json.dumps(results.as_json(), indent=1, allow_nan=False) + "\n"
