"""What was measured at the papers' own sizes, scene by scene, beside what papers print of the same scene."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from fewshot_ns import registry
from fewshot_ns.bench.recipes.protocols import protocol_or_none
from fewshot_ns.bench.results.cells import CellResult
from fewshot_ns.bench.results.status import CONDITIONS
from fewshot_ns.bench.results.summary import DIGITS, PAPER_METRICS, Group
from fewshot_ns.presentation.tables import Column, Table, TableCell

_TITLES = ("scene", "views", "method", "size", "steps", "trained on", "CPU s", "seeds", "PSNR", "SSIM", "LPIPS")
PUBLISHED = "published, of this scene"


def at_paper_sizes(groups: Sequence[Group]) -> Optional[Table]:
    """A row for each method and scene whose views have the size of the published tables; None where there are none.

    Args:
        groups: rows of tables, of any protocols.
    """
    rows: List[Tuple[Tuple[str, str, int], List[TableCell]]] = []
    for group in groups:
        protocol = protocol_or_none(group.protocol)
        conditions = None if protocol is None else CONDITIONS.get(protocol.dataset or "")
        if protocol is None or conditions is None or protocol.num_views is None or not conditions.scenes:
            continue
        for scene in group.scenes:
            cells = [cell for cell in group.finished if cell.scene == scene]
            if not cells or any(cell.size != conditions.size for cell in cells):
                continue
            place = (str(protocol.dataset), cells[0].folder_name, protocol.num_views)
            rows.append((place, _row(Group(group.label, group.protocol, tuple(cells)), scene, place)))
    if not rows:
        return None
    # Scenes that papers print figures of come first.
    rows.sort(key=lambda row: (row[1][-1] is None, row[0]))
    return Table([Column(title) for title in (*_TITLES, PUBLISHED)], [cells for _, cells in rows])


def _row(group: Group, scene: str, place: Tuple[str, str, int]) -> List[TableCell]:
    dataset, folder, num_views = place
    cells = group.finished
    method, seconds = cells[0].method, group.cost("cpu_seconds").mean
    width, height = cells[0].size or (0, 0)
    return [
        folder,
        num_views,
        f"`{method}`" + ("" if group.label == method else f" ({group.label})"),
        f"{width}x{height}",
        ", ".join(map(str, sorted({cell.steps for cell in cells if cell.steps is not None}))) or None,
        ", ".join(dict.fromkeys(_machine(cell) for cell in cells)) or None,
        None if seconds is None else f"{seconds:.0f}",
        len(cells),
        *(group.on_scene(scene, group.metric_name(metric)).text(DIGITS[metric]) for metric in PAPER_METRICS),
        "; ".join(published_of_scene(f"{dataset}/{folder}", num_views)) or None,
    ]


def _machine(cell: CellResult) -> str:
    return cell.gpu_name or cell.device.upper()


def published_of_scene(dataset: str, num_views: int) -> Tuple[str, ...]:
    """What papers print of one scene, of any method: its name, PSNR / SSIM / LPIPS.

    Args:
        dataset: data set and scene, 'llff/fern'.
        num_views: training views.
    """
    found: Dict[str, Dict[str, float]] = {}
    for method in registry.METHODS:
        for result in registry.paper_results(method):
            if (result.dataset, result.num_views) == (dataset, num_views):
                found.setdefault(result.citation.split(":")[0], {})[result.metric] = result.value
    words = []
    for name, values in sorted(found.items(), key=lambda item: item[1].get("psnr", 0.0)):
        shown = [f"{values[metric]:.{DIGITS[metric]}f}" for metric in PAPER_METRICS if metric in values]
        words.append(f"{name} {' / '.join(shown)}")
    return tuple(words)
