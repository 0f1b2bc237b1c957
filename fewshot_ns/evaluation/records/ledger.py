"""One row per evaluated image: written as JSON lines, read back, averaged over images or over scenes.

A line holds one JSON object: `file_name`, `view_index`, `split_index`, `step`, `num_rays_per_sec`, then the metrics by
name. A metric that could not be measured is null. Rows of an evaluation over many scenes begin with `scene`, `category`
and `sources`. `measured_on` says by a hash which files the row was measured on. Of two rows of one view the
later counts.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from fewshot_ns.evaluation.records.row_keys import FILES_KEY, ROW_KEYS, SCENE_KEYS
from fewshot_ns.utils.disk_space import saying_disk_full
from fewshot_ns.utils.files import write_json, write_text
from fewshot_ns.utils.record_files import RecordError, parse_json

if TYPE_CHECKING:
    from fewshot_ns.evaluation.records.row_in_file import RowInFile


@dataclass(frozen=True)
class LedgerRow:
    """What was measured on one image."""

    file_name: str
    """Name of the true image's file; its path below the folder of all images where others have the same name."""
    view_index: int
    """Index of the view in the whole scene, from 0."""
    split_index: int
    """Index of the view among the evaluated ones, from 0; in an evaluation over many scenes, in the whole scene."""
    step: int
    """Training step of the evaluated weights."""
    num_rays_per_sec: Optional[float] = None
    """Rays rendered per second of wall time, None where it was not measured."""
    metrics: Dict[str, Optional[float]] = field(default_factory=dict)
    """Values by metric name, None where a metric could not be measured."""
    scene: Optional[str] = None
    """Name of the scene; None in an evaluation of one scene."""
    category: str = ""
    """The scene's category, '' where the dataset has none."""
    sources: Tuple[int, ...] = ()
    """View indices of the source views that the image was rendered from."""
    measured_on: Optional[str] = None
    """Hash of the files that the render was compared with; None where there are none, and in rows of earlier
    versions."""


@dataclass(frozen=True)
class MetricSummary:
    """One metric over the images that have it."""

    mean: Optional[float]
    """Mean, None when no image has the metric."""
    std: Optional[float]
    """Sample standard deviation; 0 for one image, None when no image has the metric."""
    count: int
    """Number of images that have the metric."""


class Ledger:
    """An evaluation on disk: `<name>.json` with the averages, and `<name>.jsonl` beside it with a row per view.

    A row is on the disk as soon as it is measured. Rows of one scene are kept in the order of the views; those of many
    scenes are appended as they come, since rewriting 200,000 lines after every view would cost more than rendering.

    Args:
        path: the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: Dict[Tuple[Optional[str], int], LedgerRow] = {}

    @property
    def rows_path(self) -> Path:
        """File of the rows."""
        return self.path.with_suffix(".jsonl")

    @property
    def features_path(self) -> Path:
        """Image features of the views, from which FID and KID are computed; only where they are asked for."""
        return self.path.with_suffix(".features.npz")

    def clear(self) -> None:
        """Forgets all rows, so that every view is measured again."""
        self._rows = {}
        for path in (self.rows_path, self.features_path):
            path.unlink(missing_ok=True)

    def resume(self, key: str, about: Dict[str, Any]) -> List[LedgerRow]:
        """Takes up an earlier evaluation of the same kind; rows of another kind are dropped.

        Args:
            key: hash of the weights and of how views are measured.
            about: what else the JSON file says.

        Returns:
            The rows that are there, in the order of the file.
        """
        try:
            stored = parse_json(self.path.read_bytes())
        except (OSError, RecordError):
            # None yet, or half of one.
            stored = None
        same = isinstance(stored, dict) and stored.get("key") == key
        rows = read_rows(self.rows_path, skip_damaged=True) if same else []
        if not rows:
            self.clear()
        self._rows = {(row.scene, row.split_index): row for row in rows}
        # An interrupted run may have left half a line.
        if self.rows_path.is_file() and self.rows_path.read_bytes() != _lines(rows).encode():
            write_rows(self.rows_path, rows)
        write_json(self.path, {**about, "key": key, "complete": False})
        return rows

    def row(self, scene: Optional[str], split_index: int) -> Optional[LedgerRow]:
        """The row of a view; None where it has not been measured."""
        return self._rows.get((scene, split_index))

    def append(self, row: LedgerRow) -> None:
        """Adds a row, or takes it for the earlier one of its view; it is on the disk when this returns.

        Raises:
            ValueError: a value is NaN or infinite.
            DiskFullError: there is no room for it.
        """
        try:
            line = _lines([row])
        except ValueError as error:
            raise ValueError(f"{self.rows_path}: {error}") from error
        last = next(reversed(self._rows.values()), None)
        known = (row.scene, row.split_index) in self._rows
        self._rows[(row.scene, row.split_index)] = row
        if row.scene is None and last is not None and (known or last.split_index > row.split_index):
            self._rows = dict(sorted(self._rows.items(), key=lambda item: item[1].split_index))
            write_rows(self.rows_path, list(self._rows.values()))
            return
        with saying_disk_full(self.rows_path):
            self.rows_path.parent.mkdir(parents=True, exist_ok=True)
            with self.rows_path.open("a", encoding="utf8") as stream:
                stream.write(line)

    def finish(self, key: str, about: Dict[str, Any], results: Dict[str, Any]) -> None:
        """Writes the averages.

        Args:
            key: as given to `resume`.
            about: as given to `resume`.
            results: averages by name, in the form of `ns-eval`.
        """
        write_json(self.path, {**about, "key": key, "complete": True, "results": results})


def ledger_path(run_dir: Path, step: int, training_views: bool = False) -> Path:
    """Where a run keeps the rows of one evaluation; numbered like nerfstudio's checkpoints."""
    return run_dir / "eval" / f"step-{step:09d}{'-train' if training_views else ''}.jsonl"


def write_rows(path: Path, rows: Sequence[LedgerRow]) -> None:
    """Writes the rows as JSON lines, whole or not at all.

    Args:
        path: file to write; its folder is made, an older file replaced.
        rows: one per image, in the order to be written.

    Raises:
        ValueError: a value is NaN or infinite, or a metric is named like one of `ROW_KEYS` or `SCENE_KEYS`.
    """
    write_text(path, _lines(rows))


def read_rows(path: Path, skip_damaged: bool = False) -> List[LedgerRow]:
    """Reads the rows of a file.

    Args:
        path: the file.
        skip_damaged: whether lines that are no rows are left out, and no file counts as one without rows.

    Returns:
        A row for each view, the last that the file has of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a row; the message names file and line.
    """
    if not path.is_file():
        if skip_damaged:
            return []
        raise FileNotFoundError(f"{path}: expected a ledger of evaluation rows, found no file")
    from fewshot_ns.evaluation.records.row_in_file import parse_row

    rows: Dict[Tuple[Optional[str], int], LedgerRow] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = _row_of(parse_row(line))
        except RecordError as error:
            if not skip_damaged:
                raise ValueError(f"{path}, line {number}: {error}") from error
            continue
        rows[(row.scene, row.split_index)] = row
    return list(rows.values())


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


def scene_means(rows: Sequence[LedgerRow]) -> Dict[str, LedgerRow]:
    """Mean of every metric over the views of each scene.

    Args:
        rows: of an evaluation over many scenes.

    Returns:
        A row per scene, by its name: `file_name` is that name, `view_index` the number of its views.
    """
    scenes: Dict[str, List[LedgerRow]] = {}
    for row in rows:
        scenes.setdefault(row.scene or "", []).append(row)
    means = {}
    for name, views in scenes.items():
        summary = {metric: value.mean for metric, value in summarize(views).items()}
        speed = summary.pop("num_rays_per_sec", None)
        means[name] = LedgerRow(name, len(views), 0, views[0].step, speed, summary, name, views[0].category)
    return means


def summarize_scenes(rows: Sequence[LedgerRow]) -> Dict[str, MetricSummary]:
    """Mean and deviation over scenes of the means over each scene's views."""
    return summarize(list(scene_means(rows).values()))


def flatten(
    summary: Dict[str, MetricSummary], with_std: bool = False, keep_missing: bool = True
) -> Dict[str, Optional[float]]:
    """The summary in nerfstudio's form: `{"psnr": mean, "psnr_std": deviation, ...}`.

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


def _lines(rows: Sequence[LedgerRow]) -> str:
    return "".join(json.dumps(_row_as_json(row), allow_nan=False) + "\n" for row in rows)


def _row_as_json(row: LedgerRow) -> Dict[str, Any]:
    values: Dict[str, Any] = {}
    if row.scene is not None:
        values.update(scene=row.scene, category=row.category, sources=list(row.sources))
    values.update(file_name=row.file_name, view_index=row.view_index, split_index=row.split_index, step=row.step)
    if row.measured_on is not None:
        values[FILES_KEY] = row.measured_on
    for name, value in {"num_rays_per_sec": row.num_rays_per_sec, **row.metrics}.items():
        if name in row.metrics and name in (*ROW_KEYS, *SCENE_KEYS, FILES_KEY):
            raise ValueError(f"{row.file_name}: a metric may not be called {name!r}")
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{row.file_name}: expected a finite value of {name}, got {value}")
        values[name] = None if value is None else float(value)
    return values


def _row_of(row: RowInFile) -> LedgerRow:
    fields = {name: getattr(row, name) for name in (*ROW_KEYS, "scene", "category", FILES_KEY)}
    return LedgerRow(**fields, sources=tuple(row.sources), metrics=dict(row.model_extra or {}))
