"""The one loop over evaluated views: rendered, timed and measured one by one, and nothing that is done done twice.

nerfstudio's `ns-eval` and evaluations while training (through the pipeline), `ns-fewshot eval`, and `SceneEvaluator`
over many scenes all use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, Iterable, List, Optional, Protocol, Sequence, Tuple, TypeVar

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fewshot_ns.evaluation.baselines.trivial import BASELINE_PREFIX, Baselines
from fewshot_ns.evaluation.metrics.set_metrics import SetMetrics, ViewFeatures
from fewshot_ns.evaluation.metrics.suite import MetricSuite, as_float
from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow, MetricSummary, flatten, read_rows, summarize
from fewshot_ns.evaluation.runners.views import EvaluatedView, ViewData
from fewshot_ns.utils.hashing import files_hash

Result = TypeVar("Result")
Outputs = Dict[str, Tensor]
"""What a model renders for a camera: `rgb` (H, W, 3), `depth` and `accumulation` (H, W, 1), and others."""


@dataclass(frozen=True)
class EvaluatedScene:
    """Views of one scene, and what renders them."""

    render: Optional[Callable[[Cameras], Outputs]]
    """Renders a camera (1,) of the scene; None where every view has a `prediction`."""
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

    def wanted(self, view: EvaluatedView) -> bool:
        """Whether pictures of this view are asked for."""
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
    _told_unknown: bool = field(default=False, init=False, repr=False)

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
        measured_on = None if self.ledger is None else files_hash(view.files)
        outdated = row is not None and measured_on is not None and row.measured_on != measured_on
        if row is not None and outdated:
            self._tell_outdated(row)
            row = None
        draw = self.pictures is not None and (self.pictures.missing(view) or outdated and self.pictures.wanted(view))
        describe = bool(self.suite.set_metrics.names) and (view.split_index not in self.features.views or outdated)
        if row is not None and not draw and not describe:
            return row
        data = view.load()
        outputs, seconds = self._rendered(scene, view)
        truth = truth_beside(outputs, data)
        if describe:
            self.features.views[view.split_index] = self.suite.set_metrics.features(outputs["rgb"], truth)
            if self.ledger is not None:
                self.features.save(self.ledger.features_path)
        if self.pictures is not None and draw:
            self.pictures.save(view, truth, outputs)
        # The row comes last: a view that has one also has its features and pictures.
        if row is None:
            row = replace(self._measure(scene, view, data, outputs, seconds), measured_on=measured_on)
            if self.ledger is not None:
                self.ledger.append(row)
        self.on_row(row)
        return row

    def _tell_outdated(self, row: LedgerRow) -> None:
        """Says why a view is measured again; of rows of earlier versions once for all."""
        name = row.file_name if row.scene is None else f"{row.scene}, {row.file_name}"
        if row.measured_on is not None:
            CONSOLE.print(f"{name}: its photo or mask is another than at the last evaluation; measured again.")
        elif not self._told_unknown:
            self._told_unknown = True
            CONSOLE.print(
                f"{name}: the rows of an earlier version do not say which photos they were measured on; such views are "
                "measured again.",
                soft_wrap=True,
            )

    def _rendered(self, scene: EvaluatedScene, view: EvaluatedView) -> Tuple[Outputs, Optional[float]]:
        """What shows a view, and the seconds that it took to render; None where it was rendered before."""
        if view.prediction is not None:
            return {name: image.to(self.device) for name, image in view.prediction().items()}, None
        render, camera = scene.render, view.camera
        if render is None or camera is None:
            raise ValueError(f"{view.file_name}: expected a prediction, or a camera and what renders it, found neither")
        return timed(lambda: render(camera.to(self.device)), self.device)

    def _measure(
        self, scene: EvaluatedScene, view: EvaluatedView, data: ViewData, outputs: Outputs, seconds: Optional[float]
    ) -> LedgerRow:
        values = measure_view(self.suite, outputs, data)
        if view.scale_label is not None:
            values.update({f"{name}_d{view.scale_label}": value for name, value in values.items()})
        if scene.baselines is not None and view.camera is not None:
            found = self._measure_baselines(scene.baselines, view.camera, data, outputs, scene.masked_baselines)
            values.update(found)
        height, width = data.image.shape[:2]
        return LedgerRow(
            file_name=view.file_name,
            view_index=view.view_index,
            split_index=view.split_index,
            step=self.step,
            num_rays_per_sec=None if seconds is None else height * width / seconds,
            metrics=values if seconds is None else {**values, "fps": 1.0 / seconds},
            scene=view.scene,
            category=view.category,
            sources=data.sources,
        )

    def _measure_baselines(
        self, baselines: Baselines, camera: Cameras, data: ViewData, outputs: Outputs, masked: bool
    ) -> Dict[str, Optional[float]]:
        """PSNR of the baselines: of whole images, in the metrics' region, and on the object alone where asked for."""
        truth = truth_beside(outputs, data)
        mask = data.object_mask if masked else None
        values: Dict[str, Optional[float]] = {}
        for name, image in baselines.predict(camera, (truth.shape[0], truth.shape[1])).items():
            found = self.suite(image.to(truth), truth, mask, data.known_depth, only=("psnr",))
            values.update({f"{BASELINE_PREFIX}{name}_{metric}": value for metric, value in found.items()})
        return values


def truth_beside(outputs: Outputs, data: ViewData) -> Tensor:
    """The true image (H, W, 3) in [0, 1], float32, on the device of the rendered one."""
    return as_float(data.image[..., :3]).to(outputs["rgb"].device, torch.float32)


def measure_view(suite: MetricSuite, outputs: Outputs, data: ViewData) -> Dict[str, Optional[float]]:
    """The metrics of a rendered view, see `MetricSuite`."""
    return suite(outputs["rgb"].float(), truth_beside(outputs, data), data.object_mask, data.known_depth)


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
        from fewshot_ns.evaluation.runners.stored_settings import stored_settings

        set_metrics = SetMetrics(stored_settings(path))
    return _summarize(rows, ViewFeatures.load(ledger.features_path), set_metrics)


def _summarize(rows: Sequence[LedgerRow], features: ViewFeatures, set_metrics: SetMetrics) -> Dict[str, MetricSummary]:
    pairs = [features.views[row.split_index] for row in rows if row.split_index in features.views]
    return {**summarize(rows), **set_metrics.compute(pairs)}


def timed(call: Callable[[], Result], device: torch.device) -> Tuple[Result, float]:
    """Result and wall time of a call.

    Args:
        call: what is timed.
        device: where its work runs. Of CUDA, the queue is empty when the clock starts, and again when it stops.

    Returns:
        What `call` returns, and seconds.
    """
    _synchronize(device)
    start = perf_counter()
    result = call()
    _synchronize(device)
    return result, perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
