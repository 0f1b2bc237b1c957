"""Where a model that was trained on many scenes is shown the source views of the one it is asked for."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Literal, Optional, Tuple, Type

import torch
import torch.distributed as dist
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.cuda.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager, MultiSceneDataManagerConfig
from fewshot_ns.data.multiscene.active import ShownScene
from fewshot_ns.data.records.scene import SceneError
from fewshot_ns.engine.checks import check_losses
from fewshot_ns.evaluation.records.ledger import Ledger
from fewshot_ns.evaluation.runners.scenes import SceneEvaluationConfig, SceneEvaluator
from fewshot_ns.models.conditioned_model import ConditionedModel
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipeline, FewShotPipelineConfig
from fewshot_ns.presentation.panels import source_panel
from fewshot_ns.presentation.view_pictures import scene_pictures
from fewshot_ns.utils.allocator import keep_freed_memory
from fewshot_ns.viewer.scene_controls import SceneControls

_ATTEMPTS = 16
"""Views that are tried for a picture while training, where bad scenes are skipped."""


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
    """The package's pipeline for a `ConditionedModel`: before every forward the model is shown source views.

    In training these are those of the batch. Whoever renders a camera (evaluation, viewer, the host's commands) gets
    the source views of the scene that is shown, at first the active one; in every test mode, and without a dataset.

    Args:
        config: see `GeneralizablePipelineConfig`.
        device: of the model.
        test_mode: as the host's.
        world_size: number of processes.
        local_rank: rank of this one on its machine.
        grad_scaler: the trainer's.

    Raises:
        ValueError: a prior is on that knows one scene only.
        SceneError: the active scene cannot be shown.
    """

    config: GeneralizablePipelineConfig
    datamanager: MultiSceneDataManager  # type: ignore[assignment]
    model: ConditionedModel  # type: ignore[assignment]

    def __init__(
        self,
        config: GeneralizablePipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: Optional[GradScaler] = None,
    ) -> None:
        for name in ("depth", "smoothness"):
            if getattr(config, name).enabled:
                raise ValueError(f"--pipeline.{name}.enabled: generalizable methods take the semantic prior alone")
        # The host would copy batch statistics between ranks after the encoder has used them.
        super().__init__(config, device, test_mode, 1, local_rank, grad_scaler)
        self.world_size = world_size
        self.shown = self.datamanager.active
        self._looked_at: Optional[Tuple[str, Tuple[int, ...]]] = None
        self.model.before_camera = self._look
        self.datamanager.before_rays = self.model.look_at
        self.show(self.shown)
        self.scene_controls = SceneControls(self.datamanager, self.switch)
        if world_size > 1:
            on_cuda = self.device.type == "cuda"
            self._model = DistributedDataParallel(  # type: ignore[assignment]
                self._model,
                device_ids=[local_rank] if on_cuda else None,
                find_unused_parameters=True,
                broadcast_buffers=False,
            )
            dist.barrier(device_ids=[local_rank] if on_cuda else None)

    def _prepare_training(self) -> None:
        config, manager = self.config, self.datamanager
        if self.device.type == "cpu":
            keep_freed_memory()
        if config.run_dir is not None:
            rank = f"-rank{manager.rank}" if manager.rank else ""
            manager.bad_scenes.record_in(config.run_dir / f"bad_scenes{rank}.json")
        if config.initial_weights is not None:
            self.model.start_from(config.initial_weights)
        if config.semantic.enabled:
            count = len(manager.library.table("train"))
            if count > 1:
                raise ValueError(
                    f"--pipeline.semantic.enabled: expected one scene to train on, found {count}; name it by "
                    "--pipeline.datamanager.scenes"
                )
            if self.model.has_latent:
                raise ValueError(
                    "--pipeline.semantic.enabled: this method predicts a latent of the view that is trained on, and "
                    "has none of unseen views; of idnerf give --pipeline.model.refinement off with it"
                )
            self.semantic_prior.prepare(manager.train_dataset, self.device)
        if config.diffusion.enabled and not self.model.has_latent:
            raise ValueError("--pipeline.diffusion.enabled: this method has no latent network")
        self.diffusion_prior.prepare(self.device)
        CONSOLE.print("Resolved from the scenes:", self.resolved())

    def resolved(self) -> Dict[str, Any]:
        """What the data decided, for log and record."""
        manager = self.datamanager
        batches, scene = manager.batches, manager.active
        return {
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
            "semantic": self.semantic_prior.resolved(),
            "diffusion": self.diffusion_prior.resolved(),
        }

    def show(self, shown: ShownScene) -> None:
        """From now on renders are of this scene, seen from its source views; says at once where they cannot be read.

        Raises:
            SceneError: a source view cannot be read.
        """
        before, self.shown, self._looked_at = self.shown, shown, None
        try:
            self._look(shown.scene.cameras[:1])
        except SceneError:
            self.shown = before
            raise

    def switch(self, shown: ShownScene) -> None:
        """Makes a scene the active one for the model, and for the host, which asks the datamanager.

        Raises:
            SceneError: a source view cannot be read, or there is nothing to evaluate; nothing has changed then.
        """
        before = self.shown
        self.show(shown)
        try:
            self.datamanager.show(shown)
        except SceneError:
            self.show(before)
            raise

    @contextmanager
    def showing(self, shown: ShownScene) -> Iterator[None]:
        """Within the block renders are of another scene."""
        before, self.shown = self.shown, shown
        try:
            yield
        finally:
            self.shown = before

    @torch.no_grad()
    def _look(self, camera: Cameras) -> None:
        """Shows the model the source views of a camera, if it does not look at them already."""
        shown = self.shown
        sources = self.datamanager.chooser.sources_for(shown, camera.camera_to_worlds.reshape(-1, 3, 4)[0].cpu())
        key = (shown.scene.entry.scene_id, sources)
        if key == self._looked_at:
            return
        self._looked_at = None
        training = self.model.training
        # Encoders have batch statistics of their own in training.
        self.model.eval()
        try:
            self.model.condition(self.datamanager.chooser.conditioning(shown, sources))
        finally:
            self.model.train(training)
        self._looked_at = key

    def load_pipeline(self, loaded_state: Dict[str, Any], step: int) -> None:
        """Loads a checkpoint, of which every key has to fit, and shows it the active scene."""
        super().load_pipeline(loaded_state, step)
        self.show(self.shown)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> List[TrainingCallback]:
        """Those of the host, and a word on bad scenes at the end."""
        # The trainer asks once checkpoints are loaded: here a run knows that it starts from nothing.
        if self.loaded_step is None and self.config.initial_weights is None:
            self.model.load_encoder_weights()
        report = TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], lambda step: self._report())
        return [*super().get_training_callbacks(training_callback_attributes), report]

    def _report(self) -> None:
        self.datamanager.bad_scenes.report()

    def get_train_loss_dict(self, step: int) -> tuple[Dict[str, Tensor], Dict[str, Tensor], Dict[str, Tensor]]:
        """One training step's outputs, loss terms and metrics.

        Raises:
            NonFiniteLossError: where a term is not finite, before anything was learnt from it.
            SceneError: a scene cannot be used, and such scenes end the run.
        """
        ray_bundle, batch = self.datamanager.next_train(step)
        self._looked_at = None
        self.model.condition(batch["conditioning"])
        outputs = self._model(ray_bundle)
        metrics_dict = self.model.get_metrics_dict(outputs, batch)
        loss_dict = self.model.get_loss_dict(outputs, batch, metrics_dict)
        loss_dict.update(self.semantic_prior.loss_dict(self.unseen_renderer(), step))
        if self.diffusion_prior.active(step):
            loss_dict.update(self.diffusion_prior.loss_dict(*self.model.guided_latents(), step))
        check_losses(loss_dict, step)
        return outputs, loss_dict, metrics_dict

    @torch.no_grad()
    def get_eval_loss_dict(self, step: int) -> tuple[Dict[str, Tensor], Dict[str, Tensor], Dict[str, Tensor]]:
        """The same of a batch of scenes that are evaluated, without priors."""
        self.eval()
        ray_bundle, batch = self.datamanager.next_eval(step)
        self._looked_at = None
        self.model.condition(batch["conditioning"])
        outputs = self.model(ray_bundle)
        metrics_dict = self.model.get_metrics_dict(outputs, batch)
        loss_dict = self.model.get_loss_dict(outputs, batch, metrics_dict)
        self.train()
        return outputs, loss_dict, metrics_dict

    def render(self, shown: ShownScene, camera: Cameras) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a camera of a scene."""
        with self.showing(shown):
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
        shown: ShownScene = batch["shown"]
        outputs = self.render(shown, camera)
        sources = manager.chooser.sources_for(shown, shown.scene.cameras.camera_to_worlds[batch["view"]])
        images = [manager.library.images.image(shown.scene, view) for view in sources]
        panel = source_panel(images, batch["image"], outputs, shown.scene.near, shown.scene.far)
        metrics = {name: value for name, value in self._measure(outputs, batch).items() if value is not None}
        metrics["num_rays"] = int((camera.height * camera.width).item())
        return metrics, {"panel": panel}

    def get_average_eval_image_metrics(
        self, step: Optional[int] = None, output_path: Optional[Path] = None, get_std: bool = False
    ) -> Dict[str, Any]:
        """Evaluates the scenes: of one its views as every method does, of several see `SceneEvaluator`.

        Returns:
            mean per metric over scenes (and `<metric>_std`), of each scene the mean over its views.
        """
        table = self.datamanager.eval_table(self.config.scene_evaluation.test_while_training)
        if len(table) == 1 and table[0].scene_id == self.datamanager.active.scene.entry.scene_id:
            return super().get_average_eval_image_metrics(step, output_path, get_std)
        evaluator = SceneEvaluator(
            self, self.suite, self.config.scene_evaluation, self._step_number(step), scene_pictures(output_path)
        )
        # Every rank of a distributed run is asked; one writes.
        run_dir = self.config.run_dir if self.datamanager.rank == 0 else None
        folder = None if run_dir is None else run_dir / "eval"
        ledger = None if folder is None else Ledger(folder / f"scenes-step-{self._step_number(step):09d}.json")
        return evaluator.evaluate(ledger, keep_missing=step is None, with_std=get_std)
