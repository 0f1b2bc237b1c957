"""The block of results in the README, made of a committed results file."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import List, Optional

from fewshot_ns import registry
from fewshot_ns.bench.report.paper_sizes import PUBLISHED, at_paper_sizes
from fewshot_ns.bench.results.cells import BenchResults
from fewshot_ns.bench.results.csv_file import groups_by_recipe, read_csv
from fewshot_ns.bench.results.status import NOT_RUN, RULES, baseline, not_as_published, published, status_of
from fewshot_ns.bench.results.summary import DIGITS, PAPER_METRICS, Group, groups_of, protocols_of
from fewshot_ns.presentation.tables import Column, Table, TableCell, as_markdown
from fewshot_ns.utils.files import write_text

BEGIN = "<!-- results: made by `ns-fewshot report --results FILE --readme README.md`, not by hand -->"
END = "<!-- end of results -->"


def results_block(path: Path) -> str:
    """The text between the markers.

    Args:
        path: CSV file of results; where it does not exist, the block says that nothing has been run.

    Raises:
        ValueError: the file is no results file.
    """
    cells = read_csv(path).cells if path.is_file() else ()
    groups = [group for _, results in groups_by_recipe(cells) for group in _groups(results)]
    known = {name.replace("_", "-") for name in registry.METHODS}
    without = sorted(known - {cell.method for cell in cells if cell.finished})
    rows = [_row(group) for group in groups]
    parts: List[str] = []
    at_size = at_paper_sizes(groups)
    if at_size is not None:
        parts.append("At the papers' own size, views and test views, scene by scene:")
        parts.append(as_markdown(at_size).rstrip())
        parts.append(
            _filled(
                "Mean over the test views ± deviation over seeds; on DTU of the object alone. CPU s: user and system "
                f"time of the training steps. {PUBLISHED}: PSNR / SSIM / LPIPS at the same size and views, after hours "
                "on a GPU, of whatever method printed figures of the scene; n/a: none is known that did, but for means "
                "over scenes."
            )
        )
    if rows:
        if parts:
            parts.append("Everything that was run:")
        titles = ("method", "protocol", "scenes", "size", "steps", "seeds", "PSNR", "SSIM", "LPIPS", "trivial", "paper")
        table = Table([Column(title) for title in (*titles, "not as published", "status")], rows)
        parts.append(as_markdown(table).rstrip())
        parts.append(
            _filled(
                "Mean over scenes ± deviation over seeds; on dtu-N of the object alone. trivial: the better PSNR of "
                "the nearest training photo and the photos' mean colour. paper: published PSNR, on all scenes of the "
                "data set, at full size and length. not as published: what the row does otherwise; a lite preset has "
                f"the method's terms on a small fast field, then come the row's own flags. {RULES}"
            )
        )
    if without:
        parts.append(_filled(f"{NOT_RUN.capitalize()} yet: {', '.join(f'`{name}`' for name in without)}."))
    return "\n\n".join(parts) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, width=120, break_long_words=False, break_on_hyphens=False)


def _groups(results: BenchResults) -> List[Group]:
    return [group for protocol in protocols_of(results) for group in groups_of(results, protocol)]


def _row(group: Group) -> List[TableCell]:
    sizes = sorted({f"{cell.size[0]}x{cell.size[1]}" for cell in group.finished if cell.size is not None})
    steps = sorted({cell.steps for cell in group.finished if cell.steps is not None})
    paper = published(group).get("psnr")
    name = f"`{group.cells[0].method}`" + ("" if group.label == group.cells[0].method else f" ({group.label})")
    metrics = [group.over_scenes(group.metric_name(metric)).text(DIGITS[metric]) for metric in PAPER_METRICS]
    return [
        name,
        group.protocol,
        ", ".join(group.scenes) if len(group.scenes) <= 3 else len(group.scenes),
        ", ".join(sizes) or None,
        ", ".join(map(str, steps)) or None,
        group.over_scenes(group.metric_name("psnr")).count,
        *metrics,
        _trivial(group),
        None if paper is None else f"{paper.value:g}",
        not_as_published(group),
        status_of(group).word,
    ]


def _trivial(group: Group) -> Optional[str]:
    values = [baseline(group, scene)[1] for scene in group.scenes]
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.2f}" if known and len(known) == len(values) else None


def with_block(readme: str, block: str) -> str:
    """The README with another block.

    Raises:
        ValueError: it has not each marker once, in order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"the README: expected the lines {BEGIN!r} and {END!r} once each, in this order")
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n{END}{rest.split(END)[1]}"


def update_readme(readme: Path, results: Path) -> bool:
    """Writes the block into the README.

    Returns:
        Whether it was another before.
    """
    before = readme.read_text(encoding="utf8")
    after = with_block(before, results_block(results))
    if after != before:
        write_text(readme, after)
    return after != before
