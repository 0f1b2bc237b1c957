"""`ns-fewshot eval`: measures a run's test views, or images on disk, by chosen metrics; resumes where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple

import tyro

from fewshot_ns.evaluation.metrics.config import EvaluatedSplit
from fewshot_ns.evaluation.metrics.regions import Region
from fewshot_ns.scripts.eval_scenes import SceneOptions, choose_scenes, evaluate_scenes, run_baselines

if TYPE_CHECKING:
    from nerfstudio.data.datasets.base_dataset import InputDataset

    from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
    from fewshot_ns.evaluation.metrics.config import EvaluationConfig
    from fewshot_ns.evaluation.metrics.suite import MetricSuite
    from fewshot_ns.evaluation.records.ledger import Ledger, MetricSummary
    from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig
    from fewshot_ns.pipelines.generalizable_pipeline import GeneralizablePipeline
    from fewshot_ns.presentation.tables import Table


@dataclass
class EvalCommand:
    """Measure the test views of a run by metrics, views, masks and resolution of your choice; or images that lie on
    disk, from wherever they come.

    Averages go to a JSON file like that of ns-eval, and a row per view to a .jsonl file beside it. Views that an
    earlier call has measured in the same way are not measured again.
    """

    load_config: Optional[Path] = None
    """config.yml of the run, or a folder with one run in it."""
    output_path: Optional[Path] = None
    """JSON file to write; None: eval.json in the folder of the run or of the images (-train, -best)."""
    best: bool = False
    """Whether the best checkpoint is measured, which --keep-best of a training has kept, instead of the last one."""
    images: Optional[Path] = None
    """Instead of a run: folder of rendered images (8 bits per channel), together with --truth."""
    truth: Optional[Path] = None
    """Folder of the true images, of the same sizes: those of the same relative path, suffixes aside, or of a name that
    is unique. One folder for both: NAME-truth.png beside NAME-render.png, as --render-dir keeps them."""
    metrics: Optional[Tuple[str, ...]] = None
    """Metrics by name, see docs/evaluation.md; None: as configured."""
    split: Optional[EvaluatedSplit] = None
    """Which views are measured: held-out ones; or, into eval-train.json, those that the run was trained on or, of
    generalizable methods, looks at: how well they are fitted, which says nothing of new views. None: as configured."""
    views: Optional[Tuple[int, ...]] = None
    """Test views by their index in the scene (true images: by their place in natural order, from 0); None: all."""
    max_views: Optional[int] = None
    """Largest number of them, taken at equal steps."""
    max_side: Optional[int] = None
    """Largest number of pixels of the longer side, to which images and cameras are scaled down; None: as trained."""
    region: Optional[Region] = None
    """Region in which each metric is computed a second time: centre, true-depth, auto, or whole for none, see
    docs/evaluation.md; None: as configured."""
    masks: Literal["auto", "none"] = "auto"
    """auto: masked metrics where views have object masks; none: without them."""
    mask_dir: Optional[Path] = None
    """Folder of object masks named like the images, or by the view's index with three digits; None: the scene's."""
    on_missing: Literal["stop", "skip"] = "stop"
    """Of --images and --truth: whether images without a partner are an error, or left out and counted."""
    background: Optional[Literal["white", "black"]] = None
    """Of --images and --truth: what lies under transparent pixels; None: such images are an error."""
    fid_encoder: Optional[str] = None
    """Network whose features fid and kid compare: inception, or LIBRARY/MODEL (torchvision/vgg16); None: as
    configured."""
    fid_weights: Optional[Path] = None
    """Weights of that network; None: as configured."""
    kid_subset_size: Optional[int] = None
    """Images of each subset that kid is averaged over; None: as configured."""
    render_dir: Optional[Path] = None
    """Folder for image and render (PNG), depth and accumulation (.npz) of the views; None: none are kept."""
    render_views: Optional[int] = None
    """Number of views whose pictures are kept, at equal steps; None: all that are measured."""
    summarise_only: bool = False
    """Average and print the rows of an earlier call; the model is not loaded."""
    restart: bool = False
    """Measure all views again."""
    generalizable: tyro.conf.OmitArgPrefixes[SceneOptions] = field(default_factory=SceneOptions)
    """Options of generalizable methods."""

    def main(self) -> None:
        """Evaluates.

        Raises:
            FileNotFoundError: no run, no checkpoint, no images or partner of one, no masks, or nothing to summarise.
            ValueError: a metric or view is unknown, or a size makes no sense.
        """
        from fewshot_ns.engine.best import BEST_CONFIG
        from fewshot_ns.presentation.tables import print_table
        from fewshot_ns.scripts.runs import find_config

        self._check()
        if self.load_config is None:
            self._main_of_images()
            return
        config = find_config(self.load_config)
        self.split = self.split or _configured_split(config)
        self.best = self.best or config.name == BEST_CONFIG
        kinds = (("train", self.split == "train"), ("best", self.best))
        name = "-".join(["eval", *(kind for kind, is_so in kinds if is_so)])
        output = self.output_path or config.parent / f"{name}.json"
        summary = self._summarise(output) if self.summarise_only else self._evaluate(config, output)
        if summary:
            print_table(_table(summary), str(output))

    def _check(self) -> None:
        limits = {
            "max-views": (self.max_views, 1),
            "max-side": (self.max_side, 16),
            "render-views": (self.render_views, 1),
        }
        for name, (value, least) in limits.items():
            if value is not None and value < least:
                raise ValueError(f"--{name}: expected at least {least}, got {value}")
        if self.output_path is not None and self.output_path.suffix != ".json":
            raise ValueError(f"--output-path {self.output_path}: expected a file name ending in .json")
        if self.mask_dir is not None and self.masks == "none":
            raise ValueError("--mask-dir was given together with --masks none; leave one of them out")
        folders = sum(folder is not None for folder in (self.images, self.truth))
        if folders != (2 if self.load_config is None else 0):
            raise ValueError("expected either a run (--load-config) or two folders (--images and --truth)")
        if self.load_config is not None and (self.on_missing != "stop" or self.background is not None):
            raise ValueError("--on-missing and --background are for --images and --truth; leave them out")

    def _main_of_images(self) -> None:
        from fewshot_ns.presentation.tables import print_table
        from fewshot_ns.scripts.eval_images import evaluate_images

        images, truth = self.images, self.truth
        if images is None or truth is None:
            raise ValueError("expected both --images and --truth")
        of_runs = {"split": self.split, "max-side": self.max_side, "render-dir": self.render_dir}
        of_runs |= {
            "render-views": self.render_views,
            "best": self.best or None,
            "source views or scenes": self.generalizable.any() or None,
        }
        given = [name for name, value in of_runs.items() if value is not None]
        if given:
            raise ValueError(f"--{', --'.join(given)}: for runs alone; images on disk are measured as they are")
        output = self.output_path or images / "eval.json"
        if self.summarise_only:
            summary = self._summarise(output)
        else:
            summary = evaluate_images(
                images,
                truth,
                output,
                self._options(),
                masks=self.mask_dir,
                views=self.views,
                max_views=self.max_views,
                background=self.background,
                on_missing=self.on_missing,
                restart=self.restart,
            )
        print_table(_table(summary), str(output))

    def _options(self) -> EvaluationConfig:
        """What is measured, by the flags alone."""
        from fewshot_ns.evaluation.metrics.config import EvaluationConfig, check_metric_names

        check_metric_names(tuple(self.metrics or ()), allow_set_metrics=True)
        changes = {name: value for name, value in self._changes().items() if value is not None}
        return replace(EvaluationConfig(), **changes)

    def _changes(self) -> Dict[str, Any]:
        """Fields of the evaluation's config that the flags change; None: they do not."""
        changes = {"metrics": self.metrics, "fid_encoder": self.fid_encoder, "fid_weights": self.fid_weights}
        return {**changes, "kid_subset_size": self.kid_subset_size, "region": self.region}

    def _summarise(self, output: Path) -> Dict[str, MetricSummary]:
        from fewshot_ns.evaluation.records.ledger import Ledger, read_rows, summarize_scenes
        from fewshot_ns.evaluation.runners.evaluator import read_summary

        rows = [row for row in read_rows(Ledger(output).rows_path) if row.scene is not None]
        if rows and self.views is not None:
            raise ValueError("--views: rows of many scenes are averaged as a whole; leave it out")
        return summarize_scenes(rows) if rows else read_summary(output, self.views)

    def _evaluate(self, config_path: Path, output: Path) -> Dict[str, MetricSummary]:
        from fewshot_ns.evaluation.metrics.suite import MetricSuite
        from fewshot_ns.evaluation.records.ledger import Ledger

        changes = {**self._changes(), "split": self.split}
        pipeline, options, checkpoint, about = _load(config_path, changes, self.generalizable, self.best)
        suite, ledger = MetricSuite(options, pipeline.device), Ledger(output)
        if choose_scenes(pipeline, self.generalizable, output):
            if self.split == "train":
                raise ValueError("--split train: expected a run on one scene; name views of several by --views")
            scenes = self._scene_options(pipeline)
            if self.restart:
                ledger.clear()
            return evaluate_scenes(pipeline, suite, scenes, ledger, self.render_dir, about["step"])
        if self.split == "held-out" and not _holds_out(pipeline):
            return self._nothing_to_measure(output, suite, about)
        return self._evaluate_views(pipeline, suite, ledger, checkpoint, about)

    def _nothing_to_measure(self, output: Path, suite: MetricSuite, about: Dict[str, Any]) -> Dict[str, MetricSummary]:
        """Says that nothing is held out, in the file, too: null for every metric."""
        import rich

        from fewshot_ns.pipelines.fewshot_pipeline import EVALUATED_KEY, NOTHING_HELD_OUT
        from fewshot_ns.utils.files import write_json

        rich.print(f"[yellow]{NOTHING_HELD_OUT}[/yellow]")
        results = {**dict.fromkeys(suite.config.metrics), EVALUATED_KEY: "none"}
        write_json(output, {**about, "views": [], "complete": True, "results": results})
        return {}

    def _scene_options(self, pipeline: GeneralizablePipeline) -> SceneEvaluationConfig:
        """Which scenes and views are evaluated, of several scenes.

        Raises:
            ValueError: flags of one scene alone.
        """
        from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig

        single = {"max-side": self.max_side, "mask-dir": self.mask_dir, "render-views": self.render_views}
        for name, value in single.items():
            if value is not None:
                raise ValueError(f"--{name} is for one scene; name it by --scenes, or leave it out")
        if self.views is not None:
            pipeline.datamanager.config.targets.views = tuple(self.views)
        return SceneEvaluationConfig(
            max_scenes=self.generalizable.max_scenes,
            max_views=self.max_views,
            approximate=self.generalizable.approximate,
            masks=self.masks == "auto",
        )

    def _evaluate_views(
        self, pipeline: Any, suite: MetricSuite, ledger: Ledger, checkpoint: Path, about: Dict[str, Any]
    ) -> Dict[str, MetricSummary]:
        """Measures the views of one scene."""
        from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
        from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator, read_summary
        from fewshot_ns.evaluation.runners.stored_settings import SET_METRICS_KEY
        from fewshot_ns.evaluation.runners.views import (
            at_equal_steps,
            choose_views,
            dataset_views,
            scale_labels,
            scene_view_indices,
        )
        from fewshot_ns.pipelines.fewshot_pipeline import EVALUATED_KEY, FewShotPipeline
        from fewshot_ns.presentation.view_pictures import RunPictures
        from fewshot_ns.scripts.eval_progress import evaluate_with_progress

        if self.split == "train":
            if not isinstance(pipeline, FewShotPipeline):
                raise ValueError("--split train: only runs of this package's methods can be measured there")
            pipeline.datamanager.evaluate_training_views()
            about = {**about, EVALUATED_KEY: "train"}
        dataset = self._dataset(pipeline)
        # Before the cameras are read: nerfstudio undistorts both at once.
        cached = getattr(pipeline.datamanager, "cached_eval", None)
        view_indices = scene_view_indices(dataset)
        chosen = choose_views(view_indices, self.views, self.max_views)
        size = [int(side) for side in (dataset.cameras.width[0].item(), dataset.cameras.height[0].item())]
        evaluation: Dict[str, Any] = {"metrics": list(suite.config.metrics), "size": size, "masks": self.masks}
        if suite.config.region != "whole":
            evaluation["region"] = suite.config.region
        labels = scale_labels(dataset)
        if labels is not None:
            # Rows from before there were figures of each size are no such rows.
            evaluation["sizes"] = [f"d{label}" for label in sorted(set(labels))]
        if isinstance(pipeline.datamanager, MultiSceneDataManager):
            evaluation["sources"] = pipeline.datamanager.config.sources.record()
        if suite.set_metrics.names:
            evaluation[SET_METRICS_KEY] = suite.set_metrics.settings()
        views = [view_indices[index] for index in chosen]
        about = {**about, "evaluation": evaluation, "views": views}
        if self.restart:
            ledger.clear()
        evaluator = ViewEvaluator(suite, pipeline.device, about["step"], ledger)
        if self.render_dir is not None:
            evaluator.pictures = RunPictures(self.render_dir, at_equal_steps(chosen, self.render_views))
        scene = EvaluatedScene(
            render=pipeline.model.get_outputs_for_camera,
            views=dataset_views(dataset, chosen, self.masks == "auto", cached),
            # The nearest training view of a training view is itself.
            baselines=None if self.split == "train" else run_baselines(pipeline),
        )
        evaluate_with_progress(evaluator, scene, self._key(checkpoint, evaluation, dataset), about, len(chosen))
        return read_summary(ledger.path, views, suite.set_metrics)

    def _dataset(self, pipeline: Any) -> InputDataset:
        """The test views at the size and with the masks of the flags."""
        from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager
        from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset

        manager = pipeline.datamanager
        dataset = _with_masks(manager.eval_dataset) if self.masks == "auto" else manager.eval_dataset
        side = max(int(dataset.cameras.width.max()), int(dataset.cameras.height.max()))
        if self.max_side is not None and self.max_side < side:
            if not isinstance(manager.eval_dataset, FewShotDataset):
                raise ValueError("--max-side: only runs on this package's dataparsers can be measured at another size")
            # A little more, or rounding down could cost a pixel.
            manager.config.camera_res_scale_factor *= (self.max_side + 1e-3) / side
            one_scene = isinstance(manager, FewShotDataManager)
            dataset = manager.create_measured_dataset() if one_scene else manager.create_eval_dataset()
        if self.mask_dir is not None:
            if not isinstance(dataset, FewShotDataset):
                raise ValueError("--mask-dir: only runs on this package's dataparsers know object masks")
            dataset.fewshot = replace(dataset.fewshot, object_mask_filenames=self._mask_files(dataset, self.mask_dir))
        return dataset

    def _mask_files(self, dataset: FewShotDataset, folder: Path) -> Tuple[Path, ...]:
        from fewshot_ns.data.files.photo_files import files_of_photos

        found: List[Path] = []
        candidates = files_of_photos(folder, dataset.photos, lambda stem: (stem,), (".png",))
        named = candidates.check("object mask (--mask-dir)")
        for index, photo, file in zip(dataset.fewshot.image_indices, dataset.photos, named, strict=True):
            path = folder / f"{index:03d}.png" if file is None else file
            if not path.is_file():
                names = f"{photo.stem}.png or {path.name}"
                raise FileNotFoundError(f"{folder}: expected {names} for view {index}, found none")
            found.append(path)
        return tuple(found)

    def _key(self, checkpoint: Path, evaluation: Dict[str, Any], dataset: InputDataset) -> str:
        """Hash of the weights and of how views are measured, not of which views."""
        from fewshot_ns.utils.hashing import digest, file_key

        masks = getattr(getattr(dataset, "fewshot", None), "object_mask_filenames", None) or ()
        measured = json.dumps(evaluation, sort_keys=True)
        return digest(file_key(checkpoint), measured, *(file_key(file) for file in masks))


def _load(
    config_path: Path, changes: Dict[str, Any], scenes: SceneOptions, best: bool
) -> Tuple[Any, EvaluationConfig, Path, Dict[str, Any]]:
    """Pipeline, metrics, checkpoint and what ns-eval would write about the run."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.evaluation.metrics.config import EvaluationConfig, check_metric_names
    from fewshot_ns.evaluation.records.initial_points import initial_points_words
    from fewshot_ns.scripts.runs import load_checkpoint_of_run, load_run_config

    config = load_run_config(config_path)
    options = getattr(config.pipeline, "evaluation", None) or EvaluationConfig()
    changes = {name: value for name, value in changes.items() if value is not None}
    check_metric_names(tuple(changes.get("metrics", ())), allow_set_metrics=True)
    options = replace(options, **changes)

    def change(run: Any) -> None:
        scenes.change(run)
        if hasattr(run.pipeline, "evaluation"):
            # Training views come later, where they are meant, and of generalizable methods as well.
            run.pipeline.evaluation.split = "held-out"

    pipeline, checkpoint = load_checkpoint_of_run(config_path, "test", change, best)
    about = {
        "experiment_name": config.experiment_name,
        "method_name": config.method_name,
        "checkpoint": str(checkpoint),
        "step": int(checkpoint.stem[5:]),
        **initial_points_words(config.get_base_dir()),
    }
    return pipeline, options, checkpoint, about


def _with_masks(dataset: InputDataset) -> InputDataset:
    """The views of one of nerfstudio's own datasets with the object masks that this package's dataparsers know; any
    other dataset as it is."""
    from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
    from fewshot_ns.data.records.metadata import METADATA_KEY

    record = dataset.metadata.get(METADATA_KEY)
    if isinstance(dataset, FewShotDataset) or record is None or record.object_mask_filenames is None:
        return dataset
    return FewShotDataset(dataset._dataparser_outputs)


def _configured_split(config_path: Path) -> EvaluatedSplit:
    from fewshot_ns.evaluation.metrics.config import EvaluationConfig
    from fewshot_ns.scripts.runs import load_run_config

    pipeline: Any = load_run_config(config_path).pipeline
    return pipeline.evaluation.split if hasattr(pipeline, "evaluation") else EvaluationConfig().split


def _holds_out(pipeline: Any) -> bool:
    """Whether a run, which may be one of nerfstudio's methods, has a view that it was not trained on."""
    from fewshot_ns.data.records.metadata import METADATA_KEY
    from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipeline

    if isinstance(pipeline, FewShotPipeline):
        return pipeline.datamanager.holds_out
    record = pipeline.datamanager.eval_dataset.metadata.get(METADATA_KEY)
    return record is None or bool(record.test_indices)


def _table(summary: Dict[str, MetricSummary]) -> Table:
    from fewshot_ns.presentation.tables import Column, Table

    columns = (Column("metric"), Column("mean", 4), Column("deviation", 4), Column("count"))
    names = list(summary)

    def place(name: str) -> Tuple[int, int]:
        """After the metric of all sizes stand those of each size, `<name>_d0` and so on."""
        whole, _, label = name.rpartition("_d")
        return (names.index(whole), int(label)) if whole in summary and label.isdecimal() else (names.index(name), -1)

    rows = [[name, summary[name].mean, summary[name].std, summary[name].count] for name in sorted(names, key=place)]
    return Table(columns, rows)
