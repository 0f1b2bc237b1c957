"""What every backbone shares: the two questions of the rendering contract, and outputs as nerfstudio names them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.utils import colormaps
from torch import Tensor

from fewshot_ns.cameras.ray_space import scene_focus, scene_radius
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.labels import ALPHA_KEY
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.model_components.rendering import BACKGROUND_CHANGE, Rendering, RenderOptions
from fewshot_ns.models.pose_refinement import PoseRefiningModel, PoseRefiningModelConfig
from fewshot_ns.priors.base import CameraRequest
from fewshot_ns.utils.checkpoints import load_checkpoint, load_strictly, model_state
from fewshot_ns.utils.configs import SavedConfig


@dataclass
class FewShotModelConfig(SavedConfig, PoseRefiningModelConfig):
    """Fields that every backbone shares."""

    _target: Type = field(default_factory=lambda: FewShotModel)
    """Class that the config builds."""
    enable_collider: bool = False
    """Unused: near and far come from the scene's ray geometry."""


class StepRenderings(NamedTuple):
    """What one forward of a training step gives."""

    photos: Rendering
    """(R,) the training pixels."""
    views: List[Rendering]
    """(B, H, W) pixels of each request for unseen views."""


class FewShotModel(PoseRefiningModel):
    """Base of the backbones.

    A backbone answers two questions, `render_pixels` and `render_cameras`. What it renders in a training step comes
    through `forward`, so that DistributedDataParallel sees it.
    """

    config: FewShotModelConfig
    PROVIDES: FrozenSet[str] = frozenset({"unseen_views"})
    """What every model of the class serves to priors."""
    resizes_for_checkpoints: bool = False
    """Whether the number of primitives may differ between a checkpoint and the model, which then makes room for it by
    `resize_for`; else a checkpoint of other shapes is refused."""
    replaces_parameters: bool = False
    """Whether it replaces parameters while it trains, as where the number of primitives changes. Several processes then
    average gradients before optimizers step, and it has to decide by what all of them have seen, with numbers that all
    draw alike."""
    wants_initial_points: bool = False
    """Whether it starts from points: `kwargs["initial_points"]` is then a `data.seeds.cloud.SeedCloud` in training, and
    None where a checkpoint will be loaded."""

    def populate_modules(self) -> None:
        """Takes the ray geometry of the scene."""
        super().populate_modules()
        record = get_fewshot_metadata(self.kwargs["metadata"])
        self.geometry, self.bounds_from = record.geometry, record.bounds_from
        self.ray_space_from = record.ray_space_from
        self.run_length: Optional[int] = None
        self.step = 0
        self.served: FrozenSet[str] = frozenset()

    def resolved(self) -> Dict[str, Any]:
        """Values of the fields that the scene decided, for the log."""
        bounds = {"near": self.geometry.near, "far": self.geometry.far, "bounds_from": self.bounds_from}
        decided = {} if self.ray_space_from is None else {"ray_space_from": self.ray_space_from}
        return {"ray_space": self.geometry.ray_space, **decided, **bounds}

    @property
    def provides(self) -> FrozenSet[str]:
        """What the backbone, as configured, can serve to priors: names in `priors.base.Served`."""
        return self.PROVIDES

    def why_not(self, name: str) -> Optional[str]:
        """Why the backbone does not serve something (`priors.base.Served`); None where it does."""
        if name in self.provides:
            return None
        words = {
            "samples": "samples along rays",
            "density": "densities along rays",
            "normals": "trainable normals along rays",
            "planes": "feature planes",
            "latents": "predicted latents",
            "unseen_views": "renderings of unseen views in training",
        }
        # Names are open: a prior and a backbone of a package of their own may agree on another.
        what = words.get(name, name.replace("_", " "))
        return f"{type(self).__name__} has no {what}"

    def serve(self, names: FrozenSet[str]) -> None:
        """Tells the backbone what priors need in training, so that it computes nothing costly in vain."""
        self.served = names

    @property
    def labels(self) -> FrozenSet[str]:
        """Measured values of its training pixels that the backbone takes as an input (`priors.base.Label`)."""
        return frozenset()

    def render_pixels(self, cameras: Cameras, pixels: Tensor) -> Rendering:
        """Renders single pixels.

        Args:
            cameras: (V,) any cameras.
            pixels: (R, 3) camera, row, column.

        Returns:
            (R,) pixels.
        """
        raise TypeError(f"{type(self).__name__} has to define render_pixels")

    def render_cameras(self, cameras: Cameras, options: RenderOptions = RenderOptions()) -> Rendering:  # noqa: B008
        """Renders whole images of cameras that need not exist among the training views.

        Args:
            cameras: (B,) of one size.
            options: how.

        Returns:
            (B, H, W) pixels; with gradient in training.
        """
        raise TypeError(f"{type(self).__name__} has to define render_cameras")

    def forward(  # type: ignore[override]
        self,
        ray_bundle: RayBundle,
        pixels: Optional[Tuple[Cameras, Tensor]] = None,
        views: Sequence[CameraRequest] = (),
    ) -> Any:
        """Outputs of world rays (R,) for nerfstudio; with `pixels`, all that a training step renders.

        Args:
            ray_bundle: (R,) rays of the training pixels.
            pixels: of a training step the training cameras and (R, 3) view, row, column of the same pixels.
            views: unseen views that priors ask for.

        Returns:
            `Dict[str, Tensor]` without `pixels`, else `StepRenderings`.
        """
        if pixels is None:
            return self.get_outputs(ray_bundle)
        return self.render_step(ray_bundle, *pixels, views)

    def render_step(
        self, ray_bundle: RayBundle, cameras: Cameras, pixels: Tensor, views: Sequence[CameraRequest]
    ) -> StepRenderings:
        """What one training step renders; arguments as those of `forward`."""
        options = [RenderOptions(footprint_scale=view.footprint_scale) for view in views]
        seen = self.render_pixels(self.training_cameras(cameras), pixels)
        unseen = [self.render_cameras(view.cameras, how) for view, how in zip(views, options, strict=True)]
        return StepRenderings(seen, unseen)

    @torch.no_grad()
    def render_as_evaluated(self, cameras: Cameras, options: RenderOptions = RenderOptions()) -> Rendering:  # noqa: B008
        """(B, H, W) pixels of cameras as evaluation sees them; the model may be in training and stays so."""
        was_training = self.training
        self.eval()
        try:
            return self.render_cameras(cameras, options)
        finally:
            self.train(was_training)

    def get_rgba_image(self, outputs: Dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """(..., 4) colour with the accumulation as alpha, by which `ns-export` drops points of the background."""
        return torch.cat([outputs[output_name], outputs["accumulation"]], dim=-1)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> List[TrainingCallback]:
        """Tells the model the step before each iteration."""
        before = TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self.update_to_step)
        return [before, *super().get_training_callbacks(training_callback_attributes)]

    @classmethod
    def check_cameras(cls, cameras: Cameras) -> None:
        """Refuses training cameras that the backbone cannot render, before anything is computed for it.

        Raises:
            ValueError: they are of a kind that it does not know; most know all.
        """

    def prepare_training(self, dataset: FewShotDataset) -> None:
        """Takes what the backbone needs of the training photos, before the first step; most need nothing.

        Args:
            dataset: the training views.
        """

    def learning_rate_scales(self) -> Dict[str, float]:
        """Factors on the learning rates of parameter groups that have a unit of the scene; none for most."""
        return {}

    def update_to_step(self, step: int) -> None:
        """Sets the step that curricula refer to."""
        self.step = step

    def start_from(self, path: Path) -> None:
        """Loads the weights of a training checkpoint, and nothing else of it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no training checkpoint.
            CheckpointMismatchError: it is one of another model.
        """
        state = model_state(load_checkpoint(path)["pipeline"])
        self.make_room_for(state)
        load_strictly(self, state, path)

    def make_room_for(self, state: Mapping[str, Tensor]) -> bool:
        """Takes another number of primitives where `resizes_for_checkpoints` says so and a state has one.

        Args:
            state: the model's own names -> tensors.

        Returns:
            Whether parameters are others than before, so that optimizers have to be told.
        """
        shapes = {name: value.shape for name, value in self.state_dict().items() if isinstance(value, Tensor)}
        others = [name for name, shape in shapes.items() if name in state and state[name].shape != shape]
        if not self.resizes_for_checkpoints or not others:
            return False
        self.resize_for(state)
        return True

    def resize_for(self, state: Mapping[str, Tensor]) -> None:
        """Makes room for a state of another number of primitives; called once, where shapes differ.

        Args:
            state: the model's own names -> tensors. What else does not fit is refused after it.
        """

    def photo_colours(self, outputs: Rendering, batch: Dict[str, Tensor]) -> Tensor:
        """(R, 3) colours that a step's pixels should have: those of the photos.

        Where a step is rendered before another background than the scene's, by the difference that
        `outputs.extras[BACKGROUND_CHANGE]` is, it shows through photos with alpha too.
        """
        photo, alpha = batch["image"].to(self.device), batch.get(ALPHA_KEY)
        change = outputs.extras.get(BACKGROUND_CHANGE)
        if change is None or alpha is None:
            return photo
        return photo[..., :3] + (1.0 - alpha.to(photo)) * change

    def get_metrics_dict(self, outputs: Rendering, batch: Dict[str, Tensor]) -> Dict[str, Tensor]:  # type: ignore[override]
        """PSNR of the batch."""
        truth = self.photo_colours(outputs, batch)[..., :3]
        mse = torch.nn.functional.mse_loss(outputs.rgb.detach(), truth)
        return {"psnr": -10.0 * torch.log10(mse.clamp(min=1e-10))}

    def get_image_metrics_and_images(
        self, outputs: Dict[str, Tensor], batch: Dict[str, Tensor]
    ) -> Tuple[Dict[str, float], Dict[str, Tensor]]:
        """Images of one test view: truth next to render, accumulation, depth. Metrics come from the pipeline."""
        truth = batch["image"].to(outputs["rgb"])[..., :3]
        images = {
            "img": torch.cat([truth, outputs["rgb"]], dim=1),
            "accumulation": colormaps.apply_colormap(outputs["accumulation"]),
            "depth": colormaps.apply_depth_colormap(outputs["depth"], accumulation=outputs["accumulation"]),
        }
        return {}, images

    def set_scene(self, cameras: Cameras) -> None:
        """Tells the model where the training cameras look.

        Args:
            cameras: (V,) training views.
        """
        if self.refines_poses and cameras.metadata is None:
            # Where `ns-export cameras` notes the index of a view.
            cameras.metadata = {}
        focus = scene_focus(cameras, self.geometry)
        self.focus, self.radius = focus, scene_radius(cameras, focus)
