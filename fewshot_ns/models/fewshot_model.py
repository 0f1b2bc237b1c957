"""What every few-shot model shares: the ray space, annealed near/far, outputs as the host names them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Tuple, Type

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils import colormaps
from torch import Tensor

from fewshot_ns.cameras.ray_space import ModelRays, attach_radii, depth_slope, to_model_rays, world_distance
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.model_components.renderers import (
    composite_rgb,
    distance_deviation,
    distance_percentile,
    expected_distance,
)
from fewshot_ns.model_components.schedules import anneal_near_far
from fewshot_ns.utils.checkpoints import load_checkpoint, load_strictly
from fewshot_ns.utils.configs import SavedConfig

DISTANCE_MEAN = "distance_mean"
"""Training output: expected ray parameter (R, 1) of the final level, what the depth losses compare."""


@dataclass
class FewShotModelConfig(SavedConfig, ModelConfig):
    """Fields that every few-shot model shares."""

    _target: Type = field(default_factory=lambda: FewShotModel)
    """Class that the config builds."""
    enable_collider: bool = False
    """Unused: near and far come from the scene's ray geometry."""
    eval_num_rays_per_chunk: int = 4096
    """Rays rendered at once at evaluation."""
    anneal_steps: Optional[int] = 256
    """Steps over which near and far open to the whole interval; 0 switches annealing off."""
    anneal_init_fraction: Optional[float] = None
    """Fraction of the near-far interval open at the start; None: 1e-4 in NDC (RegNeRF), 0.2 in metric scenes, whose
    value in RegNeRF is 0.5."""
    anneal_mid_fraction: Optional[float] = None
    """Where the interval opens from (0 near, 1 far); None: 1.0 in NDC (RegNeRF), where each ray passes the training
    cameras' common focus point in metric scenes. RegNeRF's value for metric scenes is 0.5."""
    stratified: bool = True
    """Random samples along rays in training; False: those of evaluation."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the matrix products; everything else stays in float32."""
    depth_statistics: bool = False
    """Whether evaluation also gives `depth_median`, where half of a ray's weight is reached, and `depth_std`, the
    standard deviation of its distance (to first order in NDC)."""


class FewShotModel(Model):
    """Base of the few-shot models; a subclass gives `render_rays` and its loss terms.

    `forward` takes world rays (R,) and returns `rgb` (R, 3), `depth` (R, 1) as world distance, `accumulation` (R, 1),
    and in training `distance_mean` (R, 1) in units of the ray parameter beside what `render_rays` adds.
    """

    config: FewShotModelConfig
    samples_by_depth: bool = False
    """Whether training rays need their measured depth (`ModelRays.measured`)."""
    normals_used: Literal["no", "where any", "yes"] = "no"
    """Whether the loss looks at measured normals: never, where the scene has some, or not without."""
    ray_bounds: Tensor
    focus_point: Tensor
    scene_radius: Tensor

    def populate_modules(self) -> None:
        """Resolves what depends on the scene and prepares the bounds of the ray space."""
        super().populate_modules()
        self.geometry = get_fewshot_metadata(self.kwargs["metadata"]).geometry
        ndc = self.geometry.ray_space == "ndc"
        steps, init, mid = self.anneal_defaults(ndc)
        given = self.config
        self.anneal_steps = steps if given.anneal_steps is None else given.anneal_steps
        self.anneal_init_fraction = init if given.anneal_init_fraction is None else given.anneal_init_fraction
        self.anneal_mid_fraction = mid if given.anneal_mid_fraction is None else given.anneal_mid_fraction
        self.step = 0
        self.contraction = SceneContraction()
        self.register_buffer("ray_bounds", torch.tensor([[-1.0] * 3, [1.0] * 3]))
        self.register_buffer("focus_point", torch.zeros(3))
        self.register_buffer("scene_radius", torch.ones(()))

    def anneal_defaults(self, ndc: bool) -> Tuple[int, float, Optional[float]]:
        """Steps, open fraction at the start and middle (None: the focus point) of annealing where none are given."""
        return 256, 1e-4 if ndc else 0.2, 1.0 if ndc else None

    def resolved(self) -> Dict[str, Any]:
        """Values of the fields that the scene decided, for the log."""
        return {
            "ray_space": self.geometry.ray_space,
            "near": self.geometry.near,
            "far": self.geometry.far,
            "anneal_steps": self.anneal_steps,
            "anneal_init_fraction": self.anneal_init_fraction,
            "anneal_mid_fraction": "focus point" if self.anneal_mid_fraction is None else self.anneal_mid_fraction,
        }

    def render_rays(self, rays: ModelRays, stratified: Optional[bool] = None) -> Dict[str, Tensor]:
        """Renders rays in ray space.

        Args:
            rays: R rays.
            stratified: see `samples_at_random`.

        Returns:
            at least `weights` (R, S), `t` (R, S + 1) and `sample_rgb` (R, S, 3) of the final level; a coarse level that
            terms on depth apply to as well gives `weights_coarse` and `t_coarse`.
        """
        raise TypeError(f"{type(self).__name__} has to define render_rays")

    def get_outputs(self, ray_bundle: RayBundle) -> Dict[str, Tensor]:  # type: ignore[override]
        """Outputs of world rays (R,)."""
        rays = to_model_rays(ray_bundle, self.geometry)
        if self.training:
            rays = self._anneal(rays)
        return self.outputs_of(rays)

    def samples_at_random(self, stratified: Optional[bool]) -> bool:
        """Whether rays are sampled at random: never at evaluation; in training as said, or None: as configured."""
        return self.training and (self.config.stratified if stratified is None else stratified)

    def render_levels(
        self, ray_bundle: RayBundle, stratified: Optional[bool] = None, coarse_only: bool = False
    ) -> Dict[str, Tensor]:
        """Colours of world rays (R,) between the scene's near and far, for terms on whole renderings.

        Args:
            ray_bundle: rays of any view.
            stratified: see `samples_at_random`.
            coarse_only: whether the final level is left out, where the model can without being rendered.

        Returns:
            `rgb` (R, 3) and, in training, `rgb_coarse` (R, 3) of a model that has a coarse level.
        """
        outputs = self.outputs_of(to_model_rays(ray_bundle, self.geometry), stratified)
        levels = {} if coarse_only else {"rgb": outputs["rgb"]}
        if "sample_rgb_coarse" in outputs:
            weights, background = outputs["weights_coarse"], self.geometry.background
            levels["rgb_coarse"] = composite_rgb(outputs["sample_rgb_coarse"], weights, background)
        return levels

    def outputs_of(self, rays: ModelRays, stratified: Optional[bool] = None) -> Dict[str, Tensor]:
        """Outputs of rays (R,) that are in ray space already, between their own near and far."""
        outputs = self.render_rays(rays, stratified)
        weights, t = outputs["weights"] * rays.valid, outputs["t"]
        distance = expected_distance(weights, t)
        rendered = {
            "rgb": composite_rgb(outputs["sample_rgb"], weights, self.geometry.background),
            "depth": world_distance(distance, rays, self.geometry),
            "accumulation": weights.sum(-1, keepdim=True),
        }
        if not self.training:
            rendered["rgb"] = rendered["rgb"].clamp(0.0, 1.0)
            if self.config.depth_statistics:
                rendered |= self._depth_statistics(weights, t, rays)
            return rendered
        return {**outputs, **rendered, "weights": weights, DISTANCE_MEAN: distance}

    def _depth_statistics(self, weights: Tensor, t: Tensor, rays: ModelRays) -> Dict[str, Tensor]:
        slope = depth_slope(expected_distance(weights, t), rays, self.geometry).clamp(min=torch.finfo(t.dtype).eps)
        return {
            "depth_median": world_distance(distance_percentile(weights, t, 0.5), rays, self.geometry),
            "depth_std": distance_deviation(weights, t) / slope * rays.z_scale,
        }

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: Optional[OrientedBox] = None) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a whole image, with exact pixel footprints."""
        rays = camera.generate_rays(camera_indices=0, keep_shape=True, obb_box=obb_box)
        return self.get_outputs_for_camera_ray_bundle(attach_radii(rays, self.geometry))

    def get_rgba_image(self, outputs: Dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """(..., 4) colour with the accumulation as alpha, by which `ns-export` drops points of the background."""
        return torch.cat([outputs[output_name], outputs["accumulation"]], dim=-1)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> List[TrainingCallback]:
        """Tells the model the step before each iteration."""
        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self.update_to_step)]

    def update_to_step(self, step: int) -> None:
        """Sets the step that schedules refer to."""
        self.step = step

    def start_from(self, path: Path) -> None:
        """Takes the weights of a training checkpoint, and nothing else of it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no training checkpoint.
            CheckpointMismatchError: it is one of another model.
        """
        state = load_checkpoint(path)["pipeline"]
        names = {name.removeprefix("module."): value for name, value in state.items()}
        own = {name[len("_model.") :]: value for name, value in names.items() if name.startswith("_model.")}
        load_strictly(self, {name.removeprefix("module."): value for name, value in own.items()}, path)

    def get_metrics_dict(self, outputs: Dict[str, Tensor], batch: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """PSNR of the batch."""
        mse = torch.nn.functional.mse_loss(outputs["rgb"].detach(), batch["image"].to(self.device)[..., :3])
        return {"psnr": -10.0 * torch.log10(mse.clamp(min=1e-10))}

    def get_image_metrics_and_images(
        self, outputs: Dict[str, Tensor], batch: Dict[str, Tensor]
    ) -> Tuple[Dict[str, float], Dict[str, Tensor]]:
        """Pictures of one test view: truth beside render, accumulation, depth. Metrics come from the pipeline."""
        truth = batch["image"].to(outputs["rgb"])[..., :3]
        images = {
            "img": torch.cat([truth, outputs["rgb"]], dim=1),
            "accumulation": colormaps.apply_colormap(outputs["accumulation"]),
            "depth": colormaps.apply_depth_colormap(outputs["depth"], accumulation=outputs["accumulation"]),
        }
        return {}, images

    def _anneal(self, rays: ModelRays) -> ModelRays:
        if self.step + 1 >= self.anneal_steps:
            return rays
        near, far = self.geometry.near, self.geometry.far
        if self.anneal_mid_fraction is None:
            to_focus = ((self.focus_point - rays.origins) * rays.directions).sum(-1, keepdim=True)
            middle = (to_focus / (rays.directions**2).sum(-1, keepdim=True)).clamp(near, far)
        else:
            middle = torch.full_like(rays.near, near + self.anneal_mid_fraction * (far - near))
        near, far = anneal_near_far(
            self.step + 1, rays.near, rays.far, self.anneal_steps, self.anneal_init_fraction, middle
        )
        return replace(rays, near=near, far=far)

    def normalise_positions(self, positions: Tensor) -> Tensor:
        """Ray-space positions (..., 3) to [-1, 1].

        In NDC the bounds of the training rays; in metric scenes a ball around the point that the cameras look at, which
        fills the inner half, and what lies outside of it contracted into the rest (mip-NeRF 360, eq. 10).
        """
        if self.geometry.ray_space == "ndc":
            lower, upper = self.ray_bounds.unbind(0)
            return (positions - lower) / (upper - lower) * 2.0 - 1.0
        return 0.5 * self.contraction((positions - self.focus_point) / self.scene_radius)

    def set_scene(self, bounds: Tensor, focus: Tensor, radius: float) -> None:
        """Tells the model where the training cameras look.

        Args:
            bounds: (2, 3) box in ray space that the training rays pass through.
            focus: (3,) world point nearest to all their optical axes.
            radius: how far around that point they see, world units.
        """
        self.ray_bounds.copy_(bounds.to(self.ray_bounds))
        self.focus_point.copy_(focus.to(self.focus_point))
        self.scene_radius.fill_(radius)
