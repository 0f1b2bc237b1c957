"""Status words, computed: reproduced, working, not working or not run; and what papers print for the same setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from fewshot_ns import registry
from fewshot_ns.bench.planning.trainings import training_differences, variant_words
from fewshot_ns.bench.recipes.protocols import protocol_or_none
from fewshot_ns.bench.results.summary import Group
from fewshot_ns.configs.published_trainings import figure_remark
from fewshot_ns.evaluation.baselines.trivial import baseline_names

if TYPE_CHECKING:
    from fewshot_ns.bench.results.cells import CellResult
    from fewshot_ns.configs.paper_results import PaperResult

REPRODUCED, WORKING, NOT_WORKING, NOT_RUN = "reproduced", "working", "not working", "not run"
TOLERANCE = {"psnr": 0.5, "ssim": 0.02}
"""How far a mean may lie from the paper's. LPIPS is left out: papers feed it differently (docs/evaluation.md)."""
RULES = (
    f"reproduced: mean PSNR within {TOLERANCE['psnr']} dB and SSIM within {TOLERANCE['ssim']} of the paper's, on its "
    "scenes, at its size of images, with its number of steps and the method as published. working: finished, and the "
    "mean PSNR is higher than that of the training photo nearest to the view and that of the photos' mean colour, on "
    "every scene. not working: finished, and lower than one of them somewhere. not run: not all cells are finished."
)
"""What the words mean, for people."""


@dataclass(frozen=True)
class PaperConditions:
    """What a published mean over scenes was measured on."""

    scenes: Tuple[str, ...]
    """Names of the scenes; () where a dataset of any name is meant."""
    size: Tuple[int, int]
    """Width and height of the test views, pixels."""
    objects: Optional[int] = None
    """Of a multi-scene dataset: how many test scenes it has."""


CONDITIONS: Dict[str, PaperConditions] = {
    "llff": PaperConditions(
        ("fern", "flower", "fortress", "horns", "leaves", "orchids", "room", "trex"),
        (504, 378),
    ),
    "dtu": PaperConditions(
        tuple(f"scan{number}" for number in (8, 21, 30, 31, 34, 38, 40, 41, 45, 55, 63, 82, 103, 110, 114)),
        (400, 300),
    ),
    "blender": PaperConditions(
        ("chair", "drums", "ficus", "hotdog", "lego", "materials", "mic", "ship"),
        (400, 400),
    ),
    "blender-occluded": PaperConditions(("lego",), (400, 400)),
    "srn/cars": PaperConditions(("cars",), (128, 128), 704),
    "srn/chairs": PaperConditions(("chairs",), (128, 128), 1317),
    "sn64": PaperConditions((), (64, 64), 8762),
    "sn64-unseen": PaperConditions((), (64, 64), 25464),
    "pixelnerf-dtu": PaperConditions((), (400, 300), 15),
    "matchnerf-dtu": PaperConditions((), (640, 512), 16),
}
"""Scenes and sizes of the published tables: RegNeRF's LLFF and DTU, DietNeRF's half-size Blender, pixelNeRF's sets,
MatchNeRF's DTU."""


LOCATING_FLAGS = (
    "--downscale-factor",
    "--images-dir",
    "--depth-dir",
    "--mask-dir",
    "--calibration-dir",
    "--calibration-size",
    "--depth-polarity",
    "--depth-meaning",
    "--depth-unit",
)
"""Flags of dataparsers that say how files lie on disk; what they come to is seen by the size of the views."""


@dataclass(frozen=True)
class Status:
    """One word and why."""

    word: str
    """One of the four words."""
    reason: str
    """What keeps it from the next better word; '' where nothing does."""


def published(group: Group, scene: Optional[str] = None) -> Dict[str, PaperResult]:
    """What papers print for a method under a protocol, by metric; empty where they print nothing.

    Args:
        group: the row.
        scene: its figures on one scene; None: the mean over the dataset, or the figures of the only scene.
    """
    protocol = protocol_or_none(group.protocol)
    method = group.cells[0].method.replace("-", "_")
    if protocol is None or protocol.dataset is None or method not in registry.METHODS:
        return {}
    folder_names = {cell.scene: cell.folder_name for cell in group.cells}
    names = [f"{protocol.dataset}/{folder_names.get(scene)}"] if scene is not None else [protocol.dataset]
    if scene is None and len(folder_names) == 1:
        # What is printed for the one scene says more than the mean over all.
        names.insert(0, f"{protocol.dataset}/{group.folder_names[0]}")
    results = [result for result in registry.paper_results(method) if result.num_views == protocol.num_views]
    for name in names:
        found = {result.metric: result for result in results if result.dataset == name}
        if found:
            return found
    return {}


def category_paper(group: Group, category: str) -> Dict[str, PaperResult]:
    """What papers print for a method on one category of a multi-scene dataset, by metric.

    Args:
        group: the row.
        category: its name.
    """
    protocol = protocol_or_none(group.protocol)
    method = group.cells[0].method.replace("-", "_")
    if protocol is None or method not in registry.METHODS:
        return {}
    return {
        result.metric: result
        for result in registry.paper_results(method)
        if result.num_views == protocol.num_views and result.dataset == f"{protocol.dataset}/{category}"
    }


def differences(group: Group, paper: Dict[str, PaperResult]) -> List[str]:
    """What is not as in the paper, in words; nothing where all is.

    Args:
        group: the row.
        paper: from `published`.
    """
    if not paper:
        return ["no published figure"]
    first = next(iter(paper.values()))
    dataset, _, scene = first.dataset.partition("/")
    conditions = CONDITIONS.get(first.dataset) or CONDITIONS[dataset]
    wanted = (scene,) if scene else conditions.scenes
    found = training_differences(group.cells)
    if wanted and set(group.folder_names) != set(wanted):
        shared = len(set(group.folder_names) & set(wanted))
        found.append(f"{shared} of {len(wanted)} scenes" if shared else "other scenes")
    counts = [cell.objects for cell in group.finished if cell.objects is not None]
    objects = [count for count in counts if count != conditions.objects]
    if objects:
        found.append(f"{min(objects)} objects instead of {conditions.objects}")
    sizes = sorted({cell.size for cell in group.finished if cell.size is not None and cell.size != conditions.size})
    if sizes:
        found.append(f"{_size(sizes[0])} pixels instead of {_size(conditions.size)}")
    flags = [word.replace("_", "-") for cell in group.cells for word in cell.scene_overrides if word.startswith("--")]
    changed = list(dict.fromkeys(flag for flag in flags if flag not in LOCATING_FLAGS))
    if changed:
        found.append(f"scenes read with {', '.join(changed)}")
    if any(not _whole(cell) for cell in group.finished):
        found.append("not all test views")
    return found


def not_as_published(group: Group) -> str:
    """What a row does otherwise than published, in words for a table: also of methods of which nothing is printed."""
    paper = published(group)
    if paper:
        remark = figure_remark(group.cells[0].method, next(iter(paper.values())).dataset)
        return "; ".join([*differences(group, paper), *([remark] if remark else [])]) or "nothing"
    kind = "lite preset" if group.cells[0].method.endswith("-lite") else "no published figure"
    return "; ".join(words for words in (kind, variant_words(group.cells)) if words)


def _whole(cell: CellResult) -> bool:
    """Whether all test views were measured."""
    return cell.test_views is not None and cell.num_images >= cell.test_views


def status_of(group: Group) -> Status:
    """The word for a method under a protocol, by the rules in `RULES`."""
    missing = len(group.cells) - len(group.finished)
    if not group.finished or missing:
        return Status(NOT_RUN, f"{missing} of {len(group.cells)} cells are not finished")
    beaten = _beaten_by_baseline(group)
    if beaten:
        return Status(NOT_WORKING, beaten)
    paper = published(group)
    reasons = differences(group, paper)
    if not reasons:
        reasons = _deviations(group, paper)
    return Status(WORKING, "; ".join(reasons)) if reasons else Status(REPRODUCED, "")


def baseline(group: Group, scene: str) -> Tuple[Optional[str], Optional[float]]:
    """The better of the trivial baselines on a scene and its PSNR; None where it was not measured."""
    values = {name: group.on_scene(scene, name).mean for name in baseline_names(group.metric_name("psnr"))}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return None, None
    best = max(known, key=lambda name: known[name])
    return best, known[best]


def _beaten_by_baseline(group: Group) -> str:
    """On which scene a trivial baseline is as good; '' where on none."""
    for scene in group.scenes:
        own = group.on_scene(scene, group.metric_name("psnr")).mean
        name, value = baseline(group, scene)
        if value is None or own is None:
            return f"no trivial baseline was measured on {scene}"
        if own <= value:
            what = "the mean colour" if "mean_colour" in str(name) else "the nearest training photo"
            return f"{what} has {value:.2f} dB on {scene}, the method {own:.2f}"
    return ""


def _deviations(group: Group, paper: Dict[str, PaperResult]) -> List[str]:
    """Which means lie farther from the paper's than the tolerance."""
    found = []
    for metric, tolerance in TOLERANCE.items():
        if metric not in paper:
            continue
        mean = group.over_scenes(group.metric_name(metric)).mean
        if mean is None:
            found.append(f"{metric} was not measured")
        elif abs(mean - paper[metric].value) > tolerance:
            found.append(f"{metric} {mean:.3f}, the paper has {paper[metric].value:g}")
    return found


def _size(size: Tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
