"""`ns-fewshot eval`: a run's test views measured as asked, view by view, and taken up again where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple

import tyro

from fewshot_ns.evaluation.metrics.regions import Region
from fewshot_ns.scripts.eval_scenes import SceneOptions, baselines_of_run, choose_scenes, evaluate_scenes

if TYPE_CHECKING:
    from fewshot_ns.evaluation.records.ledger import LedgerRow, MetricSummary


@dataclass
class EvalCommand:
    """Measure the test views of a run by the metrics, views, masks and resolution of one's choice.

    Averages go to a JSON file like that of ns-eval, one row per view to a .jsonl file beside it. Views that an earlier
    call has measured in the same way are not measured again.
    """

    load_config: Path
    """config.yml of the run, or a folder with one run in it."""
    output_path: Optional[Path] = None
    """JSON file to write; None: eval.json in the folder of the run."""
    metrics: Optional[Tuple[str, ...]] = None
    """Metrics by name, as in docs/evaluation.md; None: those that the run was configured with."""
    views: Optional[Tuple[int, ...]] = None
    """Test views by their index in the scene; None: all."""
    max_views: Optional[int] = None
    """At most so many of them, at equal steps."""
    max_side: Optional[int] = None
    """Most pixels of the longer side: photos and cameras are scaled down to it. None: as trained."""
    region: Optional[Region] = None
    """Where each metric is taken a second time: centre, true-depth, auto, or whole for nowhere, see
    docs/evaluation.md; None: as configured."""
    masks: Literal["auto", "none"] = "auto"
    """auto: masked metrics where views have object masks; none: without them."""
    mask_dir: Optional[Path] = None
    """Folder of object masks named like the photos, or by the view's index with three digits; None: the scene's."""
    fid_encoder: Optional[str] = None
    """Whose features fid and kid compare: inception, or LIBRARY/MODEL (torchvision/vgg16); None: as configured."""
    fid_weights: Optional[Path] = None
    """Weights of that network; None: as configured."""
    kid_subset_size: Optional[int] = None
    """Images of each subset that kid is averaged over; None: as configured."""
    render_dir: Optional[Path] = None
    """Folder for photo, render (PNG), depth and accumulation (.npz) of the views; None: none are kept."""
    render_views: Optional[int] = None
    """Of how many views, at equal steps; None: of all that are measured."""
    summarise_only: bool = False
    """Read the rows of an earlier call, average them anew and print them; the model is not loaded."""
    restart: bool = False
    """Measure all views anew."""
    generalizable: tyro.conf.OmitArgPrefixes[SceneOptions] = field(default_factory=SceneOptions)
    """Of generalizable methods alone."""

    def main(self) -> None:
        """Evaluates.

        Raises:
            FileNotFoundError: no run, no checkpoint, no masks, or nothing to summarise.
            ValueError: a metric or view is unknown, or a size makes no sense.
        """
        from fewshot_ns.presentation.tables import print_table
        from fewshot_ns.scripts.runs import find_config

        self._check()
        config = find_config(self.load_config)
        output = self.output_path or config.parent / "eval.json"
        summary = self._summarise(output) if self.summarise_only else self._evaluate(config, output)
        print_table(_table(summary), str(output))

    def _check(self) -> None:
        for name, least in (("max_views", 1), ("max_side", 16), ("render_views", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name.replace('_', '-')}: expected at least {least}, got {value}")
        if self.output_path is not None and self.output_path.suffix != ".json":
            raise ValueError(f"--output-path {self.output_path}: expected a file name ending in .json")
        if self.mask_dir is not None and self.masks == "none":
            raise ValueError("--mask-dir was given together with --masks none; leave one of them out")

    def _summarise(self, output: Path) -> Dict[str, MetricSummary]:
        from fewshot_ns.evaluation.records.scene_ledger import SceneLedger, summarize_scenes
        from fewshot_ns.evaluation.runners.views import summary_of

        rows = SceneLedger(output).read()
        if rows and self.views is not None:
            raise ValueError("--views: rows of many scenes are averaged as a whole; leave it out")
        return summarize_scenes(rows) if rows else summary_of(output, self.views)

    def _evaluate(self, config_path: Path, output: Path) -> Dict[str, MetricSummary]:
        import rich
        from rich.progress import Progress

        from fewshot_ns.evaluation.metrics.suite import MetricSuite
        from fewshot_ns.evaluation.runners.views import (
            OF_SET,
            EvaluationRecord,
            ViewEvaluator,
            choose_views,
            summary_of,
        )

        changes = {"metrics": self.metrics, "fid_encoder": self.fid_encoder, "fid_weights": self.fid_weights}
        changes |= {"kid_subset_size": self.kid_subset_size, "region": self.region}
        pipeline, options, checkpoint, about = _load(config_path, changes, self.generalizable)
        suite = MetricSuite(options, pipeline.device)
        if choose_scenes(pipeline, self.generalizable, output):
            return evaluate_scenes(pipeline, suite, self, output, about["step"])
        dataset = self._dataset(pipeline)
        evaluator = ViewEvaluator(
            pipeline,
            dataset,
            suite,
            baselines_of_run(pipeline),
            step=about["step"],
            use_masks=self.masks == "auto",
            # Taken before the cameras are: the host undistorts both at once.
            cached=getattr(pipeline.datamanager, "cached_eval", None),
        )
        places = choose_views(evaluator.scene_indices, self.views, self.max_views)
        rendered = choose_views(places, None, self.render_views)
        rendered = [places[number] for number in rendered]
        size = [int(side) for side in (dataset.cameras.width[0].item(), dataset.cameras.height[0].item())]
        about["evaluation"] = {"metrics": list(options.metrics), "size": size, "masks": self.masks}
        if options.region != "whole":
            about["evaluation"]["region"] = options.region
        if hasattr(pipeline.datamanager, "active"):
            about["evaluation"]["sources"] = pipeline.datamanager.config.sources.record()
        if suite.of_set.names:
            about["evaluation"][OF_SET] = suite.of_set.settings()
        about["views"] = [evaluator.scene_indices[place] for place in places]
        record = EvaluationRecord(output)
        if self.restart:
            record.rows_path.unlink(missing_ok=True)
        key = self._key(checkpoint, about, dataset)
        with Progress(console=rich.get_console(), transient=True) as progress:
            task = progress.add_task("evaluating", total=len(places))

            def on_view(row: LedgerRow) -> None:
                progress.advance(task)
                rich.print(f"{row.file_name}: {_line(row)}")

            evaluator.evaluate(places, record, key, about, self.render_dir, rendered, on_view)
        return summary_of(output, about["views"], suite.of_set)

    def _dataset(self, pipeline: Any) -> Any:
        """The test views at the asked size, with the asked masks."""
        from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset

        manager = pipeline.datamanager
        dataset = manager.eval_dataset
        side = max(int(dataset.cameras.width.max()), int(dataset.cameras.height.max()))
        if self.max_side is not None and self.max_side < side:
            if not isinstance(dataset, FewShotDataset):
                raise ValueError("--max-side: only runs on this package's dataparsers can be measured at another size")
            # A little more, or rounding down could cost a pixel.
            manager.config.camera_res_scale_factor *= (self.max_side + 1e-3) / side
            dataset = manager.create_eval_dataset()
        if self.mask_dir is not None:
            if not isinstance(dataset, FewShotDataset):
                raise ValueError("--mask-dir: only runs on this package's dataparsers know object masks")
            dataset.fewshot = replace(dataset.fewshot, object_mask_filenames=self._mask_files(dataset))
        return dataset

    def _mask_files(self, dataset: Any) -> Tuple[Path, ...]:
        assert self.mask_dir is not None
        found: List[Path] = []
        for index, file in zip(dataset.fewshot.image_indices, dataset.image_filenames, strict=True):
            names = (f"{Path(file).stem}.png", f"{index:03d}.png")
            path = next((self.mask_dir / name for name in names if (self.mask_dir / name).is_file()), None)
            if path is None:
                raise FileNotFoundError(f"{self.mask_dir}: expected {' or '.join(names)} for view {index}, found none")
            found.append(path)
        return tuple(found)

    def _key(self, checkpoint: Path, about: Dict[str, Any], dataset: Any) -> str:
        """Hash of the weights and of how views are measured; which views is left out."""
        from fewshot_ns.utils.hashing import digest, file_key

        masks = getattr(getattr(dataset, "fewshot", None), "object_mask_filenames", None) or ()
        measured = json.dumps(about["evaluation"], sort_keys=True)
        return digest(file_key(checkpoint), measured, *(file_key(file) for file in masks))


def _load(config_path: Path, changes: Dict[str, Any], scenes: SceneOptions) -> Tuple[Any, Any, Path, Dict[str, Any]]:
    """Pipeline, metrics, checkpoint and what ns-eval would write about the run."""
    import nerfstudio.configs.method_configs  # noqa: F401 - the host's modules import each other in this order only

    from fewshot_ns.evaluation.metrics.config import EvaluationConfig, check_metric_names
    from fewshot_ns.scripts.runs import load_run, load_run_config

    config = load_run_config(config_path)
    options = getattr(config.pipeline, "evaluation", None) or EvaluationConfig()
    given = {name: value for name, value in changes.items() if value is not None}
    check_metric_names(tuple(given.get("metrics", ())), of_set=True)
    options = replace(options, **given)
    pipeline = load_run(config_path, "test", scenes.change)
    checkpoint = max(config.get_checkpoint_dir().glob("step-*.ckpt"), key=lambda file: int(file.stem[5:]))
    about = {
        "experiment_name": config.experiment_name,
        "method_name": config.method_name,
        "checkpoint": str(checkpoint),
        "step": int(checkpoint.stem[5:]),
    }
    return pipeline, options, checkpoint, about


def _line(row: LedgerRow) -> str:
    from fewshot_ns.evaluation.baselines.trivial import BASELINE_PREFIX

    shown = {name: value for name, value in row.metrics.items() if not name.startswith(BASELINE_PREFIX)}
    return ", ".join(f"{name} {'n/a' if value is None else format(value, '.4g')}" for name, value in shown.items())


def _table(summary: Dict[str, MetricSummary]) -> Any:
    from fewshot_ns.presentation.tables import Column, Table

    columns = (Column("metric"), Column("mean", 4), Column("deviation", 4), Column("count"))
    return Table(columns, [[name, value.mean, value.std, value.count] for name, value in summary.items()])
