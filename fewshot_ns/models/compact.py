"""The compact backbone of the -lite presets: a small, fast field behind a voxel-grid proposal."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict, FrozenSet, List, Literal, Mapping, Optional, Tuple, Type

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.ray_space import ModelRays, normals_to_world
from fewshot_ns.cameras.scene_geometry import RaySpace, Spacing, spacing_of
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.field_components.encodings import level_visibility
from fewshot_ns.fields.density_grid import DensityGrid
from fewshot_ns.fields.mlp_field import MLPField
from fewshot_ns.fields.triplane_field import TriPlaneField
from fewshot_ns.model_components.curricula import (
    ANNEALING,
    AnnealingDefaults,
    EncodedColumns,
    FrequencyMaskConfig,
    NearFarAnnealingConfig,
)
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.interval_losses import interlevel_loss
from fewshot_ns.model_components.losses import colour_loss
from fewshot_ns.model_components.ray_samplers import geometric_fenceposts, resample_fenceposts, stratified_fenceposts
from fewshot_ns.model_components.renderers import compositing_weights
from fewshot_ns.model_components.rendering import BACKGROUND_CHANGE, Rendering
from fewshot_ns.models.ray_model import RayModel, RayModelConfig

_PROPOSAL_EPSILON = 1e-5
"""Added to the weights that the proposal's loss divides by."""


@dataclass
class CompactModelConfig(RayModelConfig):
    """A small field, tri-plane or MLP, behind a voxel-grid proposal."""

    moved_fields: ClassVar[Mapping[str, str]] = {
        old: new for old, new in RayModelConfig.moved_fields.items() if old != "frequency_mask_steps"
    }
    values_before: ClassVar[Mapping[str, Any]] = {"spacing": "linear"}
    _target: Type = field(default_factory=lambda: CompactModel)
    """Class that the config builds."""
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Number format of the matrix products; everything else stays in float32."""
    annealing: NearFarAnnealingConfig = field(default_factory=lambda: NearFarAnnealingConfig(steps=150))
    """Near and far that open slowly (RegNeRF); in metric scenes without a depth prior it harms."""
    frequency_mask: FrequencyMaskConfig = field(
        default_factory=lambda: FrequencyMaskConfig(order="octave", first_step=0)
    )
    """MLP: frequencies of the encoding that open slowly (FreeNeRF)."""
    num_proposal_samples: int = 64
    """Samples per ray of the proposal."""
    spacing: Optional[Spacing] = None
    """How the proposal's samples lie between near and far: at equal steps, or each a share farther than the one before,
    which finds near things before a far background; None: geometric in metric scenes whose far is more than 20 times
    near, or 5 units beyond it."""
    num_samples: int = 24
    """Samples per ray of the field."""
    resample_padding: float = 0.01
    """Added to the proposal's weights before resampling."""
    proposal_resolution: int = 64
    """Voxels per side of the proposal's density grid."""
    proposal_bias: float = -1.0
    """Raw density of the proposal at the start."""
    field_type: Literal["triplane", "mlp"] = "triplane"
    """'triplane': features on three planes, sharp in few steps; 'mlp': integrated encoding into an MLP, which is what
    a frequency mask needs."""
    num_layers: int = 2
    """Hidden layers of the field."""
    width: int = 64
    """Width of the hidden layers."""
    view_dependent: bool = False
    """Whether colour depends on the viewing direction; a few photos cannot tell gloss from wrong geometry."""
    view_octaves: int = 2
    """Octaves of the direction encoding, where colour depends on it."""
    colour_width: int = 64
    """Width of the colour branch."""
    density_bias: float = -1.0
    """Added to the raw density before the softplus."""
    rgb_padding: float = 0.001
    """Colours may exceed [0, 1] by this much in training."""
    plane_resolutions: Tuple[int, ...] = (16, 32, 64, 128)
    """Tri-plane: texels per side of each level, coarse to fine."""
    plane_channels: int = 12
    """Tri-plane: features per level."""
    coarse_steps: int = 50
    """Tri-plane: steps in which only the coarsest level is visible."""
    fine_steps: int = 250
    """Tri-plane: step from which all levels are visible; they open one after the other."""
    num_octaves: int = 16
    """MLP: octaves of the integrated positional encoding."""
    skip_layer: int = 2
    """MLP: layer whose input gets the encoding once more."""
    random_background: Optional[bool] = None
    """Whether training renders before a random background colour, so that only an opaque field can explain a photo, and
    what is transparent in photos with alpha, which lie on the same colour, stays empty; None: where they are opaque."""
    proposal_weight: float = 1.0
    """Weight of the proposal's distillation loss."""
    ema_decay: float = 0.99
    """Decay per step of the running average of the weights that is used outside training; 0 uses the last weights."""

    @classmethod
    def upgrade(cls, state: Dict[str, Any], outdated: Dict[str, Any]) -> None:
        """Planes had no use for the length of a frequency mask, which presets gave all the same."""
        steps = outdated.pop("frequency_mask_steps", 0)
        if state["field_type"] == "mlp":
            state["frequency_mask"].steps = steps or state["frequency_mask"].steps


class CompactModel(RayModel):
    """Renders a small field at samples from a density grid; what priors add to the loss comes from the pipeline."""

    config: CompactModelConfig
    ANNEALING_DEFAULTS: Dict[RaySpace, AnnealingDefaults] = {
        "ndc": ANNEALING["ndc"]._replace(steps=150),
        "metric": ANNEALING["metric"]._replace(steps=0),
    }

    def populate_modules(self) -> None:
        """Builds the proposal, the field and, where `ema_decay` is not 0, their running average."""
        super().populate_modules()
        config = self.config
        self.spacing = spacing_of(self.geometry) if config.spacing is None else config.spacing
        self.networks = torch.nn.ModuleDict(
            {"proposal": DensityGrid(config.proposal_resolution, config.proposal_bias), "field": self._build_field()}
        )
        self.average = copy.deepcopy(self.networks).requires_grad_(False) if config.ema_decay > 0 else None
        opaque = not get_fewshot_metadata(self.kwargs["metadata"]).has_alpha
        self.random_background = opaque if config.random_background is None else config.random_background

    def _build_field(self) -> MLPField | TriPlaneField:
        config = self.config
        view_octaves = config.view_octaves if config.view_dependent else None
        if config.field_type == "mlp":
            return MLPField(
                num_layers=config.num_layers,
                width=config.width,
                skip_layer=config.skip_layer,
                num_octaves=config.num_octaves,
                view_octaves=view_octaves,
                colour_width=config.colour_width,
                density_bias=config.density_bias,
                rgb_padding=config.rgb_padding,
                compute_dtype=config.compute_dtype,
            )
        return TriPlaneField(
            resolutions=config.plane_resolutions,
            channels=config.plane_channels,
            num_layers=config.num_layers,
            width=config.width,
            view_octaves=view_octaves,
            colour_width=config.colour_width,
            density_bias=config.density_bias,
            rgb_padding=config.rgb_padding,
            compute_dtype=config.compute_dtype,
        )

    @property
    def masks_frequencies(self) -> bool:  # type: ignore[override]
        """An MLP has an encoding; planes open from coarse to fine instead."""
        return self.config.field_type == "mlp"

    @property
    def planes(self) -> List[Parameter]:
        """(3, C, H, W) feature planes, one of each level; none of an MLP."""
        field = self.networks["field"]
        return list(field.planes.parameters()) if isinstance(field, TriPlaneField) else []

    @property
    def provides(self) -> FrozenSet[str]:
        """Planes of the tri-plane; normals of the MLP."""
        return self.PROVIDES | {"planes" if self.config.field_type == "triplane" else "normals"}

    def why_not(self, name: str) -> Optional[str]:
        """As of every backbone; a tri-plane's look-up has no second derivative, which normals need."""
        if name not in self.provides and name == "planes":
            return "a field of --pipeline.model.field-type mlp has none"
        if name not in self.provides and name == "normals":
            return "the look-up of a tri-plane's texels has no second derivative"
        return super().why_not(name)

    @property
    def labels(self) -> FrozenSet[str]:
        """Alpha of the photos that a random background shows through."""
        shows = self.random_background and get_fewshot_metadata(self.kwargs["metadata"]).has_alpha
        return super().labels | ({"alpha"} if shows else set())

    def resolved(self) -> Dict[str, Any]:
        """Adds how samples are spaced, and whether training uses a random background."""
        return {**super().resolved(), "spacing": self.spacing, "random_background": self.random_background}

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """The field's layers, its planes where it has some, and the proposal, which take different learning rates."""
        groups = {name: list(module.parameters()) for name, module in self.networks.items()}
        field = self.networks["field"]
        if isinstance(field, TriPlaneField):
            groups["planes"] = list(field.planes)
            groups["field"] = [value for name, value in field.named_parameters() if not name.startswith("planes.")]
        return groups

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> List[TrainingCallback]:
        """Adds the update of the running average."""
        after = TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self.update_average)
        return [*super().get_training_callbacks(training_callback_attributes), after]

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Moves the running average towards the current weights; early on it follows them closely."""
        if self.average is None:
            return
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        for mean, value in zip(self.average.parameters(), self.networks.parameters(), strict=True):
            mean.lerp_(value, 1.0 - decay)

    def encoding_mask(self) -> Optional[Tensor]:
        """Visibility of the encoding's columns at this step, None once all are visible."""
        columns = EncodedColumns(self.config.num_octaves, include_input=False)
        return self.frequency_mask.apply([columns], self.step, self.device)[0]

    def render_rays(self, rays: ModelRays, stratified: Optional[bool] = None) -> Dict[str, Tensor]:
        """Proposal, resampling, field."""
        config = self.config
        networks = self.networks if self.training or self.average is None else self.average
        jitter, random = None, self.samples_at_random(stratified)
        if random:
            jitter = torch.rand(len(rays.near), config.num_proposal_samples + 1, device=rays.near.device)
        spread = geometric_fenceposts if self.spacing == "geometric" else stratified_fenceposts
        t_proposal = spread(rays.near, rays.far, config.num_proposal_samples, jitter)
        middle = 0.5 * (t_proposal[:, 1:] + t_proposal[:, :-1])
        positions = rays.origins[:, None] + middle[..., None] * rays.directions[:, None]
        density_proposal = networks["proposal"](self.normalise_positions(positions))
        weights_proposal = compositing_weights(density_proposal, t_proposal, rays.directions)
        t = resample_fenceposts(t_proposal, weights_proposal, config.num_samples, config.resample_padding, random)
        means, cov_diag = cast_rays(t, rays.origins, rays.directions, rays.radii, self.geometry.ray_shape)
        field = networks["field"]
        density, rgb = self._evaluate_field(field, means, cov_diag, rays.viewdirs)
        normals: Dict[str, Tensor] = {}
        if self.training and "normals" in self.served and isinstance(field, MLPField):
            found = field.trainable_normals(means, cov_diag, self.encoding_mask())
            normals["normals"] = normals_to_world(found, means, self.geometry)
        return {
            **normals,
            "weights": compositing_weights(density, t, rays.directions),
            "t": t,
            "sample_rgb": rgb,
            "density": density,
            "weights_proposal": weights_proposal,
            "t_proposal": t_proposal,
        }

    def _evaluate_field(
        self, field: torch.nn.Module, means: Tensor, cov_diag: Tensor, viewdirs: Tensor
    ) -> Tuple[Tensor, Tensor]:
        if isinstance(field, MLPField):
            return field(means, cov_diag, viewdirs, self.encoding_mask())
        config = self.config
        visibility = level_visibility(
            len(config.plane_resolutions), self.step, config.coarse_steps, config.fine_steps, means.device
        )
        return field(self.normalise_positions(means), viewdirs, visibility)

    def render_training_rays(self, ray_bundle: RayBundle) -> Rendering:
        """Renders the rays (R,) of a training step; colours may lie on a random background."""
        rendering = super().render_training_rays(ray_bundle)
        if not (self.training and self.random_background):
            return rendering
        change = torch.rand_like(rendering.rgb) - float(self.geometry.background == "white")
        shown = rendering.rgb + (1.0 - rendering.accumulation) * change
        return replace(rendering, rgb=shown, extras={**rendering.extras, BACKGROUND_CHANGE: change})

    def get_loss_dict(  # type: ignore[override]
        self, outputs: Rendering, batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Colour and proposal."""
        target, ray_weights = self.photo_colours(outputs, batch), batch.get("loss_weight")
        losses = {"rgb_loss": colour_loss(outputs.rgb, target, ray_weights) / 3.0}
        samples, proposal = outputs.samples, outputs.extras
        if not self.training or samples is None:
            return losses
        excess = interlevel_loss(
            samples.t, samples.weights, proposal["t_proposal"], proposal["weights_proposal"], _PROPOSAL_EPSILON
        )
        losses["proposal_loss"] = self.config.proposal_weight * excess.sum(-1).mean()
        return losses
