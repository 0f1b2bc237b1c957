"""Evaluation over many scenes, view by view, taken up again where it stopped."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Set, Tuple

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
from fewshot_ns.data.depth.true_depth import known_depth
from fewshot_ns.data.files.photo_files import photo_names
from fewshot_ns.data.multiscene.active import ActiveScene
from fewshot_ns.data.records.photo_name import PhotoName
from fewshot_ns.data.records.scene import SceneEntry, SceneError
from fewshot_ns.evaluation.baselines.sources import SourceBaselines
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.category_table import category_names, write_category_table
from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow, flatten, summarize_scenes
from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, Outputs, ViewEvaluator, ViewPictures
from fewshot_ns.evaluation.runners.views import EvaluatedView, ViewData, at_equal_steps
from fewshot_ns.utils.hashing import digest, fast_hash


@dataclass
class SceneEvaluationConfig:
    """Which scenes are evaluated, and how many views of each; the datamanager's targets say which views."""

    max_scenes: Optional[int] = None
    """Largest number of scenes, taken at equal steps; None: all."""
    max_views: Optional[int] = None
    """Largest number of views of each scene, taken at equal steps; None: all."""
    approximate: bool = False
    """Whether only one view of each scene is evaluated, drawn by the seed: pixelNeRF's approximate evaluation."""
    seed: int = 1234
    """Seed of these draws."""
    masks: bool = False
    """Whether views with object masks are also measured on the object alone."""
    test_while_training: bool = False
    """Whether --steps-per-eval-all-images evaluates the test scenes while training, where the dataset has some; else it
    evaluates the validation scenes."""
    check_files: bool = True
    """Whether training begins by reading every file that these evaluations, and the one of the test scenes, will read:
    of the largest sets some 300,000 photos, which takes minutes."""

    def scenes(self, table: Sequence[SceneEntry]) -> Sequence[SceneEntry]:
        """The scenes of a table that are evaluated."""
        return at_equal_steps(table, self.max_scenes)

    def views(self, active: ActiveScene, targets: Sequence[int]) -> Sequence[int]:
        """The evaluated ones of the views of a scene that may be.

        Args:
            active: The scene.
            targets: Indices of its views that may be evaluated.
        """
        if not self.approximate or not targets:
            return at_equal_steps(targets, self.max_views)
        scene = zlib.crc32(active.scene.entry.scene_id.encode())
        return [targets[int(np.random.default_rng([self.seed, scene]).integers(len(targets)))]]


class ScenePipeline(Protocol):
    """What a pipeline of many scenes has for its evaluation."""

    datamanager: MultiSceneDataManager
    training: bool

    @property
    def model(self) -> Any:
        """The model, whose weights are hashed."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        ...

    def eval(self) -> Any:
        """Goes to evaluation mode."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Goes to training mode, or to evaluation mode."""
        ...

    def render(self, active: ActiveScene, camera: Cameras) -> Outputs:
        """Outputs of a camera (1,) of a scene, rendered from its source views."""
        ...


@dataclass
class SceneEvaluator:
    """Measures views of many scenes.

    Raises:
        ValueError: a metric of all images together, which is not defined over scenes.
    """

    pipeline: ScenePipeline
    """A generalizable pipeline, with its weights."""
    suite: MetricSuite
    """The metrics."""
    options: SceneEvaluationConfig
    """Which scenes and how many views."""
    step: int
    """Training step of the weights."""
    pictures: Optional[ViewPictures] = None
    """Keeps pictures of the views; None: none are kept."""
    on_row: Callable[[LedgerRow], None] = lambda row: None
    """Told of the row of every view that was rendered."""
    with_baselines: bool = False
    """Whether rows also hold predictions without a network: the mean colour of the source views, the nearest of them,
    and, of two or more, a plane sweep."""

    _named: Optional[Tuple[Tuple[Path, ...], Tuple[PhotoName, ...]]] = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        names = self.suite.set_metrics.names
        if names:
            raise ValueError(f"{', '.join(names)}: only for the views of one scene, not over scenes")
        self.manager = self.pipeline.datamanager

    def evaluate(self, ledger: Optional[Ledger], keep_missing: bool = True, with_std: bool = True) -> Dict[str, Any]:
        """Measures what has not been measured and averages.

        Args:
            ledger: rows and averages on disk; None: nothing is kept.
            keep_missing: whether metrics that no view has stay in as None.
            with_std: whether deviations over scenes are included.

        Returns:
            mean per metric over scenes, `num_scenes` and `num_views`.

        Raises:
            SceneError: a scene cannot be used, and such scenes end the run; or no scene can.
        """
        return self._results(self.rows(ledger), keep_missing, with_std)

    def rows(self, ledger: Optional[Ledger]) -> List[LedgerRow]:
        """A row per view; see `evaluate`."""
        was_training = self.pipeline.training
        self.pipeline.eval()
        key, about = self._key(), self._about()
        if ledger is not None:
            ledger.resume(key, about)
        evaluator = ViewEvaluator(
            self.suite, self.pipeline.device, self.step, ledger, pictures=self.pictures, on_row=self.on_row
        )
        entries = self.options.scenes(self._table())
        rows: List[LedgerRow] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=CONSOLE, transient=True) as progress:
                task = progress.add_task("[green]Evaluating scenes...", total=len(entries))
                for entry in entries:
                    if entry not in self.manager.bad_scenes:
                        rows += self._scene_rows(evaluator, entry)
                    progress.advance(task)
        finally:
            self.pipeline.train(was_training)
        if not rows:
            raise self.manager.bad_scenes.none_usable(len(entries))
        self.manager.bad_scenes.report()
        if ledger is not None:
            ledger.finish(key, about, self._results(rows, keep_missing=True, with_std=True))
            write_category_table(ledger.path.with_suffix(".txt"), rows, category_names(self.manager.get_datapath()))
        return rows

    def _scene_rows(self, evaluator: ViewEvaluator, entry: SceneEntry) -> List[LedgerRow]:
        try:
            active = self.manager.selector.open(entry)
            indices = self.options.views(active, self.manager.selector.targets_of(active))
            scene = EvaluatedScene(
                render=partial(self.pipeline.render, active),
                views=[self._view(active, index) for index in indices],
                baselines=SourceBaselines(self.manager.selector, active) if self.with_baselines else None,
                masked_baselines=False,
            )
            return evaluator.evaluate(scene)
        except SceneError as error:
            self.manager.bad_scenes.note(entry, error)
            return []

    def _table(self) -> Tuple[SceneEntry, ...]:
        return self.manager.eval_table(self.options.test_while_training)

    def _photos_of(self, active: ActiveScene) -> Tuple[PhotoName, ...]:
        """Names of the photos of a scene, made once for all of its views."""
        files = active.scene.image_filenames
        if self._named is None or self._named[0] is not files:
            self._named = files, photo_names(files)
        return self._named[1]

    def _view(self, active: ActiveScene, index: int) -> EvaluatedView:
        scene = active.scene
        return EvaluatedView(
            file_name=self._photos_of(active)[index].name,
            view_index=_view_index(active, index),
            split_index=index,
            camera=scene.cameras[index : index + 1],
            load=partial(self._load, active, index),
            scene=scene.entry.scene_id,
            category=scene.entry.category,
            files=(scene.image_filenames[index], *self._masks_of(active, index)),
        )

    def _masks_of(self, active: ActiveScene, index: int) -> Tuple[Path, ...]:
        masks = active.scene.mask_filenames
        return () if masks is None or not self.options.masks else (masks[index],)

    def _load(self, active: ActiveScene, index: int) -> ViewData:
        scene, images = active.scene, self.manager.library.images
        image = images.image(scene, index)
        mask = images.mask(scene, index) if self.options.masks else None
        # A mask without an object has no pixel to measure.
        mask = None if mask is None or not bool(mask.any()) else mask[..., None]
        sources = self.manager.selector.sources_for(active, scene.cameras.camera_to_worlds[index])
        return ViewData(image, mask, known_depth(scene, index), tuple(_view_index(active, each) for each in sources))

    def _results(self, rows: Sequence[LedgerRow], keep_missing: bool, with_std: bool) -> Dict[str, Any]:
        results: Dict[str, Any] = flatten(summarize_scenes(rows), with_std, keep_missing)
        scenes: Set[Optional[str]] = {row.scene for row in rows}
        return {**results, "num_scenes": len(scenes), "num_views": len(rows)}

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
        if self.options.masks and self.manager.library.may_have_evaluation_masks:
            about["evaluation_masks"] = True
        return digest(hash_weights(self.pipeline.model), json.dumps([about, parser], sort_keys=True))


def hash_weights(model: nn.Module) -> str:
    """Hash of all weights of a model."""
    state = model.state_dict()
    return fast_hash(chunk for name, value in state.items() for chunk in (name.encode(), _bytes(value)))


def _bytes(value: Any) -> bytes:
    if not isinstance(value, Tensor):
        return b""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _view_index(active: ActiveScene, index: int) -> int:
    """View index by which the scene's files know its view at `index`."""
    numbers = active.scene.view_indices
    return index if numbers is None else numbers[index]
