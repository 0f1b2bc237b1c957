"""Where priors meet the host's training step, and evaluation gives one row per image."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, Literal, Optional, Type

from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.cuda.amp.grad_scaler import GradScaler
from tyro.conf import Suppress

from fewshot_ns.cameras.ray_space import ray_bounds, scene_focus, scene_radius
from fewshot_ns.data.datamanagers.fewshot import (
    DEPTH_KEY,
    DEPTH_SIGMA_KEY,
    DEPTH_SLOPE_KEY,
    FewShotDataManager,
    FewShotDataManagerConfig,
)
from fewshot_ns.data.datamanagers.stored import present_or_stored
from fewshot_ns.data.dataparsers.single.stored import store_scene
from fewshot_ns.data.datasets.fewshot_dataset import validate_dataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.data.samplers.quads import QuadSamplerOptions
from fewshot_ns.engine.checks import check_losses
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.ledger import flatten, ledger_path, write_rows
from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator, measure_view
from fewshot_ns.evaluation.runners.views import ViewData, loader_views
from fewshot_ns.models.fewshot_model import DISTANCE_MEAN, FewShotModel, FewShotModelConfig
from fewshot_ns.pipelines.unseen_rendering import UnseenRenderer, render_as_evaluated
from fewshot_ns.presentation.ffmpeg import ensure_ffmpeg_on_path
from fewshot_ns.presentation.view_pictures import NerfstudioPictures
from fewshot_ns.priors.depth.prior import DepthPriorConfig
from fewshot_ns.priors.diffusion.prior import DiffusionPriorConfig
from fewshot_ns.priors.diffusion.rendered import RenderedDiffusion
from fewshot_ns.priors.semantic import SemanticPriorConfig
from fewshot_ns.priors.smoothness import SmoothnessPriorConfig
from fewshot_ns.utils.allocator import keep_freed_memory
from fewshot_ns.utils.checkpoints import load_strictly
from fewshot_ns.utils.configs import SavedConfig
from fewshot_ns.viewer.sphere_controls import sphere_controls
from fewshot_ns.viewer.unseen_controls import UnseenViewControls


@dataclass
class FewShotPipelineConfig(SavedConfig, VanillaPipelineConfig):
    """One scene, a few views, and the priors that stand in for the missing ones."""

    _target: Type = field(default_factory=lambda: FewShotPipeline)
    """Class that the config builds."""
    datamanager: DataManagerConfig = field(default_factory=FewShotDataManagerConfig)
    """Data: the few training views and how rays are drawn from them."""
    model: ModelConfig = field(default_factory=FewShotModelConfig)
    """Backbone."""
    depth: DepthPriorConfig = field(default_factory=DepthPriorConfig)
    """Depth prior: ranking and continuity, or bounds by measured depth, from depth maps of the training views."""
    smoothness: SmoothnessPriorConfig = field(default_factory=SmoothnessPriorConfig)
    """Smoothness prior: rendered depth is smooth on patches of unseen views."""
    semantic: SemanticPriorConfig = field(default_factory=SemanticPriorConfig)
    """Semantic prior: unseen views look to an image encoder like the photos."""
    diffusion: DiffusionPriorConfig = field(default_factory=DiffusionPriorConfig)
    """Diffusion prior: a text-to-image model finds the target view likely."""
    initial_weights: Optional[Path] = None
    """Checkpoint whose weights training starts from, with optimizers and steps of its own: of this method, or for
    DietNeRF's model a released one (.tar, or checkpoint_N of the JAX version)."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Which metrics are computed and where their weights lie."""
    run_dir: Suppress[Optional[Path]] = None
    """Folder of the run, set by the trainer's config; per-image rows are written there."""


class FewShotPipeline(VanillaPipeline):
    """The host's pipeline with prior losses, a ledger of test views and strict loading."""

    config: FewShotPipelineConfig
    datamanager: FewShotDataManager
    model: FewShotModel

    def __init__(
        self,
        config: FewShotPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: Optional[GradScaler] = None,
    ) -> None:
        ensure_ffmpeg_on_path()
        if test_mode == "inference":
            # A copy: the host's `ns-render dataset` reads photos by the config that it handed in.
            manager = present_or_stored(config.datamanager, config.run_dir)
            config = config if manager is config.datamanager else replace(config, datamanager=manager)
        super().__init__(config, device, test_mode, world_size, local_rank, grad_scaler)
        self.local_rank = local_rank
        self.loaded_step: Optional[int] = None
        record = get_fewshot_metadata(self.datamanager.train_dataset.metadata)
        space = self.model.geometry.ray_space
        self.depth_prior = config.depth.setup(
            ray_space=space, nvs_rgbd=record.pair_box is not None, length_unit=record.length_unit
        )
        self.smoothness_prior = config.smoothness.setup(ray_space=space)
        self.semantic_prior = config.semantic.setup()
        self.diffusion_prior = config.diffusion.setup()
        self.rendered_diffusion = RenderedDiffusion(self.diffusion_prior)
        self.suite = MetricSuite(config.evaluation, device)
        cameras = self.datamanager.train_dataset.cameras
        focus = scene_focus(cameras, self.model.geometry)
        self.model.set_scene(ray_bounds(cameras, self.model.geometry), focus, scene_radius(cameras, focus))
        if test_mode == "val":
            self._prepare_training()
        dataset = self.datamanager.train_dataset
        self.sphere = sphere_controls(dataset, config.semantic.views, self.model.focus_point)
        render = partial(render_as_evaluated, self.model)
        self.unseen_views = UnseenViewControls(self.semantic_prior, dataset, render, self.device)

    def _prepare_training(self) -> None:
        if self.config.run_dir is not None and self.local_rank == 0:
            manager = self.datamanager
            test = manager.dataparser.get_dataparser_outputs(split="test")
            store_scene(self.config.run_dir, {"train": manager.train_dataparser_outputs, "test": test})
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.config.initial_weights is not None:
            self.model.start_from(self.config.initial_weights)
        depth = self.config.depth
        validate_dataset(self.datamanager.train_dataset)
        validate_dataset(self.datamanager.eval_dataset)
        self.depth_prior.provide_maps(self.datamanager.train_dataset)
        if self.depth_prior.measures or self.model.samples_by_depth:
            self.datamanager.use_metric_depth()
        normals = get_fewshot_metadata(self.datamanager.train_dataset.metadata).normal_filenames
        if self.model.normals_used == "yes" or (self.model.normals_used == "where any" and normals is not None):
            self.datamanager.use_normals()
        if self.depth_prior.ranks:
            options = QuadSamplerOptions(
                box_fraction=self.depth_prior.box_fraction,
                box_pixels=self.depth_prior.box_pixels,
                neighbour_fraction=depth.neighbour_fraction,
                allow_self=depth.allow_self_neighbour,
                tie=depth.tie,
            )
            quads = self.depth_prior.num_quads(self.datamanager.num_rays)
            self.datamanager.use_quads(quads, options, depth.single_image, depth.protocol_boxes)
        if self.smoothness_prior.active:
            smooth = self.config.smoothness
            self.datamanager.use_unseen_patches(
                smooth.num_patches, smooth.patch_size, smooth.num_poses, smooth.training_cameras_only
            )
        self.suite.set_metrics.prepare()
        self.semantic_prior.prepare(self.datamanager.train_dataset, self.device)
        self.rendered_diffusion.prepare(self.datamanager.train_dataset, self.device)
        CONSOLE.print("Resolved from the scene:", self.resolved())

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided where a field was None, and that it has by its geometry, for log and record."""
        manager = self.datamanager
        batch = {"rays": manager.num_rays, "quads": manager.num_quads, "patches": manager.num_patches}
        return {
            "model": self.model.resolved(),
            "batch": batch,
            "depth": self.depth_prior.resolved(),
            "smoothness": self.smoothness_prior.resolved(),
            "semantic": self.semantic_prior.resolved(),
            "diffusion": self.rendered_diffusion.resolved(),
        }

    def get_train_loss_dict(self, step: int) -> tuple[Dict[str, Tensor], Dict[str, Tensor], Dict[str, Tensor]]:
        """One training step's outputs, loss terms and metrics.

        Raises:
            NonFiniteLossError: where a term is not finite, before anything was learnt from it.
        """
        ray_bundle, batch = self.datamanager.next_train(step)
        outputs, unseen = split_outputs(self._model(ray_bundle), batch["num_unseen"])
        metrics_dict = self.model.get_metrics_dict(outputs, batch)
        loss_dict = self.model.get_loss_dict(outputs, batch, metrics_dict)
        interval = self.model.geometry.far - self.model.geometry.near
        gaps = batch["quad_gaps"]
        views = batch["indices"][: 4 * len(gaps) : 4, 0].to(gaps.device)
        loss_dict.update(self.depth_prior.loss_dict(outputs[DISTANCE_MEAN], gaps, interval, step, views))
        measured = (batch.get(key) for key in (DEPTH_KEY, DEPTH_SIGMA_KEY, DEPTH_SLOPE_KEY))
        loss_dict.update(self.depth_prior.metric_loss_dict(outputs, *measured, step=step))
        loss_dict.update(self.smoothness_prior.loss_dict(unseen, step))
        loss_dict.update(self.semantic_prior.loss_dict(self.unseen_renderer(), step))
        whole = UnseenRenderer(self.model, self.config.diffusion.chunk_rays)
        loss_dict.update(self.rendered_diffusion.loss_dict(whole, step))
        check_losses(loss_dict, step)
        return outputs, loss_dict, metrics_dict

    def unseen_renderer(self) -> UnseenRenderer:
        """Renders unseen views as the semantic prior's config says."""
        options = self.config.semantic
        random = None if options.stratified else False
        return UnseenRenderer(self.model, options.chunk_rays, random, options.fine_weight <= 0)

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[Dict[str, Any], Dict[str, Tensor]]:
        """Metrics and pictures of one test view."""
        self.eval()
        camera, batch = self.datamanager.next_eval_image(step)
        outputs = self.model.get_outputs_for_camera(camera)
        _, images = self.model.get_image_metrics_and_images(outputs, batch)
        metrics = {name: value for name, value in self._measure(outputs, batch).items() if value is not None}
        metrics["num_rays"] = int((camera.height * camera.width * camera.size).item())
        self.train()
        return metrics, images

    def get_average_image_metrics(
        self,
        data_loader: Any,
        image_prefix: str,
        step: Optional[int] = None,
        output_path: Optional[Path] = None,
        get_std: bool = False,
    ) -> Dict[str, Any]:
        """Evaluates every view of the loader, writes one row per image to `<run>/eval/step-N.jsonl`, averages them.

        Returns:
            mean per metric (and `<metric>_std`); a metric without weights is None, and left out while training.
        """
        self.eval()
        self.suite.set_metrics.prepare()
        evaluator = ViewEvaluator(self.suite, self.device, self._step_number(step))
        if output_path is not None:
            evaluator.pictures = NerfstudioPictures(self.model.get_image_metrics_and_images, output_path, image_prefix)
        views = loader_views(data_loader, self.datamanager.eval_dataset)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=CONSOLE, transient=True) as progress:
            task = progress.add_task("[green]Evaluating all images...", total=len(data_loader))
            evaluator.on_row = lambda row: progress.advance(task)
            rows = evaluator.evaluate(EvaluatedScene(self.model.get_outputs_for_camera, views))
        self.train()
        if self.config.run_dir is not None:
            write_rows(ledger_path(self.config.run_dir, self._step_number(step)), rows)
        # TensorBoard, which gets the averages while training, cannot take a metric that is not there.
        return flatten(evaluator.summarize(rows), with_std=get_std, keep_missing=step is None)

    def load_pipeline(self, loaded_state: Dict[str, Any], step: int) -> None:
        """Loads a checkpoint; every key has to fit."""
        state = {key.removeprefix("module."): value for key, value in loaded_state.items()}
        self.model.update_to_step(step)
        load_strictly(self, state, origin=f"step {step}")
        self.loaded_step = step

    def _step_number(self, step: Optional[int]) -> int:
        known = step if step is not None else self.loaded_step
        return 0 if known is None else known

    def _measure(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Optional[float]]:
        return measure_view(self.suite, outputs, ViewData.from_batch(batch))


def split_outputs(outputs: Dict[str, Tensor], num_unseen: int) -> tuple[Dict[str, Tensor], Dict[str, Tensor]]:
    """Training outputs (R, ...) of the photos' rays, and of the `num_unseen` rays of unseen views after them."""
    if num_unseen == 0:
        return outputs, {}
    seen = {name: value[:-num_unseen] for name, value in outputs.items()}
    return seen, {name: value[-num_unseen:] for name, value in outputs.items()}
