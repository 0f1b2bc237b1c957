"""The one loop over evaluated views: rendered, timed and measured one by one, and nothing that is done done twice.

nerfstudio's `ns-eval` and evaluations while training (through the pipeline), `ns-fewshot eval`, and `SceneEvaluator`
over many scenes all use it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple, TypeVar

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from fewshot_ns.data.datasets.fewshot_dataset import OBJECT_MASK_KEY
from fewshot_ns.data.depth.true_depth import KNOWN_DEPTH_KEY
from fewshot_ns.data.records.metadata import METADATA_KEY
from fewshot_ns.evaluation.baselines.trivial import BASELINE_PREFIX, Baselines
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.set_metrics import SetMetrics, ViewFeatures
from fewshot_ns.evaluation.metrics.suite import MetricSuite, as_float
from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow, MetricSummary, flatten, read_rows, summarize
from fewshot_ns.utils.timing import timed

Item = TypeVar("Item")
Outputs = Dict[str, Tensor]
"""What a model renders for a camera: `rgb` (H, W, 3), `depth` and `accumulation` (H, W, 1), and others."""

SET_METRICS_KEY = "of_all_views"
"""Key in the JSON file's `evaluation`: settings of the metrics of all views together."""


@dataclass(frozen=True)
class ViewData:
    """What a rendered view is compared with."""

    image: Tensor
    """(H, W, 3 or more) true image; floats in [0, 1], or uint8. Channels after the third do not count."""
    object_mask: Optional[Tensor] = None
    """(H, W, 1) in [0, 1], 1 on the object; None: the view has no mask."""
    known_depth: Optional[Tensor] = None
    """(H, W, 1) bool, which pixels have a true depth; None: the view has no depth map."""
    sources: Tuple[int, ...] = ()
    """View indices of the source views that it is rendered from."""

    @classmethod
    def from_batch(cls, batch: Mapping[str, Any], use_mask: bool = True) -> ViewData:
        """The data that a nerfstudio dataset or datamanager gives for a view."""
        mask = batch.get(OBJECT_MASK_KEY) if use_mask else None
        return cls(batch["image"], mask, batch.get(KNOWN_DEPTH_KEY))


@dataclass(frozen=True)
class EvaluatedView:
    """A view to evaluate; its images are read when it is measured."""

    file_name: str
    """Name of the true image's file."""
    view_index: int
    """Index of the view in the whole scene."""
    split_index: int
    """Index of the view among the test views; of one scene of many, in the scene."""
    camera: Cameras
    """(1,) its camera."""
    load: Callable[[], ViewData]
    """Reads what it is compared with."""
    scale_label: Optional[int] = None
    """In scenes with images of several sizes, which size; every metric then has a second column `<name>_d<label>`."""
    scene: Optional[str] = None
    """Name of the scene in an evaluation over many scenes."""
    category: str = ""
    """The scene's category."""


@dataclass(frozen=True)
class EvaluatedScene:
    """Views of one scene, and what renders them."""

    render: Callable[[Cameras], Outputs]
    """Renders a camera (1,) of the scene."""
    views: Iterable[EvaluatedView]
    """The views, in order."""
    baselines: Optional[Baselines] = None
    """Predictions without a model to compare with; None: none."""
    masked_baselines: bool = True
    """Whether these are also measured on the object alone, where a view has an object mask."""


class ViewPictures(Protocol):
    """Keeps pictures of evaluated views."""

    def missing(self, view: EvaluatedView) -> bool:
        """Whether pictures of this view are asked for and not there yet."""
        ...

    def save(self, view: EvaluatedView, truth: Tensor, outputs: Outputs) -> None:
        """Writes them.

        Args:
            view: the view.
            truth: true image (H, W, 3) in [0, 1].
            outputs: what was rendered.
        """
        ...


@dataclass
class ViewEvaluator:
    """Renders and measures views, a row for each."""

    suite: MetricSuite
    """The metrics."""
    device: torch.device
    """Device of the model."""
    step: int = 0
    """Training step of the weights."""
    ledger: Optional[Ledger] = None
    """Rows on disk: views that have one are not measured again. None: rows are only returned."""
    pictures: Optional[ViewPictures] = None
    """Keeps pictures; None: none are kept."""
    on_row: Callable[[LedgerRow], None] = lambda row: None
    """Told of the row of every view that was rendered."""
    features: ViewFeatures = field(default_factory=ViewFeatures)
    """Image features of the views, where FID or KID is asked for."""

    @torch.no_grad()
    def evaluate(self, scene: EvaluatedScene) -> List[LedgerRow]:
        """A row for every view of a scene, in order."""
        return [self._evaluate_view(scene, view) for view in scene.views]

    def evaluate_and_record(self, scene: EvaluatedScene, key: str, about: Dict[str, Any]) -> List[LedgerRow]:
        """The same of a whole evaluation of one scene, whose averages go to the ledger's JSON file.

        Args:
            scene: the views.
            key: hash of the checkpoint and of how views are measured.
            about: what else the JSON file says.

        Raises:
            ValueError: there is no ledger.
            WeightsNotFoundError: weights of a metric of all views together were not found; no view is rendered then.
        """
        if self.ledger is None:
            raise ValueError("expected a ledger to write the evaluation to")
        set_metrics = self.suite.set_metrics
        set_metrics.prepare()
        self.ledger.resume(key, about)
        if set_metrics.names:
            self.features = ViewFeatures.load(self.ledger.features_path, set_metrics.network.key)
        rows = self.evaluate(scene)
        self.ledger.finish(key, about, flatten(self.summarize(rows), with_std=True))
        return rows

    def summarize(self, rows: Sequence[LedgerRow]) -> Dict[str, MetricSummary]:
        """Averages over rows, and the metrics of all these views together."""
        return _summarize(rows, self.features, self.suite.set_metrics)

    def _evaluate_view(self, scene: EvaluatedScene, view: EvaluatedView) -> LedgerRow:
        row = None if self.ledger is None else self.ledger.row(view.scene, view.split_index)
        draw = self.pictures is not None and self.pictures.missing(view)
        describe = bool(self.suite.set_metrics.names) and view.split_index not in self.features.views
        if row is not None and not draw and not describe:
            return row
        data = view.load()
        outputs, seconds = timed(lambda: scene.render(view.camera.to(self.device)), self.device)
        truth = truth_beside(outputs, data)
        if describe:
            self.features.views[view.split_index] = self.suite.set_metrics.features(outputs["rgb"], truth)
            if self.ledger is not None:
                self.features.save(self.ledger.features_path)
        if self.pictures is not None and draw:
            self.pictures.save(view, truth, outputs)
        # The row comes last: a view that has one also has its features and pictures.
        if row is None:
            row = self._measure(scene, view, data, outputs, seconds)
            if self.ledger is not None:
                self.ledger.append(row)
        self.on_row(row)
        return row

    def _measure(
        self, scene: EvaluatedScene, view: EvaluatedView, data: ViewData, outputs: Outputs, seconds: float
    ) -> LedgerRow:
        values = measure_view(self.suite, outputs, data)
        if view.scale_label is not None:
            values.update({f"{name}_d{view.scale_label}": value for name, value in values.items()})
        if scene.baselines is not None:
            values.update(self._measure_baselines(scene.baselines, view, data, outputs, scene.masked_baselines))
        height, width = data.image.shape[:2]
        return LedgerRow(
            file_name=view.file_name,
            view_index=view.view_index,
            split_index=view.split_index,
            step=self.step,
            num_rays_per_sec=height * width / seconds,
            metrics={**values, "fps": 1.0 / seconds},
            scene=view.scene,
            category=view.category,
            sources=data.sources,
        )

    def _measure_baselines(
        self, baselines: Baselines, view: EvaluatedView, data: ViewData, outputs: Outputs, masked: bool
    ) -> Dict[str, Optional[float]]:
        """PSNR of the baselines: of whole images, in the metrics' region, and on the object alone where asked for."""
        truth = truth_beside(outputs, data)
        mask = data.object_mask if masked else None
        values: Dict[str, Optional[float]] = {}
        for name, image in baselines.predict(view.camera, (truth.shape[0], truth.shape[1])).items():
            found = self.suite(image.to(truth), truth, mask, data.known_depth, only=("psnr",))
            values.update({f"{BASELINE_PREFIX}{name}_{metric}": value for metric, value in found.items()})
        return values


def truth_beside(outputs: Outputs, data: ViewData) -> Tensor:
    """The true image (H, W, 3) in [0, 1], float32, on the device of the rendered one."""
    return as_float(data.image[..., :3]).to(outputs["rgb"].device, torch.float32)


def measure_view(suite: MetricSuite, outputs: Outputs, data: ViewData) -> Dict[str, Optional[float]]:
    """The metrics of a rendered view, see `MetricSuite`."""
    return suite(outputs["rgb"].float(), truth_beside(outputs, data), data.object_mask, data.known_depth)


def scene_view_indices(dataset: InputDataset) -> Tuple[int, ...]:
    """Index in the whole scene of each view of a dataset; of other packages' dataparsers, index in the split."""
    record = dataset.metadata.get(METADATA_KEY)
    return tuple(range(len(dataset))) if record is None else tuple(record.image_indices)


def dataset_views(
    dataset: InputDataset,
    indices: Sequence[int],
    use_masks: bool = True,
    cached: Optional[Sequence[Dict[str, Any]]] = None,
) -> List[EvaluatedView]:
    """Views of a dataset.

    Args:
        dataset: the test views, at the size at which they are measured.
        indices: which of them, by split index.
        use_masks: whether object masks count.
        cached: data of all views where the datamanager keeps them changed (undistorted); None: as the dataset reads
            them.
    """

    def load(index: int) -> ViewData:
        return ViewData.from_batch(dataset.get_data(index) if cached is None else cached[index], use_masks)

    return [
        _dataset_view(dataset, index, dataset.cameras[index : index + 1], partial(load, index)) for index in indices
    ]


def loader_views(loader: Iterable[Tuple[Cameras, Dict[str, Any]]], dataset: InputDataset) -> Iterator[EvaluatedView]:
    """Views as one of nerfstudio's evaluation dataloaders gives them.

    Args:
        loader: camera (1,) and batch of each view.
        dataset: that the loader reads.
    """
    record = dataset.metadata.get(METADATA_KEY)
    labels = None if record is None else record.scale_labels
    for camera, batch in loader:
        index = int(batch["image_idx"])
        data = ViewData.from_batch(batch)
        label = None if labels is None else labels[index]
        yield _dataset_view(dataset, index, camera, lambda data=data: data, label)


def _dataset_view(
    dataset: InputDataset, index: int, camera: Cameras, load: Callable[[], ViewData], scale_label: Optional[int] = None
) -> EvaluatedView:
    name, view_index = Path(dataset.image_filenames[index]).name, scene_view_indices(dataset)[index]
    return EvaluatedView(name, view_index, index, camera, load, scale_label)


def read_summary(
    path: Path, views: Optional[Sequence[int]] = None, set_metrics: Optional[SetMetrics] = None
) -> Dict[str, MetricSummary]:
    """Averages of the rows on disk, and the metrics of all of them together.

    Args:
        path: the JSON file of an evaluation of one scene.
        views: view indices in the scene; None: all that are there.
        set_metrics: the metrics of all views together; None: those that the evaluation was made with.

    Raises:
        FileNotFoundError: there are no rows.
        ValueError: a view is not among them.
    """
    ledger = Ledger(path)
    rows = read_rows(ledger.rows_path)
    if views is not None:
        missing = sorted(set(views) - {row.view_index for row in rows})
        if missing:
            raise ValueError(f"{ledger.rows_path}: no row of the views {missing}; evaluate them first")
        rows = [row for row in rows if row.view_index in set(views)]
    if set_metrics is None:
        content = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
        settings = content.get("evaluation", {}).get(SET_METRICS_KEY, {"metrics": ()})
        set_metrics = SetMetrics(EvaluationConfig(**settings))
    return _summarize(rows, ViewFeatures.load(ledger.features_path), set_metrics)


def _summarize(rows: Sequence[LedgerRow], features: ViewFeatures, set_metrics: SetMetrics) -> Dict[str, MetricSummary]:
    pairs = [features.views[row.split_index] for row in rows if row.split_index in features.views]
    return {**summarize(rows), **set_metrics.compute(pairs)}


def choose_views(scene_indices: Sequence[int], views: Optional[Sequence[int]], max_views: Optional[int]) -> List[int]:
    """Split indices of the views to evaluate.

    Args:
        scene_indices: view index in the scene of each test view.
        views: view indices in the scene; None: all.
        max_views: at most so many, at equal steps from the first to the last; None: no limit.

    Raises:
        ValueError: a view is no test view.
    """
    split_indices = {view: index for index, view in enumerate(scene_indices)}
    wrong = [view for view in views or () if view not in split_indices]
    if wrong:
        raise ValueError(f"--views: expected test views of the run ({', '.join(map(str, split_indices))}), got {wrong}")
    chosen = list(range(len(scene_indices))) if views is None else [split_indices[view] for view in views]
    return list(at_equal_steps(chosen, max_views))


def at_equal_steps(items: Sequence[Item], most: Optional[int]) -> Sequence[Item]:
    """At most so many items, at equal steps from the first to the last; None: all."""
    if most is None or most >= len(items):
        return items
    return [items[int(index)] for index in np.round(np.linspace(0, len(items) - 1, most))]
