"""Validation views: neither trained on nor measured in the end, they say which checkpoint of a run is the best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Tuple

from nerfstudio.data.datasets.base_dataset import InputDataset

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.evaluation.metrics.config import check_metric_names
from fewshot_ns.evaluation.metrics.suite import MetricSuite, higher_is_better
from fewshot_ns.evaluation.records.ledger import summarize
from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator
from fewshot_ns.evaluation.runners.views import at_equal_steps, dataset_views, scene_view_indices

MOST_VIEWS = 4
"""Most views that are taken of a scene's own validation split, at equal steps."""


class ValidationViews:
    """Measures a pipeline on validation views by one metric.

    Args:
        pipeline: that trains on one scene.
        metric: by name, see `EvaluationConfig`.
        views: by their index in the scene; None: up to `MOST_VIEWS` of the scene's own validation split.

    Raises:
        ValueError: an unknown metric, a method of many scenes, no validation views, or some that train or test.
    """

    def __init__(self, pipeline: Any, metric: str, views: Optional[Tuple[int, ...]] = None) -> None:
        check_metric_names((metric,))
        manager = pipeline.datamanager
        if not isinstance(manager, FewShotDataManager) or not isinstance(manager.dataparser, FewShotDataParser):
            raise ValueError("--keep-best: expected a method that trains on one scene, by a dataparser of this package")
        record = manager.fewshot_metadata
        if views is None:
            outputs = manager.dataparser.get_dataparser_outputs(split="val")
        else:
            count = len(record.scene_camera_to_worlds)
            wrong = [view for view in views if not 0 <= view < count]
            if wrong or not views:
                raise ValueError(
                    f"--keep-best-views: expected views of the scene (0 to {count - 1}), got {list(views)}"
                )
            outputs = manager.dataparser.outputs_of_views(views, "val")
        dataset = FewShotDataset(outputs, scale_factor=manager.config.camera_res_scale_factor)
        used = {"training": record.train_indices, "test": record.test_indices}
        for name, others in used.items():
            shared = sorted(set(scene_view_indices(dataset)) & set(others))
            if shared and views is None:
                raise ValueError(
                    "--keep-best: the scene has no validation views of its own; name some that neither train nor test "
                    "by --keep-best-views (--test-indices of the dataparser says which test)"
                )
            if shared:
                raise ValueError(
                    f"--keep-best-views: {name} views are among them ({shared}); figures of views that chose the "
                    "checkpoint say nothing, so give views that neither train nor test"
                )
        validate_dataset(dataset)
        self.metric = metric
        self.higher_is_better = higher_is_better(metric)
        self._pipeline, self._dataset = pipeline, dataset
        self._positions = at_equal_steps(range(len(dataset)), MOST_VIEWS if views is None else None)
        self._suite = MetricSuite(
            replace(pipeline.config.evaluation, metrics=(metric,), region="whole"), pipeline.device
        )

    @property
    def dataset(self) -> InputDataset:
        """The views at the size of training."""
        return self._dataset

    @property
    def views(self) -> Tuple[int, ...]:
        """The views that are measured, by their index in the scene."""
        indices = scene_view_indices(self._dataset)
        return tuple(int(indices[position]) for position in self._positions)

    def measure(self) -> float:
        """The metric's mean over the views, with the pipeline's weights of now.

        Raises:
            ValueError: it cannot be measured, as LPIPS without weights or masked metrics without masks.
        """
        was_training = self._pipeline.training
        self._pipeline.eval()
        evaluator = ViewEvaluator(self._suite, self._pipeline.device)
        scene = EvaluatedScene(
            self._pipeline.model.get_outputs_for_camera, dataset_views(self._dataset, list(self._positions))
        )
        rows = evaluator.evaluate(scene)
        self._pipeline.train(was_training)
        mean = summarize(rows)[self.metric].mean
        if mean is None:
            raise ValueError(f"--keep-best {self.metric}: no validation view can be measured by it")
        return mean
