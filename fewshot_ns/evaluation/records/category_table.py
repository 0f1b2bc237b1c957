"""Tables over many objects in the text format of pixelNeRF's evaluations: a line per category and one for all."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from fewshot_ns.evaluation.records.ledger import LedgerRow, scene_means
from fewshot_ns.utils.files import write_text
from fewshot_ns.utils.record_files import parse_json
from fewshot_ns.utils.shown_values import shown

NAME_WIDTH = 12
"""Columns of a category's name; longer names are not cut."""
METRICS = ("psnr", "ssim", "lpips")
"""Metrics of the published tables, in their order."""


def category_table(objects: Sequence[LedgerRow], names: Optional[Mapping[str, str]] = None) -> str:
    """The table as text, with the published metrics that all objects have.

    Categories come in the order of their ids, those without objects not at all. The total is the mean over objects, not
    over categories.

    Args:
        objects: at least one row per object, the mean of its views.
        names: names by category id; a category without a name goes by its id. None: one line for all, which then starts
            with a space, as in the original.

    Returns:
        Lines without a newline at the end.
    """
    metrics = [name for name in METRICS if all(row.metrics.get(name) is not None for row in objects)]
    if names is None:
        return f" {_means(objects, metrics)}"
    groups: Dict[str, List[LedgerRow]] = {}
    for row in objects:
        groups.setdefault(row.category, []).append(row)
    lines = [
        f"{names.get(category, category):{NAME_WIDTH}} {_means(rows, metrics)} n_inst: {len(rows)}"
        for category, rows in sorted(groups.items())
    ]
    return "\n".join([*lines, "---", f"{'total':{NAME_WIDTH}} {_means(objects, metrics)}"])


def write_category_table(path: Path, rows: Sequence[LedgerRow], names: Mapping[str, str]) -> None:
    """Writes the table of an evaluation over many scenes.

    Args:
        path: text file to write.
        rows: at least one, of any number of scenes.
        names: of the categories by their ids; others go by their ids.
    """
    objects = list(scene_means(rows).values())
    write_text(path, category_table(objects, names if any(row.category for row in objects) else None) + "\n")


def _means(rows: Sequence[LedgerRow], metrics: Sequence[str]) -> str:
    columns = {name: [row.metrics[name] or 0.0 for row in rows] for name in metrics}
    return " ".join(f"{name}: {statistics.fmean(values):.6f}" for name, values in columns.items())


def category_names(data: Path) -> Dict[str, str]:
    """Names of ShapeNet's categories by their ids, the part before the first comma; none where `data` lacks the list.

    Args:
        data: folder of a dataset. Its `metadata.yaml` holds JSON: category id -> {"name": "airplane,aeroplane,plane"}.

    Raises:
        ValueError: the file holds something else.
    """
    path = data / "metadata.yaml"
    if not path.is_file():
        return {}
    try:
        content = parse_json(path.read_bytes())
        return {str(key): str(value["name"]).split(",")[0] for key, value in content.items()}
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        found = f"{type(error).__name__}: {shown(str(error), 100)}"
        raise ValueError(
            f'{path}: expected JSON {{"id": {{"name": "..."}}}}, found something else ({found})'
        ) from error
