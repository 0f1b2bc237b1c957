"""Tables over many objects in the text format of pixelNeRF's evaluations: a line per category and one for all."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from fewshot_ns.evaluation.records.ledger import LedgerRow, scene_means
from fewshot_ns.utils.files import write_text

NAME_WIDTH = 12
"""Columns of a category's name; longer names are not cut."""
METRICS = ("psnr", "ssim", "lpips")
"""Metrics of the published tables, in their order."""


@dataclass(frozen=True)
class ObjectMetrics:
    """What was measured on one object, averaged over its views."""

    scene_id: str
    """Name of the object."""
    category: str
    """Its category's id, '' where its dataset has none."""
    metrics: Dict[str, float]
    """Values by name."""


def category_table(
    objects: Sequence[ObjectMetrics],
    names: Optional[Mapping[str, str]] = None,
    metrics: Sequence[str] = METRICS,
) -> str:
    """The table as text.

    Categories come in the order of their ids, those without objects not at all. The total is the mean over objects, not
    over categories.

    Args:
        objects: One row per object.
        names: Names by category id; a category without a name goes by its id. None: one line for all, which then starts
            with a space, as in the original.
        metrics: Which metrics, in order.

    Returns:
        Lines without a newline at the end.

    Raises:
        ValueError: no objects, or an object without one of the metrics.
    """
    if not objects:
        raise ValueError("expected at least one evaluated object for the table, got none")
    for row in objects:
        missing = [name for name in metrics if name not in row.metrics]
        if missing:
            raise ValueError(f"{row.scene_id}: expected {', '.join(metrics)}, found no {', '.join(missing)}")
    if names is None:
        return f" {_means(objects, metrics)}"
    groups: Dict[str, List[ObjectMetrics]] = {}
    for row in objects:
        groups.setdefault(row.category, []).append(row)
    lines = [
        f"{names.get(category, category):{NAME_WIDTH}} {_means(rows, metrics)} n_inst: {len(rows)}"
        for category, rows in sorted(groups.items())
    ]
    return "\n".join([*lines, "---", f"{'total':{NAME_WIDTH}} {_means(objects, metrics)}"])


def write_category_table(path: Path, rows: Sequence[LedgerRow], names: Mapping[str, str]) -> None:
    """Writes the table of an evaluation over many scenes, with the published metrics that all scenes have.

    Args:
        path: text file to write.
        rows: at least one, of any number of scenes.
        names: of the categories by their ids; others go by their ids.
    """
    means = scene_means(rows)
    objects = [
        ObjectMetrics(name, row.category, {key: value for key, value in row.metrics.items() if value is not None})
        for name, row in means.items()
    ]
    metrics = [name for name in METRICS if all(name in row.metrics for row in objects)]
    table = category_table(objects, names if any(row.category for row in objects) else None, metrics)
    write_text(path, table + "\n")


def _means(rows: Sequence[ObjectMetrics], metrics: Sequence[str]) -> str:
    return " ".join(f"{name}: {statistics.fmean(row.metrics[name] for row in rows):.6f}" for name in metrics)


def read_category_names(path: Path) -> Dict[str, str]:
    """Reads ShapeNet's `metadata.yaml`, which holds JSON: category id -> {"name": "airplane,aeroplane,plane"}.

    Returns:
        id -> the name before the first comma.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the names of the categories, found no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): str(value["name"]).split(",")[0] for key, value in content.items()}
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(
            f'{path}: expected JSON {{"id": {{"name": "..."}}}}, found something else ({type(error).__name__}: {error})'
        ) from error
