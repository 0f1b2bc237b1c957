"""Evaluation of a trained run view by view: a row as soon as a view is done, and nothing done twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from fewshot_ns.data.datasets.fewshot_dataset import OBJECT_MASK_KEY
from fewshot_ns.data.depth.true_depth import KNOWN_DEPTH_KEY
from fewshot_ns.data.records.metadata import METADATA_KEY
from fewshot_ns.evaluation.baselines.trivial import BASELINE_PREFIX, Baselines
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.set_metrics import SetMetrics, ViewFeatures
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.ledger import LedgerRow, MetricSummary, flatten, read_rows, summarize, write_rows
from fewshot_ns.presentation.pictures import save_png
from fewshot_ns.utils.files import replacing, write_json

OF_SET = "of_all_views"
"""Key in the JSON file's `evaluation`: how the metrics of all views together are taken."""


@dataclass(frozen=True)
class EvaluationRecord:
    """An evaluation on disk: `<name>.json` with the averages, `<name>.jsonl` with a row per view beside it."""

    path: Path
    """The JSON file."""

    @property
    def rows_path(self) -> Path:
        """The rows."""
        return self.path.with_suffix(".jsonl")

    @property
    def features_path(self) -> Path:
        """Features of the views, by which metrics of all of them together are taken; only where such are asked for."""
        return self.path.with_suffix(".features.npz")

    def done(self, key: str) -> List[LedgerRow]:
        """Rows of an earlier evaluation of the same kind; none where it was of another kind, or there was none.

        Args:
            key: hash of the checkpoint and of how views are measured.
        """
        try:
            record = json.loads(self.path.read_text(encoding="utf8"))
        except (OSError, ValueError):
            return []
        if not isinstance(record, dict) or record.get("key") != key or not self.rows_path.is_file():
            return []
        return read_rows(self.rows_path)

    def begin(self, key: str, about: Dict[str, Any]) -> None:
        """Says of what kind the rows that follow are."""
        self.rows_path.unlink(missing_ok=True)
        self.features_path.unlink(missing_ok=True)
        write_json(self.path, {**about, "key": key, "complete": False})

    def finish(self, key: str, about: Dict[str, Any], summary: Dict[str, MetricSummary]) -> None:
        """Writes mean and deviation per metric in the form of `ns-eval`."""
        write_json(self.path, {**about, "key": key, "complete": True, "results": flatten(summary, with_std=True)})


def summary_of(
    path: Path, views: Optional[Sequence[int]] = None, of_set: Optional[SetMetrics] = None
) -> Dict[str, MetricSummary]:
    """Averages of the rows on disk, and the metrics of all of them together.

    Args:
        path: the JSON file of an evaluation.
        views: indices in the scene of the views to take; None: all that are there.
        of_set: the metrics of all views together; None: those that the evaluation was made with.

    Raises:
        FileNotFoundError: there are no rows.
        ValueError: a view is not among them.
    """
    rows = read_rows(EvaluationRecord(path).rows_path)
    if views is not None:
        missing = sorted(set(views) - {row.view_index for row in rows})
        if missing:
            raise ValueError(f"{path.with_suffix('.jsonl')}: no row of the views {missing}; evaluate them first")
        rows = [row for row in rows if row.view_index in set(views)]
    if of_set is None:
        content = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
        of_set = SetMetrics(EvaluationConfig(**content.get("evaluation", {}).get(OF_SET, {"metrics": ()})))
    return _summary(rows, ViewFeatures.load(EvaluationRecord(path).features_path), of_set)


def _summary(rows: Sequence[LedgerRow], seen: ViewFeatures, of_set: SetMetrics) -> Dict[str, MetricSummary]:
    summary = summarize(rows)
    pairs = [seen.views[row.split_index] for row in rows if row.split_index in seen.views]
    return {**summary, **of_set.compute(pairs)}


def choose_views(scene_indices: Sequence[int], views: Optional[Sequence[int]], max_views: Optional[int]) -> List[int]:
    """Places in the test split of the views to evaluate.

    Args:
        scene_indices: index in the scene of each test view.
        views: indices in the scene; None: all.
        max_views: at most so many, at equal steps from the first to the last; None: no limit.

    Raises:
        ValueError: a view is no test view.
    """
    places = {index: place for place, index in enumerate(scene_indices)}
    wrong = [view for view in views or () if view not in places]
    if wrong:
        raise ValueError(f"--views: expected test views of the run ({', '.join(map(str, places))}), got {wrong}")
    chosen = [places[view] for view in views] if views is not None else list(range(len(scene_indices)))
    if max_views is None or max_views >= len(chosen):
        return chosen
    steps = np.round(np.linspace(0, len(chosen) - 1, max_views)).astype(int)
    return [chosen[step] for step in steps]


@dataclass
class ViewEvaluator:
    """Measures the test views of a run.

    Args:
        pipeline: trained, in evaluation mode.
        dataset: the test views, at the size at which they are measured.
        suite: the metrics.
        baselines: trivial predictions to compare with; None: none.
        step: training step of the weights.
        use_masks: whether masked metrics are taken where views have masks.
        cached: the views' data where the datamanager keeps them changed (undistorted); None: as the dataset reads them.
    """

    pipeline: Any
    dataset: Any
    suite: MetricSuite
    baselines: Optional[Baselines] = None
    step: int = 0
    use_masks: bool = True
    cached: Optional[Sequence[Dict[str, Any]]] = None

    @property
    def scene_indices(self) -> Tuple[int, ...]:
        """Index in the scene of each test view."""
        record = self.dataset.metadata.get(METADATA_KEY)
        return tuple(range(len(self.dataset))) if record is None else tuple(record.image_indices)

    def evaluate(
        self,
        places: Sequence[int],
        record: EvaluationRecord,
        key: str,
        about: Dict[str, Any],
        renders: Optional[Path] = None,
        rendered: Sequence[int] = (),
        on_view: Callable[[LedgerRow], None] = lambda row: None,
    ) -> List[LedgerRow]:
        """Measures what has not been measured, and writes the rows after every view and the averages at the end.

        Args:
            places: places of the views in the test split.
            record: where results go.
            key: hash of the checkpoint and of how views are measured.
            about: what else the JSON file says.
            renders: folder of pictures; None: none are kept.
            rendered: places of the views of which pictures are kept.
            on_view: told of every new row.

        Returns:
            One row per place.

        Raises:
            WeightsNotFoundError: those of a metric of all images together are nowhere to be had.
        """
        of_set = self.suite.of_set
        of_set.prepare()
        rows = {row.split_index: row for row in record.done(key)}
        if not rows:
            record.begin(key, about)
        seen = ViewFeatures.load(record.features_path, of_set.network.key) if of_set.names else ViewFeatures()
        for place in places:
            wanted = renders is not None and place in rendered
            drawn = not wanted or self._stem(renders, place).with_suffix(".npz").is_file()
            if place in rows and drawn and (place in seen.views or not of_set.names):
                continue
            row, images = self._measure(place)
            if of_set.names:
                seen.views[place] = of_set.features(*(torch.from_numpy(images[side]) for side in (1, 0)))
                seen.save(record.features_path)
            if wanted and renders is not None:
                save_view(self._stem(renders, place), *images)
            rows[place] = row
            write_rows(record.rows_path, [rows[number] for number in sorted(rows)])
            on_view(row)
        chosen = [rows[place] for place in places]
        record.finish(key, about, _summary(chosen, seen, of_set))
        return chosen

    @staticmethod
    def _stem(folder: Optional[Path], place: int) -> Path:
        return (folder or Path()) / f"view-{place:04d}"

    @torch.no_grad()
    def _measure(self, place: int) -> Tuple[LedgerRow, Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        cameras = self.dataset.cameras
        start = perf_counter()
        outputs = self.pipeline.model.get_outputs_for_camera(cameras[place : place + 1].to(self.pipeline.device))
        seconds = perf_counter() - start
        data = self.dataset.get_data(place) if self.cached is None else self.cached[place]
        rgb = outputs["rgb"].float()
        image = data["image"][..., :3]
        truth = (image / 255.0 if image.dtype == torch.uint8 else image).to(rgb)
        mask = data.get(OBJECT_MASK_KEY) if self.use_masks else None
        mask = None if mask is None else mask.to(truth)
        known = data.get(KNOWN_DEPTH_KEY)
        values: Dict[str, Optional[float]] = dict(self.suite(rgb, truth, mask, known))
        values.update(self._baseline_values(place, truth, mask, known))
        row = LedgerRow(
            file_name=Path(self.dataset.image_filenames[place]).name,
            view_index=self.scene_indices[place],
            split_index=place,
            step=self.step,
            num_rays_per_sec=truth.shape[0] * truth.shape[1] / seconds,
            metrics={**values, "fps": 1.0 / seconds},
        )
        depth, shown = (outputs.get(name, torch.zeros_like(rgb[..., :1])) for name in ("depth", "accumulation"))
        images = tuple(image.float().cpu().numpy() for image in (truth, rgb.clamp(0.0, 1.0), depth, shown))
        return row, images  # type: ignore[return-value]

    def _baseline_values(
        self, place: int, truth: torch.Tensor, mask: Optional[torch.Tensor], known: Optional[torch.Tensor]
    ) -> Dict[str, Optional[float]]:
        """PSNR of the baselines, also on the object alone where there is a mask, and in the metrics' region."""
        if self.baselines is None:
            return {}
        values: Dict[str, Optional[float]] = {}
        camera = self.dataset.cameras[place : place + 1]
        for name, image in self.baselines.of_camera(camera, (truth.shape[0], truth.shape[1])).items():
            found = self.suite(image.to(truth), truth, mask, known, only=("psnr",))
            values.update({f"{BASELINE_PREFIX}{name}_{metric}": value for metric, value in found.items()})
        return values


def save_view(stem: Path, truth: np.ndarray, render: np.ndarray, depth: np.ndarray, accumulation: np.ndarray) -> None:
    """Keeps a view: `<stem>-truth.png` and `<stem>-render.png`, and `<stem>.npz` with depth and accumulation.

    Args:
        stem: folder and name.
        truth: (H, W, 3) in [0, 1].
        render: (H, W, 3) in [0, 1].
        depth: (H, W, 1), distance in world units.
        accumulation: (H, W, 1) in [0, 1].
    """
    save_png(truth, stem.with_name(f"{stem.name}-truth.png"))
    save_png(render, stem.with_name(f"{stem.name}-render.png"))
    with replacing(stem.with_suffix(".npz")) as partial, partial.open("wb") as stream:
        arrays = {"depth": depth[..., 0], "accumulation": accumulation[..., 0]}
        np.savez_compressed(stream, **{name: array.astype(np.float32) for name, array in arrays.items()})
