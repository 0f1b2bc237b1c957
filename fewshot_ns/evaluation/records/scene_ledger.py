"""Rows of an evaluation over many scenes: appended one by one, read back, averaged by scene and then over scenes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from fewshot_ns.evaluation.records.category_table import METRICS, ObjectMetrics, category_table
from fewshot_ns.evaluation.records.ledger import ROW_KEYS, LedgerRow, MetricSummary, row_to_json, summarize
from fewshot_ns.utils.files import replacing, write_json

SCENE_KEYS = ("scene", "category", "sources")
"""Keys of a line beside those of a row of one scene."""


@dataclass(frozen=True)
class SceneRow:
    """What was measured on one view of one scene."""

    scene: str
    """Name of the scene."""
    category: str
    """Its category, '' where the set has none."""
    sources: Tuple[int, ...]
    """Numbers of the views that were looked at."""
    row: LedgerRow
    """The view and its metrics."""


@dataclass(frozen=True)
class SceneLedger:
    """`<name>.json` with the averages, `<name>.jsonl` beside it with a line per view.

    Lines are appended: rewriting a file of 200,000 lines after every view would cost more than rendering.
    """

    path: Path
    """The JSON file."""

    @property
    def rows_path(self) -> Path:
        """The rows."""
        return self.path.with_suffix(".jsonl")

    def resume(self, key: str, about: Dict[str, Any]) -> List[SceneRow]:
        """Rows of an earlier evaluation of the same kind; where it was of another kind, its rows are dropped.

        Args:
            key: hash of the weights and of how views are measured.
            about: what else the JSON file says.
        """
        rows = self._rows() if self._key() == key else []
        if not rows:
            self.rows_path.unlink(missing_ok=True)
        self.rows_path.parent.mkdir(parents=True, exist_ok=True)
        # An interrupted run may have left half a line.
        whole = "".join(_line(row) for row in rows)
        if not self.rows_path.is_file() or self.rows_path.read_text("utf8") != whole:
            self.rows_path.write_text(whole, "utf8")
        write_json(self.path, {**about, "key": key, "complete": False})
        return rows

    def append(self, row: SceneRow) -> None:
        """Adds a row, on the disk when this returns.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        with self.rows_path.open("a", encoding="utf8") as stream:
            stream.write(_line(row))

    def finish(self, key: str, about: Dict[str, Any], results: Dict[str, Any]) -> None:
        """Writes the averages."""
        write_json(self.path, {**about, "key": key, "complete": True, "results": results})

    def write_table(self, rows: Sequence[SceneRow], names: Mapping[str, str]) -> None:
        """Writes `<name>.txt`: a line per category and one for all objects, as pixelNeRF's evaluations print them.

        Args:
            rows: at least one.
            names: of the categories by their ids; others go by their ids.
        """
        means = by_scene(rows)
        categories = {row.scene: row.category for row in rows}
        objects = [
            ObjectMetrics(
                name, categories[name], {key: value for key, value in row.metrics.items() if value is not None}
            )
            for name, row in means.items()
        ]
        shown = [name for name in METRICS if all(name in row.metrics for row in objects)]
        table = category_table(objects, names if any(categories.values()) else None, shown)
        with replacing(self.path.with_suffix(".txt")) as partial:
            partial.write_text(table + "\n", "utf8")

    def read(self) -> List[SceneRow]:
        """All rows that name a scene; none where there is no file."""
        return self._rows()

    def _key(self) -> Optional[str]:
        try:
            content = json.loads(self.path.read_text("utf8"))
        except (OSError, ValueError):
            return None
        return content.get("key") if isinstance(content, dict) else None

    def _rows(self) -> List[SceneRow]:
        rows: List[SceneRow] = []
        if not self.rows_path.is_file():
            return rows
        for line in self.rows_path.read_text("utf8").splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(values, dict) and {*SCENE_KEYS, *ROW_KEYS} <= set(values):
                scene, category, sources = (values.pop(key) for key in SCENE_KEYS)
                known = {key: values.pop(key) for key in ROW_KEYS}
                rows.append(SceneRow(scene, category, tuple(sources), LedgerRow(**known, metrics=values)))
        return rows


def _line(row: SceneRow) -> str:
    head = {"scene": row.scene, "category": row.category, "sources": list(row.sources)}
    return json.dumps({**head, **row_to_json(row.row)}, allow_nan=False) + "\n"


def by_scene(rows: Sequence[SceneRow]) -> Dict[str, LedgerRow]:
    """Mean of every metric of each scene, by its name, as a row whose view is the number of its views."""
    names = list(dict.fromkeys(row.scene for row in rows))
    grouped: Dict[str, List[LedgerRow]] = {name: [] for name in names}
    for row in rows:
        grouped[row.scene].append(row.row)
    means = {}
    for name, of_scene in grouped.items():
        summary = {metric: value.mean for metric, value in summarize(of_scene).items()}
        speed = summary.pop("num_rays_per_sec", None)
        means[name] = LedgerRow(name, len(of_scene), 0, of_scene[0].step, speed, summary)
    return means


def summarize_scenes(rows: Sequence[SceneRow]) -> Dict[str, MetricSummary]:
    """Mean and deviation over scenes of the means over each scene's views."""
    return summarize(list(by_scene(rows).values()))
