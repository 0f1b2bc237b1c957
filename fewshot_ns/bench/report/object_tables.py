"""Tables of multi-scene datasets: a line per object, and a line per category beside what papers print for it."""

from __future__ import annotations

import statistics
from typing import Any, Dict, List, Optional, Tuple

from fewshot_ns.bench.results.cells import BenchResults
from fewshot_ns.bench.results.status import category_paper
from fewshot_ns.bench.results.summary import Group, groups_of
from fewshot_ns.presentation.tables import Column, Table, TableCell


def category_table(results: BenchResults, protocol: str, metric: str, title: str, digits: int) -> Optional[Table]:
    """One row per category, one column per method: means over the objects of the category, then over the seeds.

    Args:
        results: of a benchmark.
        protocol: name of the protocol.
        metric: name of the metric, as the rows have it.
        title: the metric as headings have it.
        digits: behind the point.

    Returns:
        None where objects are of one category or of none.
    """
    groups = groups_of(results, protocol)
    means = {group.label: _by_category(group, metric) for group in groups}
    categories = sorted({category for found in means.values() for category in found} - {""})
    if len(categories) < 2:
        return None
    columns = [Column("category"), Column("objects")]
    papers: Dict[str, Dict[str, Any]] = {}
    for group in groups:
        columns.append(Column(group.label))
        found = {category: category_paper(group, category).get(metric) for category in categories}
        if any(found.values()):
            papers[group.label] = found
            columns.append(Column(f"{group.label}, paper"))
    rows: List[List[TableCell]] = []
    for category in categories:
        counts = [found[category][0] for found in means.values() if category in found]
        row: List[TableCell] = [category, max(counts)]
        for label, found in means.items():
            row.append(f"{found[category][1]:.{digits}f}" if category in found else None)
            if label in papers:
                paper = papers[label][category]
                row.append(None if paper is None else f"{paper.value:g}")
        rows.append(row)
    caption = f"{title} by category, mean over its objects (each the mean of its views) and the seeds."
    return Table(columns, rows, caption)


def _by_category(group: Group, metric: str) -> Dict[str, Tuple[int, float]]:
    """Number of objects of each category, and the mean of a metric over them and over the seeds."""
    values: Dict[str, Dict[Tuple[str, str], List[float]]] = {}
    for cell in group.finished:
        for image in cell.images:
            value, category = image.get(metric), image.get("category", "")
            if value is not None:
                per_object = values.setdefault(category, {})
                per_object.setdefault((cell.scene, image["file_name"]), []).append(value)
    return {
        category: (len(found), statistics.fmean(statistics.fmean(seeds) for seeds in found.values()))
        for category, found in values.items()
    }
