"""The report of a benchmark: Markdown, CSV, LaTeX, JSON and one self-contained page. Equal results, equal files."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from PIL import Image

from fewshot_ns.bench.report.pictures import curve_plot, scene_sheet
from fewshot_ns.bench.report.tables import as_latex, failures, image_table, protocol_tables
from fewshot_ns.bench.results.cells import BenchResults, CellResult
from fewshot_ns.bench.results.csv_file import as_csv, as_json_text
from fewshot_ns.bench.results.status import RULES
from fewshot_ns.bench.results.summary import groups_of, protocols_of
from fewshot_ns.presentation.html_page import Picture, ReportPage, Section, render_page
from fewshot_ns.presentation.tables import as_markdown
from fewshot_ns.utils.files import replacing, write_text

PICTURES = "pictures"
"""Folder of the picture grids beside report.md."""
_JPEG_QUALITY = 88


def write_report(results: BenchResults, folder: Path, max_views: int = 2, notes: str = "") -> Dict[str, Path]:
    """Writes report.md with the folder pictures, results.csv, report.tex, results.json and index.html.

    Args:
        results: of a benchmark.
        folder: where to; it is made.
        max_views: views per scene in the picture grids.
        notes: Markdown that report.md has ahead of its tables: what the figures show.

    Returns:
        The files by name.
    """
    sheets = scene_sheets(results, max_views)
    for (protocol, scene), sheet in sheets.items():
        with replacing(folder / picture_name(protocol, scene)) as partial:
            Image.fromarray(sheet).save(partial, format="JPEG", quality=_JPEG_QUALITY)
    texts = {
        "report.md": markdown(results, notes, list(sheets)),
        "results.csv": as_csv(results),
        "report.tex": latex(results),
        "results.json": as_json_text(results),
        "index.html": render_page(page(results, sheets)),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return {name: folder / name for name in texts}


def headline(results: BenchResults) -> str:
    """How many cells are finished, in one sentence."""
    missing = failures(results)
    failed = [cell for cell in missing if cell.status == "failed"]
    seeds = sorted({cell.seed for cell in results.cells})
    text = f"{len(results.cells) - len(missing)} of {len(results.cells)} cells are finished; seeds {seeds}."
    return text + (f" {len(failed)} failed." if failed else "")


SceneSheets = Dict[Tuple[str, str], np.ndarray]
"""Picture grids (H, W, 3) uint8 by protocol and scene; scenes of which no pictures were kept are not there."""


def scene_sheets(results: BenchResults, max_views: int) -> SceneSheets:
    """Makes the picture grids of a report.

    Args:
        results: of a benchmark.
        max_views: views per scene.
    """
    found = {
        (protocol, scene): scene_sheet(results, protocol, scene, max_views)
        for protocol in protocols_of(results)
        for scene in _scenes_of(results, protocol)
    }
    return {key: sheet for key, sheet in found.items() if sheet is not None}


def picture_name(protocol: str, scene: str) -> str:
    """Path of a picture grid, from report.md."""
    return f"{PICTURES}/{protocol}-{scene}.jpg"


def _scenes_of(results: BenchResults, protocol: str) -> List[str]:
    return list(dict.fromkeys(scene for group in groups_of(results, protocol) for scene in group.scenes))


def markdown(results: BenchResults, notes: str = "", pictures: Sequence[Tuple[str, str]] = ()) -> str:
    """All tables but those per image.

    Args:
        results: of a benchmark.
        notes: Markdown ahead of the tables.
        pictures: protocol and scene of the picture grids that there are.
    """
    parts = [f"# {results.name}", results.description, headline(results), notes.strip(), f"Status: {RULES}"]
    for protocol, tables in protocol_tables(results):
        parts += [f"## {protocol}", *(as_markdown(table).rstrip() for table in tables)]
        parts += [
            f"![{scene}: photo, then render, depth, difference and crops, one row per method, first seed]"
            f"({picture_name(of, scene)})"
            for of, scene in pictures
            if of == protocol
        ]
    missing = failures(results)
    if missing:
        parts += ["## Without figures", "\n".join(f"- {failure_line(cell)}" for cell in missing)]
    return "\n\n".join(part for part in parts if part) + "\n"


def failure_line(cell: CellResult) -> str:
    """A cell without figures and why, in one line."""
    last = cell.error.strip().splitlines()[-1].strip() if cell.error.strip() else ""
    return f"{cell.scene}, {cell.label}, seed {cell.seed}: {cell.status}" + (f"; {last}" if last else "")


def latex(results: BenchResults) -> str:
    """All tables but those per image; \\usepackage{booktabs}."""
    parts = [f"% {results.name}; needs \\usepackage{{booktabs}}"]
    for protocol, tables in protocol_tables(results):
        parts += [f"% {protocol}", *(as_latex(table).rstrip() for table in tables)]
    return "\n\n".join(parts) + "\n"


def page(results: BenchResults, sheets: SceneSheets) -> ReportPage:
    """The page with all of it.

    Args:
        results: of a benchmark.
        sheets: its picture grids.
    """
    opening = [text for text in (results.description, headline(results), f"Status: {RULES}") if text]
    sections: List[Section] = [Section(paragraphs=opening)]
    library_there = False
    tables = dict(protocol_tables(results))
    for protocol in protocols_of(results):
        scenes = _scenes_of(results, protocol)
        sections.append(Section(protocol, tables=tables[protocol]))
        plots: List[str] = []
        for scene in scenes:
            plot = curve_plot(results, protocol, scene, with_library=not library_there)
            if plot is not None:
                plots.append(plot)
                library_there = True
        if plots:
            sections.append(Section(f"{protocol}: quality over time", plots=plots))
        for scene in scenes:
            sheet = sheets.get((protocol, scene))
            pictures = [] if sheet is None else [Picture(sheet, f"{scene}: one row per method, first seed.")]
            per_image = image_table(results, protocol, scene)
            sections.append(
                Section(f"{protocol}: {scene}", pictures=pictures, tables=[per_image] if per_image.rows else [])
            )
    missing = failures(results)
    if missing:
        sections.append(Section("Without figures", paragraphs=[failure_line(cell) for cell in missing]))
    return ReportPage(results.name, sections)
