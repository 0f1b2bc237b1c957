"""The pipeline of one scene: nerfstudio's training step with prior losses, and evaluation with one row per image."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Tuple, Type

import torch
import torch.distributed as dist
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils import comms
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.cuda.amp.grad_scaler import GradScaler
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel
from tyro.conf import Suppress

from fewshot_ns.data.datamanagers.fewshot import (
    FewShotDataManager,
    FewShotDataManagerConfig,
    with_stored_scene_if_missing,
)
from fewshot_ns.data.datamanagers.own_parsers import settle_dataparser
from fewshot_ns.data.dataparsers.automatic import recognition_record
from fewshot_ns.data.dataparsers.single.stored import store_scene
from fewshot_ns.data.datasets.fewshot_dataset import depth_maps_record
from fewshot_ns.data.samplers.pixels import PixelRequest
from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.engine.checks import check_losses
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.initial_points import INITIAL_POINTS_KEY, read_initial_points
from fewshot_ns.evaluation.records.ledger import flatten, ledger_path, write_rows
from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator, measure_view
from fewshot_ns.evaluation.runners.views import ViewData, loader_views
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.models.fewshot_model import FewShotModel, FewShotModelConfig
from fewshot_ns.pipelines.initial_points import (
    InitialPointsConfig,
    ModelWithPoints,
    make_initial_points,
    timed,
    wants_initial_points,
)
from fewshot_ns.pipelines.suited_scenes import suit_scene_to_backbone
from fewshot_ns.pipelines.validation import ValidationViews
from fewshot_ns.presentation.ffmpeg import ensure_ffmpeg_on_path
from fewshot_ns.presentation.view_pictures import NerfstudioPictures
from fewshot_ns.priors.base import PriorScene, PriorSet, StepContext
from fewshot_ns.priors.consistency import ConsistencyPriorConfig
from fewshot_ns.priors.depth.prior import DepthPriorConfig
from fewshot_ns.priors.diffusion.prior import DiffusionPriorConfig
from fewshot_ns.priors.distortion import DistortionPriorConfig
from fewshot_ns.priors.edge_smoothness import EdgeSmoothnessPriorConfig
from fewshot_ns.priors.normals import NormalsPriorConfig
from fewshot_ns.priors.occlusion import OcclusionPriorConfig
from fewshot_ns.priors.plane_smoothness import PlaneSmoothnessPriorConfig
from fewshot_ns.priors.semantic import SemanticPriorConfig
from fewshot_ns.priors.silhouette import SilhouettePriorConfig
from fewshot_ns.priors.smoothness import SmoothnessPriorConfig
from fewshot_ns.utils.allocator import keep_freed_memory
from fewshot_ns.utils.checkpoints import load_strictly, model_state
from fewshot_ns.utils.configs import SavedConfig
from fewshot_ns.utils.ranks import shared_seed, state_of_first

NOTHING_HELD_OUT = (
    "Nothing is held out: every view trains, so there is nothing to measure on. Figures of this run's training views: "
    "`ns-fewshot eval --load-config CONFIG --split train`. To have them while training, and by ns-eval "
    "too, give --pipeline.evaluation.split train to ns-train, which alone has that flag."
)
EVALUATED_KEY = "evaluated_views"
"""Key of averages that are not of held-out views: 'train', or 'none'."""
TRAINING_POSES_KEY = "training_poses"
"""What a run's `resolved.json` calls the record of refined poses."""
_MODEL_TERMS = (
    "occlusion_weight",
    "occlusion_samples",
    "occlusion_background_samples",
    "distortion_weight",
    "plane_smoothness_weight",
    "normal_weight",
    "normal_loss",
    "orientation_weight",
)
"""Fields that models had before these terms were priors."""


@dataclass
class FewShotPipelineConfig(SavedConfig, VanillaPipelineConfig):
    """One scene, a few views, and the priors that take the place of the missing ones."""

    _target: Type = field(default_factory=lambda: FewShotPipeline)
    """Class that the config builds."""
    datamanager: DataManagerConfig = field(default_factory=FewShotDataManagerConfig)
    """Data: the few training views and how rays are drawn from them."""
    model: ModelConfig = field(default_factory=FewShotModelConfig)
    """Backbone."""
    occlusion: OcclusionPriorConfig = field(default_factory=OcclusionPriorConfig)
    """Occlusion prior: nothing stands right before the cameras."""
    distortion: DistortionPriorConfig = field(default_factory=DistortionPriorConfig)
    """Distortion prior: the weights of a ray lie close together."""
    normals: NormalsPriorConfig = field(default_factory=NormalsPriorConfig)
    """Normals prior: surfaces face as measured, and never away from the camera."""
    plane_smoothness: PlaneSmoothnessPriorConfig = field(default_factory=PlaneSmoothnessPriorConfig)
    """Plane smoothness prior: neighbouring texels of feature planes are alike."""
    depth: DepthPriorConfig = field(default_factory=DepthPriorConfig)
    """Depth prior: ranking and continuity, or bounds by measured depth, from depth maps of the training views."""
    smoothness: SmoothnessPriorConfig = field(default_factory=SmoothnessPriorConfig)
    """Smoothness prior: rendered depth is smooth on patches of unseen views."""
    semantic: SemanticPriorConfig = field(default_factory=SemanticPriorConfig)
    """Semantic prior: an image encoder gives unseen views embeddings like the photos'."""
    diffusion: DiffusionPriorConfig = field(default_factory=DiffusionPriorConfig)
    """Diffusion prior: a text-to-image model finds the target view likely."""
    consistency: ConsistencyPriorConfig = field(default_factory=ConsistencyPriorConfig)
    """Consistency prior: points of unseen views have the colours that the photos show there."""
    edge_smoothness: EdgeSmoothnessPriorConfig = field(default_factory=EdgeSmoothnessPriorConfig)
    """Edge smoothness prior: rendered depth of a photo is smooth where the photo is."""
    silhouette: SilhouettePriorConfig = field(default_factory=SilhouettePriorConfig)
    """Silhouette prior: where photos have alpha, rendered opacity is that alpha."""
    initial_points: InitialPointsConfig = field(default_factory=InitialPointsConfig)
    """Points that backbones of Gaussians start from; others have none."""
    initial_weights: Optional[Path] = None
    """Checkpoint whose weights training starts from, with optimizers and steps of its own: of this method, or for
    DietNeRF's model a released one (.tar, or checkpoint_N of the JAX version)."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Which metrics are computed and where their weights are."""
    run_dir: Suppress[Optional[Path]] = None
    """Folder of the run, set by the trainer's config; per-image rows are written there."""
    resumed_run: Suppress[Optional[Path]] = None
    """Folder of the run that is resumed, set by the trainer's config: its checkpoint has what points were for."""

    @classmethod
    def upgrade(cls, state: Dict[str, Any], outdated: Dict[str, Any]) -> None:
        """Terms that were options of the model are priors today, on where they had a weight."""
        old = {name: outdated.pop(f"model.{name}") for name in _MODEL_TERMS if f"model.{name}" in outdated}
        if old.get("occlusion_weight", 0.0) > 0:
            values = {"weight": old["occlusion_weight"], "num_samples": old.get("occlusion_samples")}
            # The compact model had no term on background colours.
            values["background_samples"] = old.get("occlusion_background_samples", 0)
            state["occlusion"] = OcclusionPriorConfig(enabled=True, **values)
        if old.get("distortion_weight", 0.0) > 0:
            state["distortion"] = DistortionPriorConfig(enabled=True, weight=old["distortion_weight"], normalised=False)
        planes = getattr(state.get("model"), "field_type", None) == "triplane"
        if planes and old.get("plane_smoothness_weight", 0.0) > 0:
            weight = old["plane_smoothness_weight"]
            state["plane_smoothness"] = PlaneSmoothnessPriorConfig(enabled=True, weight=weight)
        normal, orientation = old.get("normal_weight", 0.0), old.get("orientation_weight", 0.0)
        if normal > 0 or orientation > 0:
            values = {"weight": normal, "loss": old.get("normal_loss", "alignment"), "orientation_weight": orientation}
            state["normals"] = NormalsPriorConfig(enabled=True, **values)


class FewShotPipeline(VanillaPipeline):
    """nerfstudio's pipeline with prior losses, one row per evaluated view and strict loading."""

    config: FewShotPipelineConfig
    datamanager: FewShotDataManager
    model: FewShotModel
    shares_buffers: bool = True
    """Whether all processes of a training take the buffers of the first one before each step."""

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
            # A copy: nerfstudio's `ns-render dataset` reads photos by the config that it handed in.
            manager = with_stored_scene_if_missing(config.datamanager, config.run_dir)
            config = config if manager is config.datamanager else replace(config, datamanager=manager)
        settle_dataparser(config.datamanager)
        suit_scene_to_backbone(config)
        measures_training_views = config.evaluation.split == "train"
        if isinstance(config.datamanager, FewShotDataManagerConfig):
            config.datamanager.evaluate_training_views = measures_training_views
        elif measures_training_views:
            raise ValueError(
                "--pipeline.evaluation.split train: expected a method that trains on one scene, found a generalizable "
                "one, whose source views are measured by ns-fewshot eval --split train"
            )
        self.points_record: Optional[Dict[str, Any]] = None
        as_built = config
        if wants_initial_points(config.model):
            # nerfstudio's constructor builds data and model, and gives a model no more than it knows of.
            with_points: Any = ModelWithPoints(config.model, self._initial_points)
            as_built = replace(config, model=with_points)
        # nerfstudio would wrap the model before all is known of it, and for GPUs alone.
        super().__init__(as_built, device, test_mode, 1, local_rank, grad_scaler)
        self.config = config
        self.local_rank = local_rank
        self.loaded_step: Optional[int] = None
        self.priors = PriorSet(config, self._prior_scene())
        self.suite = MetricSuite(config.evaluation, device)
        self.model.set_scene(self.datamanager.train_dataset.cameras)
        if test_mode == "val":
            self._prepare_training()
            if not self.evaluates:
                CONSOLE.print(f"[yellow]{NOTHING_HELD_OUT}[/yellow]", soft_wrap=True)
        for prior in self.priors.all.values():
            for name, controls in prior.viewer_controls(self.model.render_as_evaluated).items():
                if hasattr(self, name):
                    raise ValueError(
                        f"{prior.flag}: its viewer controls are called {name!r}, as something else here is"
                    )
                setattr(self, name, controls)
        self.world_size = world_size
        if world_size > 1:
            self._distribute()

    def _distribute(self) -> None:
        """Has the processes of a training average their gradients; all begin with the weights of the first."""
        on_cuda = self.device.type == "cuda"
        if self.model.replaces_parameters:
            # The wrapper knows the parameters that there are now.
            state = state_of_first(self.model)
            self.model.resize_for(state)
            self.model.load_state_dict(state)
            return
        self._model = DistributedDataParallel(  # type: ignore[assignment]
            self._model,
            device_ids=[self.local_rank] if on_cuda else None,
            find_unused_parameters=True,
            broadcast_buffers=self.shares_buffers,
        )
        dist.barrier(device_ids=[self.local_rank] if on_cuda else None)

    def _initial_points(self) -> Optional[SeedCloud]:
        """What the model starts from; None where a checkpoint will be loaded."""
        if self.test_mode != "val":
            return None
        if self.config.resumed_run is not None:
            self.points_record = read_initial_points(self.config.resumed_run)
            return None
        weights = self.config.initial_weights
        if weights is not None:
            # The primitives and their origin are those of the checkpoint, `<run>/nerfstudio_models/*.ckpt`.
            unknown = {"source": f"unknown: the primitives of {weights.name}, beside which no record lies"}
            self.points_record = read_initial_points(weights.absolute().parent.parent) or unknown
            return None
        config, manager = self.config.initial_points, self.datamanager
        dataset, scene = manager.train_dataset, manager.config.dataparser.data
        # Of the wrapper that nerfstudio's constructor is given.
        model: Any = self.config.model
        model.config._target.check_cameras(dataset.cameras)

        def make() -> SeedCloud:
            return make_initial_points(config, dataset, scene, "--pipeline.initial-points", shared_seed())

        cloud, self.points_record = timed(make)
        return cloud

    @property
    def evaluates(self) -> bool:
        """Whether there is anything to measure on: held-out views, or training ones where these are meant."""
        return self._measures_training_views or self.datamanager.holds_out

    @property
    def _measures_training_views(self) -> bool:
        return self.config.evaluation.split == "train"

    def _prior_scene(self) -> PriorScene:
        manager = self.datamanager
        return PriorScene(
            dataset=manager.train_dataset,
            device=self.device,
            data=manager.config.dataparser.data,
            provides=self.model.provides,
            num_rays=manager.num_rays,
            single_image_batches=manager.single_image_batches,
            whole_images=manager.config.whole_images,
        )

    def _prepare_training(self) -> None:
        manager = self.datamanager
        if self.config.run_dir is not None and self.local_rank == 0:
            test = manager.dataparser.get_dataparser_outputs(split="test")
            store_scene(self.config.run_dir, {"train": manager.train_dataparser_outputs, "test": test})
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.config.initial_weights is not None:
            self.model.start_from(self.config.initial_weights)
        self.suite.prepare_for(manager.check_files())
        self.model.prepare_training(manager.train_dataset)
        self._prepare_priors(num_scenes=1, takes_requests=True)
        manager.use_labels(self.priors.labels() | self.model.labels)
        CONSOLE.print("Resolved from the scene:", self.resolved())

    def _prepare_priors(self, num_scenes: int, takes_requests: bool, prior_scene_trains: bool = True) -> None:
        self.priors.check(self.model.why_not, num_scenes, takes_requests, prior_scene_trains)
        self.model.serve(self.priors.served())
        self.suite.set_metrics.prepare()
        self.priors.prepare()

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """Parameters by the names of their optimizers, those of the poses included where they are refined."""
        return {**super().get_param_groups(), **self.model.pose_groups()}

    def training_poses(self) -> Dict[str, Any]:
        """How the poses of the training photos are refined, and by how much they have moved; empty where they stay."""
        if not self.model.refines_poses:
            return {}
        changes = {name: float(value) for name, value in self.model.pose_changes().items()}
        return {TRAINING_POSES_KEY: {"mode": self.model.config.camera_optimizer.mode, **changes}}

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided where a field was None, and that it has by its geometry, for log and record."""
        batch = {"rays": self.datamanager.num_rays}
        points = {} if self.points_record is None else {INITIAL_POINTS_KEY: self.points_record}
        scene = recognition_record(self.datamanager.config.dataparser)
        left_out = self._left_out()
        held_out = {} if self.datamanager.holds_out else {"held_out": "nothing: every view trains"}
        return {
            **scene,
            "model": self.model.resolved(),
            "batch": batch,
            **depth_maps_record(self.datamanager.train_dataset),
            **held_out,
            **left_out,
            **points,
            **self.priors.resolved(),
            **self.training_poses(),
        }

    def _left_out(self) -> Dict[str, Any]:
        """What the scene's files list and was skipped, by what it is, and held-out photos that are copies of ones that
        train; empty where there are none."""
        record = self.datamanager.train_dataset.fewshot
        skipped, equal = dict(record.left_out), {held_out: trains for held_out, trains in record.equal_photos}
        return {**({"left_out": skipped} if skipped else {}), **({"equal_photos": equal} if equal else {})}

    def get_train_loss_dict(self, step: int) -> tuple[Rendering, Dict[str, Tensor], Dict[str, Tensor]]:  # type: ignore[override]
        """What one training step renders, its loss terms and metrics.

        Raises:
            NonFiniteLossError: where a term is not finite, before the step changes a weight.
        """
        pixels = self.priors.requests(step, "pixels")
        ray_bundle, batch = self.datamanager.next_train(step, list(pixels.values()))
        return self._train_step(step, ray_bundle, batch, pixels)

    def _train_step(
        self, step: int, ray_bundle: RayBundle, batch: Dict[str, Any], pixels: Dict[str, PixelRequest]
    ) -> tuple[Rendering, Dict[str, Tensor], Dict[str, Tensor]]:
        """One forward of the batch and of the views that priors request, and the terms of model and priors.

        Args:
            step: current step.
            ray_bundle: (R,) rays of the training pixels.
            batch: of these pixels, which begin with those that priors requested.
            pixels: requested pixels, by the names of the priors.
        """
        views = self.priors.requests(step, "cameras")
        seen = self.datamanager.train_dataset.cameras, batch["indices"]
        photos, unseen = self._model(ray_bundle, seen, tuple(views.values()))
        metrics_dict = self.model.get_metrics_dict(photos, batch)
        metrics_dict |= self.model.pose_changes()
        loss_dict = {**self.model.get_loss_dict(photos, batch, metrics_dict), **self.model.pose_terms()}
        requested = {**_beginnings(photos, pixels), **dict(zip(views, unseen, strict=True))}

        def context(name: str) -> StepContext:
            return StepContext(photos, requested.get(name), batch, self.model.render_cameras, self.model)

        loss_dict = self.priors.add_losses(loss_dict, step, context)
        check_losses(loss_dict, step)
        return photos, loss_dict, metrics_dict

    @torch.no_grad()
    def get_eval_loss_dict(self, step: int) -> tuple[Rendering, Dict[str, Tensor], Dict[str, Tensor]]:  # type: ignore[override]
        """The same of a batch of test pixels, without priors."""
        self.eval()
        ray_bundle, batch = self.datamanager.next_eval(step)
        seen = self.datamanager.eval_dataset.cameras, batch["indices"]
        rendering, _ = self.model(ray_bundle, seen)
        rendering = replace(rendering, rgb=rendering.rgb.clamp(0.0, 1.0))
        metrics_dict = self.model.get_metrics_dict(rendering, batch)
        loss_dict = self.model.get_loss_dict(rendering, batch, metrics_dict)
        self.train()
        return rendering, loss_dict, metrics_dict

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[Dict[str, Any], Dict[str, Tensor]]:
        """Metrics and images of one test view."""
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
        if not self.evaluates:
            CONSOLE.print(f"[yellow]{NOTHING_HELD_OUT}[/yellow]", soft_wrap=True)
            return {**dict.fromkeys(self.suite.config.metrics), EVALUATED_KEY: "none"}
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
        # Every rank of a distributed run gets here; one writes.
        if self.config.run_dir is not None and comms.is_main_process():
            path = ledger_path(self.config.run_dir, self._step_number(step), self._measures_training_views)
            write_rows(path, rows)
        # TensorBoard, which gets the averages while training, cannot take a metric that is not there.
        split = {EVALUATED_KEY: "train"} if self._measures_training_views and step is None else {}
        return {**flatten(evaluator.summarize(rows), with_std=get_std, keep_missing=step is None), **split}

    def validation(self, metric: str, views: Optional[Tuple[int, ...]]) -> ValidationViews:
        """Validation views by which the trainer keeps the best checkpoint, see `ValidationViews`."""
        return ValidationViews(self, metric, views)

    def load_pipeline(self, loaded_state: Dict[str, Any], step: int) -> None:
        """Loads a checkpoint; every key has to fit."""
        state = {key.removeprefix("module."): value for key, value in loaded_state.items()}
        self.model.update_to_step(step)
        self.model.make_room_for(model_state(state))
        load_strictly(self, state, origin=f"step {step}")
        self.loaded_step = step

    def _step_number(self, step: Optional[int]) -> int:
        number = step if step is not None else self.loaded_step
        return 0 if number is None else number

    def _measure(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Optional[float]]:
        return measure_view(self.suite, outputs, ViewData.from_batch(batch))


def _beginnings(photos: Rendering, requests: Dict[str, PixelRequest]) -> Dict[str, Rendering]:
    """Renderings of the requested pixels, with which the batch begins, by the names of the priors."""
    beginnings, start = {}, 0
    for name, request in requests.items():
        beginnings[name] = photos[start : start + len(request.pixels)]
        start += len(request.pixels)
    return beginnings
