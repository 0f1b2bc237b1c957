"""Everything that a benchmark has measured, read from its folder or from a results file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from fewshot_ns.bench.execution.records import EVAL, FINISHED, PLAN, VIEWS
from fewshot_ns.bench.results.files import (
    NOT_RUN,
    CellInFile,
    PlannedCell,
    RecordInFile,
    read_averages,
    read_cell_record,
    read_plan,
    read_results_file,
)
from fewshot_ns.evaluation.records.initial_points import initial_points_words
from fewshot_ns.evaluation.records.ledger import read_rows, scene_means, summarize, summarize_scenes


@dataclass(frozen=True)
class CurvePoint:
    """All test views measured during a training."""

    step: int
    """Training step."""
    cpu_seconds: Optional[float]
    """CPU time of the training up to there; None where it was not recorded."""
    metrics: Dict[str, float]
    """Means over the test views."""


@dataclass(frozen=True)
class CellResult:
    """What is known of one cell."""

    scene: str
    """Name of the scene in folders and tables."""
    folder_name: str
    """Name of the scene's folder, by which published tables know it."""
    protocol: str
    """Name of the protocol."""
    method: str
    """Name of the method, as ns-train knows it."""
    label: str
    """Name of the row in tables."""
    seed: int
    """Seed of the training."""
    as_published: bool
    """Whether published figures of the method are about this variant."""
    status: str
    """'finished', 'failed', 'started', 'interrupted' or 'not run'."""
    overrides: Tuple[str, ...] = ()
    """Flags that the recipe gave."""
    scene_overrides: Tuple[str, ...] = ()
    """Flags of the dataparser that the recipe added to the protocol's."""
    error: str = ""
    """What went wrong."""
    steps: Optional[int] = None
    """Training steps taken."""
    steps_asked: Optional[int] = None
    """Training steps that the recipe or the method asked for; None: as the method decided."""
    size: Optional[Tuple[int, int]] = None
    """Width and height of the evaluated views, pixels."""
    test_views: Optional[int] = None
    """Test views of the protocol; None: unknown, in a multi-scene dataset where not all of each were taken."""
    metrics: Dict[str, Optional[float]] = field(default_factory=dict)
    """Means over the evaluated views."""
    images: Tuple[Dict[str, Any], ...] = ()
    """Per evaluated view: 'file_name', 'view_index' and the metrics."""
    num_images: int = 0
    """Number of evaluated views."""
    objects: Optional[int] = None
    """Of a multi-scene dataset: how many of its scenes were evaluated. `images` then has a row per scene, the mean of
    its views, with its 'category', and `metrics` are means over scenes."""
    test_objects: Optional[int] = None
    """Of a multi-scene dataset: how many scenes there are to evaluate."""
    curve: Tuple[CurvePoint, ...] = ()
    """Quality during training."""
    training: Dict[str, Any] = field(default_factory=dict)
    """Cost of the training (train_stats.json)."""
    own_length: bool = False
    """Whether it trained as long as its method trains by itself, without another limit."""
    recipe: str = ""
    """Name of the recipe."""
    device: str = ""
    """'cpu' or 'cuda'."""
    source: str = ""
    """Hash of the code that made it."""
    gpu_name: str = ""
    """Name of the GPU that trained it; empty on a CPU, and in results of before it was kept."""
    initial_points: str = ""
    """What the model started from, in words: how many points, from which views; empty where from none."""

    @property
    def finished(self) -> bool:
        """Whether there are figures."""
        return self.status == FINISHED


@dataclass(frozen=True)
class BenchResults:
    """A benchmark."""

    name: str
    """Name of the recipe."""
    description: str
    """What it is about."""
    cells: Tuple[CellResult, ...]
    """All cells of the recipe, finished or not, in its order."""
    pictures: Dict[Tuple[str, str, str, int], Path] = field(default_factory=dict)
    """Folder of the kept views by protocol, scene, label and seed; empty where the results come from a file."""
    folders: Tuple[Path, ...] = ()
    """Folder of each cell; empty where the results come from a file."""

    def as_json(self) -> Dict[str, Any]:
        """Everything but the folders, as JSON holds it."""
        return {
            "name": self.name,
            "description": self.description,
            "cells": [asdict(cell) for cell in self.cells],
        }


def read_results(path: Path) -> BenchResults:
    """Reads the folder of a benchmark, or a results file that `ns-fewshot report` has written.

    Args:
        path: folder or JSON file.

    Raises:
        FileNotFoundError: there is no benchmark.
        ValueError: the file is no results file.
    """
    return _read_file(path) if path.is_file() else _read_folder(path)


def _read_file(path: Path) -> BenchResults:
    values = read_results_file(path)
    return BenchResults(values.name, values.description, tuple(_cell_from_json(cell) for cell in values.cells))


def _cell_from_json(cell: CellInFile) -> CellResult:
    values = cell.model_dump(exclude_unset=True)
    tuples = {name: tuple(values[name]) for name in ("overrides", "scene_overrides", "images")}
    curve = tuple(CurvePoint(**point) for point in values["curve"])
    return CellResult(**{**values, **tuples, "curve": curve, "size": _size(cell.size)})


def _size(size: Optional[List[int]]) -> Optional[Tuple[int, int]]:
    return None if size is None else (size[0], size[1])


def _read_folder(folder: Path) -> BenchResults:
    path = folder / PLAN
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the plan of a benchmark, found none; run ns-fewshot bench first")
    plan = read_plan(path)
    cells: List[CellResult] = []
    pictures: Dict[Tuple[str, str, str, int], Path] = {}
    folders: List[Path] = []
    for planned in plan.cells:
        folders.append(folder / planned.folder)
        cell = _cell(folders[-1], planned, plan.name)
        cells.append(cell)
        views = folders[-1] / (planned.views or VIEWS)
        if cell.finished and views.is_dir():
            pictures[(cell.protocol, cell.scene, cell.label, cell.seed)] = views
    return BenchResults(plan.name, plan.description, tuple(cells), pictures, tuple(folders))


def _cell(folder: Path, planned: PlannedCell, recipe: str) -> CellResult:
    known: Dict[str, Any] = {**planned.model_dump(exclude={"folder", "eval", "views"}), "recipe": recipe}
    record = read_cell_record(folder)
    if record is None:
        return CellResult(**known, status=NOT_RUN)
    asked = record.cell
    known.update(
        status=record.status,
        overrides=tuple(asked.overrides),
        scene_overrides=tuple(asked.scene_overrides),
        error=record.error,
        steps_asked=asked.steps,
        own_length=asked.own_length,
        test_views=asked.test_views or None,
        size=_size(asked.size),
        test_objects=asked.all_test_scenes or None,
        device=asked.device,
        source=record.keys.source,
    )
    if record.status != FINISHED:
        return CellResult(**known)
    known.update(steps=None if record.step is None else record.step + 1)
    if record.training is not None:
        known.update(training=record.training.numbers(), gpu_name=record.training.gpu_name or "")
    if planned.eval is not None:
        return CellResult(**{**known, **measured_across(folder / planned.eval, record)})
    averages = read_averages(folder / EVAL)
    views = set(averages.views)
    rows = [row for row in read_rows((folder / EVAL).with_suffix(".jsonl")) if row.view_index in views]
    known.update(
        size=_size(averages.evaluation.size),
        metrics={name: value.mean for name, value in summarize(rows).items()},
        images=tuple({"file_name": row.file_name, "view_index": row.view_index, **row.metrics} for row in rows),
        num_images=len(rows),
        curve=read_curve(folder / planned.method),
        **initial_points_words(folder / planned.method),
    )
    return CellResult(**known)


def measured_across(path: Path, record: RecordInFile) -> Dict[str, Any]:
    """What an evaluation over many scenes says of a cell: means over scenes, a row per scene.

    Args:
        path: JSON file of the averages.
        record: of the cell.
    """
    # The only scene of a set is measured as one scene, whose rows do not name it.
    rows = read_rows(path.with_suffix(".jsonl"))
    if all(row.scene is None for row in rows):
        rows = [replace(row, scene=record.cell.pictured_scene) for row in rows]
    names = record.categories
    categories = {row.scene: names.get(row.category, row.category) for row in rows}
    scenes = scene_means(rows)
    images = [
        {"file_name": name, "view_index": number, "category": categories[name], **row.metrics}
        for number, (name, row) in enumerate(scenes.items())
    ]
    return {
        "metrics": {name: value.mean for name, value in summarize_scenes(rows).items()},
        "images": tuple(images),
        "num_images": len(rows),
        "test_views": len(rows) if record.cell.evaluation.max_views is None else None,
        "objects": len(scenes),
    }


def read_curve(run_dir: Path) -> Tuple[CurvePoint, ...]:
    """What a run has measured on all test views while it trained, with the CPU time that its log gives.

    Args:
        run_dir: folder of the run.
    """
    # Others lie beside them: of training views, or put there by hand.
    ledgers = {path.stem[5:]: path for path in sorted((run_dir / "eval").glob("step-*.jsonl"))}
    ledgers = {int(step): path for step, path in ledgers.items() if step.isdecimal()}
    if not ledgers:
        return ()
    times = _logged_cpu_seconds(run_dir)
    points: List[CurvePoint] = []
    for step, path in ledgers.items():
        means = {name: value.mean for name, value in summarize(read_rows(path)).items() if value.mean is not None}
        earlier = [seconds for logged, seconds in times.items() if logged <= step]
        points.append(CurvePoint(step, max(earlier, default=None), means))
    return tuple(points)


def _logged_cpu_seconds(run_dir: Path) -> Dict[int, float]:
    """CPU seconds of the training by step, from the TensorBoard files of the run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    times: Dict[int, float] = {}
    for path in sorted(run_dir.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        if "Train CPU Seconds" in events.Tags()["scalars"]:
            times.update({event.step: float(event.value) for event in events.Scalars("Train CPU Seconds")})
    return times
