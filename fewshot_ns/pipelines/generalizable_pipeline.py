"""The pipeline of models that are trained on many scenes and conditioned on source views of the one they render."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Type

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.cuda.amp.grad_scaler import GradScaler

from fewshot_ns.cameras.turntable import CAMERA_KEY, camera_record
from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager, MultiSceneDataManagerConfig
from fewshot_ns.data.dataparsers.automatic import recognition_record
from fewshot_ns.data.multiscene.active import ActiveScene
from fewshot_ns.data.records.scene import SceneError
from fewshot_ns.evaluation.records.ledger import Ledger
from fewshot_ns.evaluation.runners.scene_files import SceneFileCheck
from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig, SceneEvaluator
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.models.conditioned_model import ConditionedModel
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipeline, FewShotPipelineConfig
from fewshot_ns.presentation.view_pictures import scene_pictures, source_panel
from fewshot_ns.priors.base import PriorScene
from fewshot_ns.utils.allocator import keep_freed_memory
from fewshot_ns.viewer.scene_controls import SceneControls

_ATTEMPTS = 16
"""Views that are tried for an image while training, where bad scenes are skipped."""


@dataclass
class GeneralizablePipelineConfig(FewShotPipelineConfig):
    """Many scenes, their source views, and how they are evaluated."""

    _target: Type = field(default_factory=lambda: GeneralizablePipeline)
    """Class that the config builds."""
    datamanager: DataManagerConfig = field(default_factory=MultiSceneDataManagerConfig)
    """Data: scenes, source views, rays."""
    scene_evaluation: SceneEvaluationConfig = field(default_factory=SceneEvaluationConfig)
    """Which scenes and views are evaluated."""


class GeneralizablePipeline(FewShotPipeline):
    """The package's pipeline for a `ConditionedModel`, which is conditioned on source views before every forward.

    In training these are those of the batch. For a camera (evaluation, viewer, nerfstudio's commands) the model asks
    the datamanager's `SourceProvider` for those of the active scene; in every test mode, and without a dataset.

    Args:
        config: the pipeline's config.
        device: of the model.
        test_mode: as nerfstudio's.
        world_size: number of processes.
        local_rank: rank of this one on its machine.
        grad_scaler: the trainer's.

    Raises:
        ValueError: a prior is on that knows one scene only.
        SceneError: the active scene cannot be used.
    """

    config: GeneralizablePipelineConfig
    datamanager: MultiSceneDataManager  # type: ignore[assignment]
    model: ConditionedModel  # type: ignore[assignment]
    # Batch statistics would be copied between ranks after the encoder has used them.
    shares_buffers = False

    def __init__(
        self,
        config: GeneralizablePipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: Optional[GradScaler] = None,
    ) -> None:
        super().__init__(config, device, test_mode, world_size, local_rank, grad_scaler)
        self._condition_on_active()
        self.scene_controls = SceneControls(self.datamanager, self.activate)

    def _prior_scene(self) -> PriorScene:
        manager = self.datamanager
        return PriorScene(
            dataset=manager.train_dataset,
            device=self.device,
            data=manager.config.dataparser.data,
            provides=self.model.provides,
            num_rays=manager.get_train_rays_per_batch(),
        )

    def _prepare_training(self) -> None:
        config, manager = self.config, self.datamanager
        if self.device.type == "cpu":
            keep_freed_memory()
        if config.run_dir is not None:
            rank = f"-rank{manager.rank}" if manager.rank else ""
            manager.bad_scenes.record_in(config.run_dir / f"bad_scenes{rank}.json")
        if config.initial_weights is not None:
            self.model.start_from(config.initial_weights)
        if config.scene_evaluation.check_files:
            self.suite.prepare_for(SceneFileCheck(manager, config.scene_evaluation).run())
        trained = manager.library.table("train")
        shown = manager.active.scene.entry.scene_id
        self._prepare_priors(len(trained), False, prior_scene_trains=shown in {entry.scene_id for entry in trained})
        CONSOLE.print("Resolved from the scenes:", self.resolved())

    def resolved(self) -> Dict[str, Any]:
        """Values that the data decided, for log and record."""
        manager = self.datamanager
        batches, scene = manager.batches, manager.active
        return {
            **recognition_record(manager.config.dataparser),
            "model": self.model.resolved(),
            "batch": {
                "scenes": 0 if batches is None else batches.order.per_step,
                "sources": list(manager.config.num_sources),
                "rays": manager.get_train_rays_per_batch(),
            },
            "scenes": {
                "train": 0 if batches is None else len(batches.entries),
                "evaluated": len(manager.eval_table()),
                "active": scene.scene.entry.scene_id,
                "sources": "nearest" if scene.sources is None else list(scene.sources),
            },
            CAMERA_KEY: {
                **camera_record(scene.scene.cameras, scene.scene.near, scene.scene.far),
                "background": scene.scene.background,
            },
            **self.priors.resolved(),
        }

    def _condition_on_active(self) -> None:
        self.model.condition_on(self.datamanager.provider.camera(0), again=True)

    def render_scene(self, active: ActiveScene) -> None:
        """From now on cameras are of this scene, seen from its source views; the datasets stay those of the scene
        before. Says at once where the source views cannot be read.

        Raises:
            SceneError: a source view cannot be read; nothing has changed then.
        """
        provider = self.datamanager.provider
        before, provider.active = provider.active, active
        try:
            self._condition_on_active()
        except SceneError:
            provider.active = before
            raise

    def activate(self, active: ActiveScene) -> None:
        """Makes a scene the active one, with its datasets.

        Raises:
            SceneError: a source view cannot be read, or there is nothing to evaluate; nothing has changed then.
        """
        before = self.datamanager.active
        self.render_scene(active)
        try:
            self.datamanager.activate(active)
        except SceneError:
            self.render_scene(before)
            raise

    def load_pipeline(self, loaded_state: Dict[str, Any], step: int) -> None:
        """Loads a checkpoint, of which every key has to fit, and conditions the model on the active scene."""
        super().load_pipeline(loaded_state, step)
        self._condition_on_active()

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> List[TrainingCallback]:
        """Those of nerfstudio, and a report of bad scenes at the end."""
        # The trainer asks after it has loaded checkpoints, so here it is known whether the run starts from scratch.
        if self.loaded_step is None and self.config.initial_weights is None:
            self.model.load_encoder_weights()
        report = TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], lambda step: self._report())
        return [*super().get_training_callbacks(training_callback_attributes), report]

    def _report(self) -> None:
        self.datamanager.bad_scenes.report()

    def get_train_loss_dict(self, step: int) -> tuple[Rendering, Dict[str, Tensor], Dict[str, Tensor]]:
        """One training step's outputs, loss terms and metrics.

        Raises:
            NonFiniteLossError: where a term is not finite, before the step changes a weight.
            SceneError: a scene cannot be used, and such scenes end the run.
        """
        ray_bundle, batch = self.datamanager.next_train(step)
        self.model.condition(batch["conditioning"])
        return self._train_step(step, ray_bundle, batch, {})

    @torch.no_grad()
    def get_eval_loss_dict(self, step: int) -> tuple[Rendering, Dict[str, Tensor], Dict[str, Tensor]]:
        """The same of a batch of scenes that are evaluated, without priors."""
        self.eval()
        ray_bundle, batch = self.datamanager.next_eval(step)
        self.model.condition(batch["conditioning"])
        rendering, _ = self.model(ray_bundle, (self.datamanager.eval_dataset.cameras, batch["indices"]))
        rendering = replace(rendering, rgb=rendering.rgb.clamp(0.0, 1.0))
        metrics_dict = self.model.get_metrics_dict(rendering, batch)
        loss_dict = self.model.get_loss_dict(rendering, batch, metrics_dict)
        self.train()
        return rendering, loss_dict, metrics_dict

    def render(self, active: ActiveScene, camera: Cameras) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a camera of any scene."""
        with self.datamanager.provider.activated(active):
            return self.model.get_outputs_for_camera(camera)

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[Dict[str, Any], Dict[str, Tensor]]:
        """Metrics of one view of a scene that is evaluated, and its panel.

        Raises:
            SceneError: the scene cannot be used, and such scenes end the run.
        """
        self.eval()
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    return self._eval_image(step + attempt)
                except SceneError as error:
                    self.datamanager.note_bad_view(step + attempt, error)
            return {"num_rays": 0}, {}
        finally:
            self.train()

    def _eval_image(self, step: int) -> tuple[Dict[str, Any], Dict[str, Tensor]]:
        manager = self.datamanager
        camera, batch = manager.next_eval_image(step)
        active: ActiveScene = batch["active"]
        scene = active.scene
        outputs = self.render(active, camera)
        sources = manager.selector.sources_for(active, scene.cameras.camera_to_worlds[batch["view"]])
        images = [manager.library.images.image(scene, view) for view in sources]
        panel = source_panel(images, batch["image"], outputs, scene.near, scene.far)
        metrics = {name: value for name, value in self._measure(outputs, batch).items() if value is not None}
        metrics["num_rays"] = int((camera.height * camera.width).item())
        return metrics, {"panel": panel}

    def get_average_eval_image_metrics(
        self, step: Optional[int] = None, output_path: Optional[Path] = None, get_std: bool = False
    ) -> Dict[str, Any]:
        """Evaluates the scenes: one as every method does, several by `SceneEvaluator`.

        Returns:
            mean per metric over scenes (and `<metric>_std`), of each scene the mean over its views.
        """
        table = self.datamanager.eval_table(self.config.scene_evaluation.test_while_training)
        if len(table) == 1 and table[0].scene_id == self.datamanager.active.scene.entry.scene_id:
            return super().get_average_eval_image_metrics(step, output_path, get_std)
        evaluator = SceneEvaluator(
            self, self.suite, self.config.scene_evaluation, self._step_number(step), scene_pictures(output_path)
        )
        # Every rank of a distributed run gets here; one writes.
        run_dir = self.config.run_dir if self.datamanager.rank == 0 else None
        folder = None if run_dir is None else run_dir / "eval"
        ledger = None if folder is None else Ledger(folder / f"scenes-step-{self._step_number(step):09d}.json")
        return evaluator.evaluate(ledger, keep_missing=step is None, with_std=get_std)
