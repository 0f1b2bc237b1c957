"""One row per evaluated image: written as JSON lines, read back, averaged.

A file holds one JSON object per line: `file_name`, `view_index`, `split_index`, `step`, `num_rays_per_sec`, then the
metrics by name. A metric that could not be had is null.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from fewshot_ns.utils.files import replacing

ROW_KEYS = ("file_name", "view_index", "split_index", "step", "num_rays_per_sec")
"""Keys of a row that are not metrics."""


@dataclass(frozen=True)
class LedgerRow:
    """What was measured on one image."""

    file_name: str
    """Name of the true image's file."""
    view_index: int
    """Index of the view in the whole scene, from 0."""
    split_index: int
    """Index of the view among the evaluated ones, from 0."""
    step: int
    """Training step of the evaluated weights."""
    num_rays_per_sec: Optional[float] = None
    """Rays rendered per second of wall time, None where it was not measured."""
    metrics: Dict[str, Optional[float]] = field(default_factory=dict)
    """Values by metric name, None where a metric could not be had."""


@dataclass(frozen=True)
class MetricSummary:
    """One metric over the images that have it."""

    mean: Optional[float]
    """Mean, None when no image has the metric."""
    std: Optional[float]
    """Sample standard deviation; 0 for one image, None when no image has the metric."""
    count: int
    """Number of images that have the metric."""


def ledger_path(run_dir: Path, step: int) -> Path:
    """Where a run keeps the rows of one evaluation; numbered like the host's checkpoints."""
    return run_dir / "eval" / f"step-{step:09d}.jsonl"


def write_rows(path: Path, rows: Sequence[LedgerRow]) -> None:
    """Writes the rows as JSON lines, whole or not at all.

    Args:
        path: file to write; its folder is made, an older file replaced.
        rows: one per image, in the order to be written.

    Raises:
        ValueError: a value is NaN or infinite, or a metric is named like one of `ROW_KEYS`.
    """
    text = "".join(json.dumps(row_to_json(row), allow_nan=False) + "\n" for row in rows)
    with replacing(path) as partial:
        partial.write_text(text, "utf8")


def read_rows(path: Path) -> List[LedgerRow]:
    """Reads what `write_rows` has written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a row; the message names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a ledger of evaluation rows, found no file")
    rows = []
    for number, line in enumerate(path.read_text("utf8").splitlines(), start=1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: expected a JSON object, found {line[:60]!r}") from error
        if not isinstance(values, dict) or not set(ROW_KEYS) <= set(values):
            raise ValueError(
                f"{path}, line {number}: expected an object with {', '.join(ROW_KEYS)}, found {line[:60]!r}"
            )
        known = {key: values.pop(key) for key in ROW_KEYS}
        rows.append(LedgerRow(**known, metrics=values))
    return rows


def summarize(rows: Sequence[LedgerRow]) -> Dict[str, MetricSummary]:
    """Mean and sample standard deviation of every metric, and of `num_rays_per_sec`, over the images that have it.

    Args:
        rows: one per image; they need not have the same metrics.

    Returns:
        Summaries by name, in the order in which the names first appear.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    columns = {name: [row.metrics.get(name) for row in rows] for name in names}
    if any(row.num_rays_per_sec is not None for row in rows):
        columns["num_rays_per_sec"] = [row.num_rays_per_sec for row in rows]
    return {name: _summarize_column(column) for name, column in columns.items()}


def flatten(
    summary: Dict[str, MetricSummary], with_std: bool = False, keep_missing: bool = True
) -> Dict[str, Optional[float]]:
    """The summary in the host's form: `{"psnr": mean, "psnr_std": deviation, ...}`.

    Args:
        summary: from `summarize`.
        with_std: whether the deviations are included, of metrics that have one.
        keep_missing: whether metrics that no image has stay in as None (for JSON) or are left out (for TensorBoard).
    """
    flat: Dict[str, Optional[float]] = {}
    for name, value in summary.items():
        if value.count == 0 and not keep_missing:
            continue
        flat[name] = value.mean
        if with_std and (value.std is not None or value.mean is None):
            flat[f"{name}_std"] = value.std
    return flat


def _summarize_column(column: Sequence[Optional[float]]) -> MetricSummary:
    values = [value for value in column if value is not None]
    if not values:
        return MetricSummary(mean=None, std=None, count=0)
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return MetricSummary(mean=statistics.fmean(values), std=std, count=len(values))


def row_to_json(row: LedgerRow) -> Dict[str, object]:
    """The row as what JSON can hold.

    Raises:
        ValueError: a value is NaN or infinite, or a metric is named like one of `ROW_KEYS`.
    """
    values: Dict[str, object] = {key: getattr(row, key) for key in ROW_KEYS}
    for name, value in {"num_rays_per_sec": row.num_rays_per_sec, **row.metrics}.items():
        if name in row.metrics and name in ROW_KEYS:
            raise ValueError(f"{row.file_name}: a metric may not be called {name!r}")
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{row.file_name}: expected a finite value of {name}, got {value}")
        values[name] = None if value is None else float(value)
    return values
