"""Evaluation over many scenes, view by view, taken up again where it stopped."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, TypeVar

import numpy as np
import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
from fewshot_ns.data.depth.true_depth import known_depth
from fewshot_ns.data.multiscene.active import ActiveScene
from fewshot_ns.data.records.scene import SceneEntry, SceneError
from fewshot_ns.evaluation.baselines.sources import SourceBaselines
from fewshot_ns.evaluation.baselines.trivial import BASELINE_PREFIX
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.category_table import read_category_names
from fewshot_ns.evaluation.records.ledger import LedgerRow, flatten
from fewshot_ns.evaluation.records.scene_ledger import SceneLedger, SceneRow, summarize_scenes
from fewshot_ns.presentation.pictures import save_png
from fewshot_ns.utils.hashing import digest, fast_hash

Item = TypeVar("Item")


@dataclass
class SceneEvaluationConfig:
    """Which scenes are evaluated, and how many of their views; which views, the datamanager's targets say."""

    max_scenes: Optional[int] = None
    """At most so many scenes, at equal steps; None: all."""
    max_views: Optional[int] = None
    """At most so many views of each scene, at equal steps; None: all."""
    approximate: bool = False
    """Whether one view of each scene is enough, drawn by the seed: pixelNeRF's approximate evaluation."""
    seed: int = 1234
    """Seed of these draws."""
    masks: bool = False
    """Whether views with object masks are also measured on the object alone."""
    test_while_training: bool = False
    """Whether what --steps-per-eval-all-images evaluates while training is the test scenes, where the set has some;
    else the validation scenes are."""


@dataclass
class SceneEvaluator:
    """Measures the views of scenes.

    Raises:
        ValueError: a metric of all images together, which is not defined over scenes.
    """

    pipeline: Any
    """A generalizable pipeline, with its weights."""
    suite: MetricSuite
    """The metrics."""
    options: SceneEvaluationConfig
    """Which scenes and how many views."""
    step: int
    """Training step of the weights."""
    on_row: Callable[[SceneRow], None] = field(default=lambda row: None)
    """Told of every new row."""
    with_baselines: bool = False
    """Whether rows also hold what needs no network: the mean colour of the source views, the nearest of them, and, of
    two or more, a plane sweep."""

    def __post_init__(self) -> None:
        if self.suite.of_set.names:
            raise ValueError(f"{', '.join(self.suite.of_set.names)}: only for the views of one scene, not over scenes")
        self.manager: MultiSceneDataManager = self.pipeline.datamanager

    def evaluate(
        self, record: Optional[Path], renders: Optional[Path], keep_missing: bool = True, with_std: bool = True
    ) -> Dict[str, Any]:
        """Measures what has not been measured and averages.

        Args:
            record: JSON file for averages, with rows beside it; None: nothing is kept.
            renders: folder for `<scene>/<view>.png` and `<view>-truth.png`; None: no pictures.
            keep_missing: whether metrics that no view has stay in as None.
            with_std: whether deviations over scenes are included.

        Returns:
            mean per metric over scenes, `num_scenes` and `num_views`.

        Raises:
            SceneError: a scene cannot be used, and such scenes end the run; or not one can.
        """
        rows = self.rows(None if record is None else SceneLedger(record), renders)
        return self._results(rows, keep_missing, with_std)

    def rows(self, ledger: Optional[SceneLedger], renders: Optional[Path]) -> List[SceneRow]:
        """A row per view; see `evaluate`."""
        was_training = self.pipeline.training
        self.pipeline.eval()
        key, about = self._key(), self._about()
        done = [] if ledger is None else ledger.resume(key, about)
        known = {(row.scene, row.row.view_index): row for row in done}
        entries = at_equal_steps(self._table(), self.options.max_scenes)
        rows: List[SceneRow] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=CONSOLE, transient=True) as progress:
                task = progress.add_task("[green]Evaluating scenes...", total=len(entries))
                for entry in entries:
                    if entry not in self.manager.bad_scenes:
                        rows += self._scene(entry, known, ledger, renders)
                    progress.advance(task)
        finally:
            self.pipeline.train(was_training)
        if not rows:
            raise self.manager.bad_scenes.none_usable(len(entries))
        self.manager.bad_scenes.report()
        if ledger is not None:
            ledger.finish(key, about, self._results(rows, keep_missing=True, with_std=True))
            ledger.write_table(rows, self._category_names())
        return rows

    def _scene(
        self,
        entry: SceneEntry,
        known: Dict[Tuple[str, int], SceneRow],
        ledger: Optional[SceneLedger],
        renders: Optional[Path],
    ) -> List[SceneRow]:
        rows: List[SceneRow] = []
        try:
            active = self.manager.open(entry)
            for place in self._views(active, self.manager.selector.targets_of(active)):
                number = _number(active, place)
                picture = None if renders is None else renders / entry.scene_id / f"{number:06d}.png"
                row = known.get((entry.scene_id, number))
                if row is None or (picture is not None and not picture.is_file()):
                    row = self._measure(active, place, picture)
                    if ledger is not None and (entry.scene_id, number) not in known:
                        ledger.append(row)
                    self.on_row(row)
                rows.append(row)
        except SceneError as error:
            self.manager.bad_scenes.note(entry, error)
            return []
        return rows

    def _table(self) -> Tuple[SceneEntry, ...]:
        return self.manager.eval_table(self.options.test_while_training)

    def _views(self, active: ActiveScene, targets: Sequence[int]) -> Sequence[int]:
        if not self.options.approximate:
            return at_equal_steps(targets, self.options.max_views)
        scene = zlib.crc32(active.scene.entry.scene_id.encode())
        return [targets[int(np.random.default_rng([self.options.seed, scene]).integers(len(targets)))]]

    def _measure(self, active: ActiveScene, place: int, picture: Optional[Path]) -> SceneRow:
        scene, images = active.scene, self.manager.library.images
        truth = images.image(scene, place).to(self.pipeline.device)
        mask = images.mask(scene, place) if self.options.masks else None
        start = perf_counter()
        outputs = self.pipeline.render(active, scene.cameras[place : place + 1].to(self.pipeline.device))
        seconds = perf_counter() - start
        rgb = outputs["rgb"].float()
        usable = mask is not None and bool(mask.any())
        known = known_depth(scene, place)
        values = self.suite(rgb, truth, mask[..., None].to(truth) if usable and mask is not None else None, known)
        sources = self.manager.selector.sources_for(active, scene.cameras.camera_to_worlds[place])
        if self.with_baselines:
            values = {**values, **self._baselines(active, place, truth, known)}
        if picture is not None:
            save_png(rgb.clamp(0.0, 1.0), picture)
            save_png(truth, picture.with_name(f"{picture.stem}-truth.png"))
        row = LedgerRow(
            file_name=scene.image_filenames[place].name,
            view_index=_number(active, place),
            split_index=place,
            step=self.step,
            num_rays_per_sec=truth.shape[0] * truth.shape[1] / seconds,
            metrics={**values, "fps": 1.0 / seconds},
        )
        numbers = tuple(_number(active, source) for source in sources)
        return SceneRow(scene.entry.scene_id, scene.entry.category, numbers, row)

    def _baselines(
        self, active: ActiveScene, place: int, truth: Tensor, known: Optional[Tensor]
    ) -> Dict[str, Optional[float]]:
        """PSNR of what needs no model, of the whole image and in the metrics' region."""
        camera = active.scene.cameras[place : place + 1]
        predicted = SourceBaselines(self.manager.selector, active).of_camera(camera, (truth.shape[0], truth.shape[1]))
        found = {
            name: self.suite(image.to(truth), truth, None, known, only=("psnr",)) for name, image in predicted.items()
        }
        return {
            f"{BASELINE_PREFIX}{name}_{metric}": value
            for name, values in found.items()
            for metric, value in values.items()
        }

    def _results(self, rows: Sequence[SceneRow], keep_missing: bool, with_std: bool) -> Dict[str, Any]:
        results: Dict[str, Any] = flatten(summarize_scenes(rows), with_std, keep_missing)
        scenes: Set[str] = {row.scene for row in rows}
        return {**results, "num_scenes": len(scenes), "num_views": len(rows)}

    def _category_names(self) -> Dict[str, str]:
        """Names of the categories, where the data set comes with ShapeNet's list of them."""
        path = self.manager.get_datapath() / "metadata.yaml"
        return read_category_names(path) if path.is_file() else {}

    def _about(self) -> Dict[str, Any]:
        manager = self.manager
        return {
            "step": self.step,
            "data": str(manager.get_datapath()),
            "split": "+".join(sorted({entry.split for entry in self._table()})),
            "metrics": list(self.suite.config.metrics),
            "sources": manager.config.sources.record(),
            "masks": self.options.masks,
            "baselines": self.with_baselines,
            **({} if self.suite.config.region == "whole" else {"region": self.suite.config.region}),
        }

    def _key(self) -> str:
        """Hash of the weights and of how views are measured; which scenes and views is left out."""
        about = {name: value for name, value in self._about().items() if name != "step"}
        parser = {name: str(value) for name, value in vars(self.manager.dataparser.config).items()}
        return digest(weights_key(self.pipeline.model), json.dumps([about, parser], sort_keys=True))


def at_equal_steps(items: Sequence[Item], most: Optional[int]) -> Sequence[Item]:
    """At most so many items, at equal steps from the first to the last; None: all."""
    if most is None or most >= len(items):
        return items
    return [items[int(place)] for place in np.round(np.linspace(0, len(items) - 1, most))]


def weights_key(model: nn.Module) -> str:
    """Hash of all weights of a model."""
    state = model.state_dict()
    return fast_hash(chunk for name, value in state.items() for chunk in (name.encode(), _bytes(value)))


def _bytes(value: Any) -> bytes:
    if not isinstance(value, Tensor):
        return b""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _number(active: ActiveScene, place: int) -> int:
    numbers = active.scene.view_indices
    return place if numbers is None else numbers[place]
