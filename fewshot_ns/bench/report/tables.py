"""The tables of a report, of single scenes and of multi-scene datasets, and their text in Markdown and LaTeX."""

from __future__ import annotations

import statistics
from typing import Any, Dict, List, Optional, Sequence, Tuple

from fewshot_ns.bench.results.cells import BenchResults, CellResult
from fewshot_ns.bench.results.status import baseline, category_paper, not_as_published, published, status_of
from fewshot_ns.bench.results.summary import DIGITS, PAPER_METRICS, Group, curve_of, groups_of, protocols_of
from fewshot_ns.evaluation.metrics.regions import MASKED_PREFIX, REGION_PREFIXES, plain_name
from fewshot_ns.presentation.tables import Column, Table, TableCell

_TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "avg_error": "average error"}
_WHERE = {MASKED_PREFIX: "object ", REGION_PREFIXES["centre"]: "central ", REGION_PREFIXES["true-depth"]: "true-depth "}
"""Put before a metric that is taken on a part of the image, by the prefix of its name."""


def title_of(metric: str) -> str:
    """A metric as headings have it."""
    name = plain_name(metric)
    where = next((title for prefix, title in _WHERE.items() if metric.startswith(prefix)), "")
    return where + _TITLES.get(name, name)


def digits_of(metric: str) -> int:
    """Digits behind the point of a metric."""
    return DIGITS.get(plain_name(metric), 3)


def metrics_of(groups: Sequence[Group]) -> Tuple[str, ...]:
    """The metrics of a protocol's tables that were measured: those of the papers, under the name that rows have."""
    names = [groups[0].metric_name(metric) for metric in PAPER_METRICS] if groups else []
    return tuple(name for name in names if any(group.over_scenes(name).count for group in groups)) or tuple(names[:1])


def summary_table(results: BenchResults, protocol: str) -> Table:
    """One row per method: means over scenes with the deviation over seeds, the paper's figures, the status."""
    groups = groups_of(results, protocol)
    metrics = metrics_of(groups)
    papers = [published(group) for group in groups]
    across = _across_scenes(groups)
    columns = [Column("method"), *([Column("objects")] if across else []), Column("scenes"), Column("seeds")]
    columns += [Column(title_of(metric)) for metric in metrics]
    printed = [name for name in PAPER_METRICS if any(name in paper for paper in papers)]
    columns += [Column(f"paper's {title_of(name)}") for name in printed]
    columns += [Column("not as published"), Column("status")]
    rows: List[List[TableCell]] = []
    for group, paper in zip(groups, papers, strict=True):
        values = [group.over_scenes(metric).text(digits_of(metric)) for metric in metrics]
        row: List[TableCell] = [
            group.label,
            *([_objects(group)] if across else []),
            len(group.scenes),
            group.over_scenes(metrics[0]).count,
            *values,
        ]
        row += [f"{paper[name].value:g}" if name in paper else None for name in printed]
        rows.append([*row, not_as_published(group), status_of(group).word])
    return Table(columns, rows, "Mean over scenes ± deviation over seeds. Deviations are those of a sample.")


def _objects(group: Group) -> Optional[int]:
    """Evaluated objects of all multi-scene datasets."""
    counts = {cell.scene: cell.objects for cell in group.finished if cell.objects is not None}
    return sum(counts.values()) if counts else None


def scene_table(results: BenchResults, protocol: str, metric: str) -> Table:
    """One row per method, one column per scene, and what trivial baselines reach for PSNR."""
    groups = groups_of(results, protocol)
    scenes = list(dict.fromkeys(scene for group in groups for scene in group.scenes))
    rows: List[List[TableCell]] = []
    for group in groups:
        row: List[TableCell] = [group.label]
        for scene in scenes:
            found = group.on_scene(scene, metric)
            failed = any(cell.scene == scene and cell.status == "failed" for cell in group.cells)
            row.append(found.text(digits_of(metric)) if found.count else ("failed" if failed else None))
        rows.append(row)
    if plain_name(metric) == "psnr":
        values = {scene: [baseline(group, scene)[1] for group in groups] for scene in scenes}
        best = {scene: next((value for value in found if value is not None), None) for scene, found in values.items()}
        rows.append(
            ["(better of nearest photo and mean colour)", *(_fixed(best[scene], digits_of(metric)) for scene in scenes)]
        )
        rows += _paper_rows(groups, scenes)
    over = "objects (each the mean of its views)" if _across_scenes(groups) else "test views"
    caption = f"{title_of(metric)}, mean over the {over} and the seeds ± deviation over seeds."
    return Table([Column("method"), *(Column(scene) for scene in scenes)], rows, caption)


def _across_scenes(groups: Sequence[Group]) -> bool:
    """Whether a scene of the recipe is a multi-scene dataset."""
    return any(cell.test_objects is not None for group in groups for cell in group.cells)


def _paper_rows(groups: Sequence[Group], scenes: Sequence[str]) -> List[List[TableCell]]:
    """Published PSNR scene by scene, where there is any."""
    rows: List[List[TableCell]] = []
    for group in groups:
        found = {scene: published(group, scene).get("psnr") for scene in scenes}
        if any(found.values()):
            cells = [None if result is None else f"{result.value:g}" for result in found.values()]
            rows.append([f"{group.label}, paper", *cells])
    return rows


def image_table(results: BenchResults, protocol: str, scene: str) -> Table:
    """PSNR of every test view, one column per method; means over the seeds."""
    groups = [group for group in groups_of(results, protocol) if scene in group.scenes]
    per_view: Dict[Tuple[int, str], Dict[str, List[float]]] = {}
    for group in groups:
        metric = group.metric_name("psnr")
        for cell in group.finished:
            for image in cell.images if cell.scene == scene else ():
                value = image.get(metric)
                if value is not None:
                    views = per_view.setdefault((image["view_index"], image["file_name"]), {})
                    views.setdefault(group.label, []).append(value)
    labels = [group.label for group in groups]
    rows: List[List[TableCell]] = []
    for (index, name), values in sorted(per_view.items()):
        means = [sum(values[label]) / len(values[label]) if label in values else None for label in labels]
        rows.append([f"{index}: {name}", *means])
    metric = groups[0].metric_name("psnr") if groups else "psnr"
    across = _across_scenes(groups)
    columns = [Column("object" if across else "test view"), *(Column(label, 2, True) for label in labels)]
    what = "object, the mean of its views" if across else "view"
    return Table(columns, rows, f"{scene}: {title_of(metric)} of each {what}, mean over the seeds.")


def cost_table(results: BenchResults, protocol: str) -> Table:
    """Time and memory per method, means over the finished cells."""
    columns = [Column(name) for name in ("method", "device", "steps", "training CPU s", "training s")]
    columns += [
        Column("rays per CPU s"),
        Column("peak memory MB"),
        Column("peak GPU memory MB"),
        Column("rendering fps"),
    ]
    rows: List[List[TableCell]] = []
    for group in groups_of(results, protocol):
        fps = [cell.metrics.get("fps") for cell in group.finished]
        known = [value for value in fps if value is not None]
        rows.append(
            [
                group.label,
                ", ".join(sorted({cell.gpu_name or cell.device for cell in group.finished})) or None,
                *(_fixed(group.cost(name).mean, 0) for name in ("steps", "cpu_seconds", "wall_seconds")),
                _fixed(_rate(group), 0),
                *(_megabytes(group.cost(name).mean) for name in ("peak_memory_bytes", "peak_gpu_memory_bytes")),
                _fixed(sum(known) / len(known) if known else None, 2),
            ]
        )
    caption = "Means over the finished cells; evaluation and start-up are not in the training's time."
    return Table(columns, rows, caption)


def _rate(group: Group) -> Optional[float]:
    rays, seconds = group.cost("rays").mean, group.cost("cpu_seconds").mean
    return rays / seconds if rays and seconds else None


def _megabytes(value: Optional[float]) -> Optional[str]:
    return _fixed(None if value is None else value / 1e6, 0)


def _fixed(value: Optional[float], digits: int) -> Optional[str]:
    return None if value is None else f"{value:.{digits}f}"


def source_table(results: BenchResults, protocol: str) -> Optional[Table]:
    """Where the papers' figures come from; None where there are none."""
    rows: List[List[TableCell]] = []
    for group in groups_of(results, protocol):
        found = published(group)
        if found:
            first = next(iter(found.values()))
            rows.append([group.label, first.citation, first.table, first.conditions])
    columns = [Column("method"), Column("whose"), Column("printed in"), Column("conditions")]
    return Table(columns, rows, "Published figures.") if rows else None


def points_table(results: BenchResults, protocol: str) -> Optional[Table]:
    """What models started from that start from points, of the first finished seed; None where none does."""
    rows: List[List[TableCell]] = []
    for group in groups_of(results, protocol):
        for scene in group.scenes:
            found = [cell.initial_points for cell in group.finished if cell.scene == scene and cell.initial_points]
            if found:
                rows.append([group.label, scene, found[0]])
    columns = [Column("method"), Column("scene"), Column("started from")]
    return Table(columns, rows, "Points that models started from.") if rows else None


def curve_table(results: BenchResults, protocol: str) -> Optional[Table]:
    """PSNR after so many CPU seconds of training, one row for each method and scene; None where none was measured."""
    groups = groups_of(results, protocol)
    curves = [(group, scene, curve_of(group, scene)) for group in groups for scene in group.scenes]
    most = max((len(points) for _, _, points in curves), default=0)
    if most == 0:
        return None
    digits = DIGITS["psnr"]
    rows: List[List[TableCell]] = []
    for group, scene, points in curves:
        if points:
            known = [f"{value:.{digits}f} after {seconds:.0f} s" for seconds, value, _ in points]
            rows.append([group.label, scene, *known, *([None] * (most - len(known)))])
    columns = [Column("method"), Column("scene"), *(Column(f"measured {_ordinal(n)}") for n in range(1, most + 1))]
    metric = title_of(groups[0].metric_name("psnr"))
    return Table(columns, rows, f"{metric} of all test views on the way, over the CPU seconds of the training.")


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def failures(results: BenchResults) -> Tuple[CellResult, ...]:
    """The cells that have no figures."""
    return tuple(cell for cell in results.cells if not cell.finished)


def protocol_tables(results: BenchResults) -> List[Tuple[str, List[Table]]]:
    """All tables by protocol, without those per image."""
    found: List[Tuple[str, List[Table]]] = []
    for protocol in protocols_of(results):
        tables = [summary_table(results, protocol)]
        for metric in metrics_of(groups_of(results, protocol)):
            tables.append(scene_table(results, protocol, metric))
            categories = category_table(results, protocol, metric, title_of(metric), digits_of(metric))
            tables += [categories] if categories else []
        tables.append(cost_table(results, protocol))
        further = (
            curve_table(results, protocol),
            points_table(results, protocol),
            source_table(results, protocol),
        )
        found.append((protocol, tables + [table for table in further if table is not None]))
    return found


def as_latex(table: Table) -> str:
    """A table in LaTeX; needs the package booktabs."""
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.caption)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule"]
    lines += [" & ".join(_latex(column.title) for column in table.columns) + r" \\", r"\midrule"]
    for row in range(len(table.rows)):
        cells = [_latex(table.text(row, column)) for column in range(len(table.columns))]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return "".join(special.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)


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
