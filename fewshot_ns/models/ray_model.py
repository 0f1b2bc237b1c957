"""Backbones that render rays: from cameras to rays in ray space, and from samples along them to pixels."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict, FrozenSet, List, Literal, Mapping, Optional, Sequence, Type

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.field_components.spatial_distortions import SceneContraction
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fewshot_ns.cameras.pose_corrections import corrected_rays
from fewshot_ns.cameras.ray_space import (
    RADII_KEY,
    ModelRays,
    attach_radii,
    camera_rays,
    concatenate_rays,
    depth_slope,
    ray_bounds,
    to_model_rays,
    world_distance,
)
from fewshot_ns.cameras.scene_geometry import RaySpace
from fewshot_ns.model_components.curricula import (
    ANNEALING,
    AnnealingDefaults,
    FrequencyMask,
    FrequencyMaskConfig,
    NearFarAnnealing,
    NearFarAnnealingConfig,
)
from fewshot_ns.model_components.renderers import (
    composite_rgb,
    distance_deviation,
    distance_percentile,
    expected_distance,
)
from fewshot_ns.model_components.rendering import RaySamples, Rendering, RenderOptions
from fewshot_ns.models.fewshot_model import FewShotModel, FewShotModelConfig, StepRenderings
from fewshot_ns.priors.base import CameraRequest

LEVEL = ("weights", "t", "sample_rgb", "density", "normals")
"""Names of what `render_rays` gives of a level."""


@dataclass
class RayModelConfig(FewShotModelConfig):
    """Fields that every ray backbone shares."""

    moved_fields: ClassVar[Mapping[str, str]] = {
        "anneal_steps": "annealing.steps",
        "anneal_init_fraction": "annealing.init_fraction",
        "anneal_mid_fraction": "annealing.mid_fraction",
        "frequency_mask_steps": "frequency_mask.steps",
        "frequency_mask_order": "frequency_mask.order",
        "visible_ratio": "frequency_mask.visible_ratio",
    }
    _target: Type = field(default_factory=lambda: RayModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 4096
    """Rays rendered at once at evaluation."""
    annealing: NearFarAnnealingConfig = field(default_factory=NearFarAnnealingConfig)
    """Near and far that open slowly (RegNeRF)."""
    frequency_mask: FrequencyMaskConfig = field(default_factory=FrequencyMaskConfig)
    """Frequencies of the encoding that open slowly (FreeNeRF)."""
    stratified: bool = True
    """Random samples along rays in training; False: those of evaluation."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the matrix products; everything else stays in float32."""
    depth_statistics: bool = False
    """Whether evaluation also gives `depth_median`, where half of a ray's weight is reached, and `depth_std`, the
    standard deviation of its distance (to first order in NDC)."""


class RayModel(FewShotModel):
    """Base of the ray backbones; a subclass gives `render_rays` and its loss.

    `forward` takes world rays (R,) and returns `rgb` (R, 3), `depth` (R, 1) as world distance and `accumulation`
    (R, 1); of a training step `StepRenderings`.
    """

    config: RayModelConfig
    PROVIDES: FrozenSet[str] = frozenset({"unseen_views", "samples", "density"})
    ANNEALING_DEFAULTS: Dict[RaySpace, AnnealingDefaults] = ANNEALING
    """Values of the annealing where its config has None."""
    masks_frequencies: bool = False
    """Whether the backbone has an encoding that a frequency mask can open."""
    ray_bounds: Tensor
    focus_point: Tensor
    scene_radius: Tensor

    def populate_modules(self) -> None:
        """Builds the curricula and prepares the bounds of the ray space.

        Raises:
            ValueError: a frequency mask for a backbone without an encoding.
        """
        super().populate_modules()
        config: RayModelConfig = self.config
        self.annealing = NearFarAnnealing(config.annealing, self.geometry, self.ANNEALING_DEFAULTS)
        self.frequency_mask = FrequencyMask(config.frequency_mask, self.geometry)
        self.contraction = SceneContraction()
        self.register_buffer("ray_bounds", torch.tensor([[-1.0] * 3, [1.0] * 3]))
        self.register_buffer("focus_point", torch.zeros(3))
        self.register_buffer("scene_radius", torch.ones(()))
        if self.frequency_mask.used and not self.masks_frequencies:
            raise ValueError(
                f"--pipeline.model.frequency-mask.steps: {type(self).__name__} has no encoding whose frequencies could "
                "open one after the other; give 0 (of lite methods --pipeline.model.field-type mlp has one)"
            )

    def resolved(self) -> Dict[str, Any]:
        """Values of the fields that the scene decided, for the log."""
        values = {**super().resolved(), "annealing": self.annealing.resolved()}
        return {**values, "frequency_mask": self.frequency_mask.resolved()} if self.masks_frequencies else values

    def render_rays(self, rays: ModelRays, stratified: Optional[bool] = None) -> Dict[str, Tensor]:
        """Renders rays in ray space.

        Args:
            rays: R rays.
            stratified: whether samples are drawn at random in training; None: as configured.

        Returns:
            at least `weights` (R, S), `t` (R, S + 1) and `sample_rgb` (R, S, 3) of the final level, and `density`
            (R, S); a coarse level gives the same with `_coarse` behind the names; everything else is for the model's
            own loss.
        """
        raise TypeError(f"{type(self).__name__} has to define render_rays")

    def samples_at_random(self, stratified: Optional[bool]) -> bool:
        """Whether rays are sampled at random: never at evaluation; in training as asked, as configured for None."""
        return self.training and (self.config.stratified if stratified is None else stratified)

    def render_bundle(
        self,
        ray_bundle: RayBundle,
        stratified: Optional[bool] = None,
        coarse_only: bool = False,
        annealed: bool = False,
    ) -> Rendering:
        """Renders world rays (R,).

        Args:
            ray_bundle: rays of any views.
            stratified: whether samples are drawn at random in training; None: as configured.
            coarse_only: whether the final level may be left out.
            annealed: whether near and far are those of the step, not those of the scene.
        """
        rays = to_model_rays(ray_bundle, self.geometry)
        if annealed:
            rays = self.annealing.apply(rays, self.step, self.focus_point)
        return self.rendering_of(rays, stratified)

    def rendering_of(self, rays: ModelRays, stratified: Optional[bool] = None) -> Rendering:
        """Renders rays (R,) that are in ray space already, between their own near and far."""
        levels = self.render_rays(rays, stratified)
        levels["weights"] = levels["weights"] * rays.valid
        final = self.composite(levels, rays)
        if not self.training:
            extras = (
                self._depth_statistics(levels["weights"], levels["t"], rays) if self.config.depth_statistics else {}
            )
            return replace(final, samples=None, viewdirs=None, extras=extras)
        coarse = self.composite(levels, rays, "_coarse") if "weights_coarse" in levels else None
        of_levels = {f"{name}{suffix}" for name in LEVEL for suffix in ("", "_coarse")}
        extras = {name: value for name, value in levels.items() if name not in of_levels}
        return replace(final, coarse=coarse, extras=extras)

    def composite(self, levels: Dict[str, Tensor], rays: ModelRays, suffix: str = "") -> Rendering:
        """Pixels of one level of `render_rays`."""
        weights, t, rgb = (levels[f"{name}{suffix}"] for name in ("weights", "t", "sample_rgb"))
        distance = expected_distance(weights, t)
        return Rendering(
            rgb=composite_rgb(rgb, weights, self.geometry.background),
            depth=world_distance(distance, rays, self.geometry),
            accumulation=weights.sum(-1, keepdim=True),
            distance=distance,
            viewdirs=rays.viewdirs,
            samples=RaySamples(weights, t, rgb, levels.get(f"density{suffix}"), levels.get(f"normals{suffix}")),
        )

    def _depth_statistics(self, weights: Tensor, t: Tensor, rays: ModelRays) -> Dict[str, Tensor]:
        slope = depth_slope(expected_distance(weights, t), rays, self.geometry).clamp(min=torch.finfo(t.dtype).eps)
        return {
            "depth_median": world_distance(distance_percentile(weights, t, 0.5), rays, self.geometry),
            "depth_std": distance_deviation(weights, t) / slope * rays.z_scale,
        }

    def training_rays(self, ray_bundle: RayBundle) -> RayBundle:
        """The world rays (R,) of training photos, in a training step from refined poses; at evaluation as they are."""
        corrections = self.pose_corrections() if self.training else None
        return ray_bundle if corrections is None else corrected_rays(ray_bundle, corrections)

    def render_training_rays(self, ray_bundle: RayBundle) -> Rendering:
        """Renders the rays (R,) of a training step's main forward."""
        return self.render_bundle(ray_bundle, annealed=self.training)

    def render_step(
        self, ray_bundle: RayBundle, cameras: Cameras, pixels: Tensor, views: Sequence[CameraRequest]
    ) -> StepRenderings:
        """What one training step renders, in one pass over all rays; arguments as those of `forward`."""
        unseen = [camera_rays(view.cameras.to(self.device), self.geometry, view.footprint_scale) for view in views]
        whole = self.training_rays(ray_bundle)
        for rays in unseen:
            whole = concatenate_rays(whole, rays.flatten())
        rendering = self.render_training_rays(whole)
        if not unseen:
            return StepRenderings(rendering, [])
        counts = [len(ray_bundle), *(rays.size for rays in unseen)]
        ends = torch.tensor(counts).cumsum(0).tolist()
        parts = [rendering[end - count : end] for count, end in zip(counts, ends, strict=True)]
        return StepRenderings(
            parts[0], [part.reshape(*rays.shape) for part, rays in zip(parts[1:], unseen, strict=True)]
        )

    def render_pixels(self, cameras: Cameras, pixels: Tensor) -> Rendering:
        """(R,) pixels (R, 3) of cameras, with the footprints that they have in their images."""
        parts: List[Rendering] = []
        order = []
        for view in pixels[:, 0].unique().tolist():
            mine = (pixels[:, 0] == view).nonzero()[:, 0]
            bundle = attach_radii(cameras.generate_rays(camera_indices=int(view), keep_shape=True), self.geometry)
            rows, columns = (index.to(cameras.device) for index in pixels[mine, 1:].unbind(-1))
            rays = bundle[rows, columns]
            rays.metadata[RADII_KEY] = bundle.metadata[RADII_KEY][rows, columns]
            parts.append(self.render_bundle(rays.to(self.device)))
            order.append(mine)
        back = torch.cat(order).argsort().to(self.device)
        return Rendering.cat(parts)[back]

    def render_cameras(self, cameras: Cameras, options: RenderOptions = RenderOptions()) -> Rendering:  # noqa: B008
        """(B, H, W) pixels of cameras (B,) between the scene's near and far, chunk by chunk."""
        rays = camera_rays(cameras.to(self.device), self.geometry, options.footprint_scale)
        flat = rays.flatten()
        size = options.chunk_rays
        if size is None:
            size = len(flat) if self.training else self.config.eval_num_rays_per_chunk
        chunks = [self._render_chunk(flat[start : start + size], options) for start in range(0, len(flat), size)]
        return Rendering.cat(chunks).reshape(*rays.shape)

    def _render_chunk(self, rays: RayBundle, options: RenderOptions) -> Rendering:
        """Gradient as of rendering all rays at once, and the same random numbers when it is rendered again."""

        def render(_: Tensor) -> Rendering:
            return self.render_bundle(rays, options.stratified, options.coarse_only)

        if options.chunk_rays is None or not torch.is_grad_enabled():
            return render(rays.origins)
        # The tensor tells torch on which device random numbers are drawn.
        rendering = checkpoint(render, rays.origins, use_reentrant=False)
        assert isinstance(rendering, Rendering)
        return rendering

    def get_outputs(self, ray_bundle: RayBundle) -> Dict[str, Tensor]:  # type: ignore[override]
        """Outputs of world rays (R,)."""
        if self.training:
            return replace(self.render_training_rays(self.training_rays(ray_bundle)), extras={}).outputs()
        rendering = self.render_bundle(ray_bundle)
        return replace(rendering, rgb=rendering.rgb.clamp(0.0, 1.0)).outputs()

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: Optional[OrientedBox] = None) -> Dict[str, Tensor]:
        """Outputs (H, W, C) of a whole image, with exact pixel footprints."""
        rays = camera.generate_rays(camera_indices=0, keep_shape=True, obb_box=obb_box)
        return self.get_outputs_for_camera_ray_bundle(attach_radii(rays, self.geometry))

    def normalise_positions(self, positions: Tensor) -> Tensor:
        """Ray-space positions (..., 3) to [-1, 1].

        In NDC the bounds of the training rays; in metric scenes a ball around the point that the cameras look at, which
        fills the inner half, and what lies outside of it is contracted into the rest (mip-NeRF 360, eq. 10).
        """
        if self.geometry.ray_space == "ndc":
            lower, upper = self.ray_bounds.unbind(0)
            return (positions - lower) / (upper - lower) * 2.0 - 1.0
        return 0.5 * self.contraction((positions - self.focus_point) / self.scene_radius)

    def set_scene(self, cameras: Cameras) -> None:
        """Tells the model where the training cameras look, and the box in ray space that their rays pass through."""
        super().set_scene(cameras)
        self.ray_bounds.copy_(ray_bounds(cameras, self.geometry).to(self.ray_bounds))
        self.focus_point.copy_(self.focus.to(self.focus_point))
        self.scene_radius.fill_(self.radius)
