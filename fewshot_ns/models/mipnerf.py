"""mip-NeRF as RegNeRF, FreeNeRF and SparseNeRF train it on a few views: one network, two levels of samples."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Optional, Tuple, Type

import torch
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.ray_space import ModelRays
from fewshot_ns.field_components.encodings import frequency_mask, octave_mask
from fewshot_ns.fields.mipnerf_field import MipNeRFField
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.losses import background_coloured, colour_loss, occlusion_loss
from fewshot_ns.model_components.ray_samplers import resample_fenceposts, stratified_fenceposts
from fewshot_ns.model_components.renderers import composite_rgb, compositing_weights
from fewshot_ns.models.fewshot_model import FewShotModel, FewShotModelConfig


@dataclass
class MipNeRFModelConfig(FewShotModelConfig):
    """Two levels of one 8x256 network on integrated encodings, black background, RegNeRF's constants."""

    _target: Type = field(default_factory=lambda: MipNeRFModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 1024
    """Rays rendered at once at evaluation."""
    anneal_steps: Optional[int] = 0
    """Steps over which near and far open to the whole interval; 0: none; None: RegNeRF's 512 in NDC, 256 in metric
    scenes (for 9 views it does not anneal)."""
    anneal_init_fraction: Optional[float] = None
    """Fraction of the near-far interval open at the start; None: RegNeRF's 1e-4 in NDC, 0.5 in metric scenes."""
    anneal_mid_fraction: Optional[float] = None
    """Where the interval opens from (0 near, 1 far); None: RegNeRF's 1.0 in NDC, 0.5 in metric scenes."""
    num_samples: int = 128
    """Samples per ray of each of the two levels."""
    resample_padding: float = 0.01
    """Added to the blurred weights of the coarse level before resampling."""
    num_layers: int = 8
    """Layers of the trunk."""
    width: int = 256
    """Width of the trunk and of the bottleneck."""
    skip_layer: int = 5
    """Layer whose input is [activations, encoding]."""
    num_octaves: int = 16
    """Octaves 2^0 to 2^(n-1) of the integrated positional encoding."""
    include_mean: bool = False
    """Whether the encoding begins with the mean itself, as in FreeNeRF."""
    view_octaves: int = 4
    """Octaves of the direction encoding."""
    unit_viewdirs: Optional[bool] = None
    """Whether the network sees unit view directions; None: yes in metric scenes; in NDC, as in the original code, the
    world direction as long as its pixel makes it."""
    colour_width: int = 128
    """Width of the colour branch."""
    density_bias: float = -1.0
    """Added to the raw density before the softplus."""
    density_noise: float = 1.0
    """Standard deviation of the noise on the raw density in training."""
    rgb_padding: float = 0.001
    """Colours may exceed [0, 1] by this much."""
    coarse_weight: float = 0.1
    """Weight of the coarse level's colour loss; the fine level's is 1."""
    frequency_mask_steps: Optional[int] = 0
    """Steps until the whole encoding is visible (FreeNeRF); 0 switches the mask off; None: FreeNeRF's, nine tenths of
    its training: 62791 in NDC, 39550 in metric scenes."""
    frequency_mask_order: Literal["octave", "column"] = "column"
    """Order in which the mask opens: 'column' as in FreeNeRF's code (all sines before all cosines), 'octave' as in its
    text."""
    visible_ratio: Optional[float] = None
    """Instead of the mask's schedule: this fraction of the columns is visible from the first step to the last."""
    occlusion_weight: float = 0.0
    """Weight of the occlusion regularisation (FreeNeRF: 0.01), on the fine level."""
    occlusion_samples: Optional[int] = None
    """How many of a ray's first samples it covers; None: FreeNeRF's 20 in NDC, 10 in metric scenes."""
    occlusion_background_samples: Optional[int] = None
    """Among how many of the first samples nearly white or black ones count as well; None: none in NDC, FreeNeRF's 20
    for DTU in metric scenes."""


class MipNeRFModel(FewShotModel):
    """See `MipNeRFModelConfig`; what priors add to the loss comes from the pipeline."""

    config: MipNeRFModelConfig

    def populate_modules(self) -> None:
        """Builds the network and resolves what the paper gives separately for LLFF and DTU."""
        super().populate_modules()
        config, ndc = self.config, self.geometry.ray_space == "ndc"

        def choose(value: Any, in_ndc: Any, in_metric: Any) -> Any:
            return (in_ndc if ndc else in_metric) if value is None else value

        self.unit_viewdirs: bool = choose(config.unit_viewdirs, False, True)
        self.mask_steps: int = choose(config.frequency_mask_steps, 62791, 39550)
        self.occlusion_samples: int = choose(config.occlusion_samples, 20, 10)
        self.occlusion_background_samples: int = choose(config.occlusion_background_samples, 0, 20)
        self.field = MipNeRFField(
            num_layers=config.num_layers,
            width=config.width,
            skip_layer=config.skip_layer,
            num_octaves=config.num_octaves,
            view_octaves=config.view_octaves,
            colour_width=config.colour_width,
            density_bias=config.density_bias,
            rgb_padding=config.rgb_padding,
            include_mean=config.include_mean,
            compute_dtype=config.compute_dtype,
        )

    def anneal_defaults(self, ndc: bool) -> Tuple[int, float, Optional[float]]:
        """RegNeRF's annealing."""
        return (512, 1e-4, 1.0) if ndc else (256, 0.5, 0.5)

    def resolved(self) -> Dict[str, Any]:
        """Adds what this model resolved."""
        return {
            **super().resolved(),
            "unit_viewdirs": self.unit_viewdirs,
            "frequency_mask_steps": self.mask_steps,
            "occlusion_samples": self.occlusion_samples,
            "occlusion_background_samples": self.occlusion_background_samples,
        }

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """One group, so that the gradient's norm is clipped over all parameters together."""
        return {"field": list(self.field.parameters())}

    def encoding_masks(self) -> Tuple[Optional[Tensor], Optional[Tensor]]:
        """Visibility of the columns of the position and the direction encoding; None where all are visible."""
        ratio = self.config.visible_ratio
        if ratio is None and self.step >= self.mask_steps:
            return None, None
        columns, view_columns = self.field.encoded_columns, self.field.view_columns
        # The step counts from 1 for the first batch, as the original's.
        if self.config.frequency_mask_order == "column" or ratio is not None:
            masks = (
                frequency_mask(n, self.step + 1, self.mask_steps, self.device, ratio) for n in (columns, view_columns)
            )
            return tuple(masks)  # type: ignore[return-value]
        ones = torch.ones(3, device=self.device)
        octaves = (
            octave_mask(n, 3, self.step + 1, self.mask_steps, self.device)
            for n in (self.config.num_octaves, self.config.view_octaves)
        )
        position, view = octaves
        return (torch.cat([ones, position]) if self.config.include_mean else position), torch.cat([ones, view])

    def render_rays(self, rays: ModelRays, stratified: Optional[bool] = None) -> Dict[str, Tensor]:
        """Two levels; the fenceposts of the second follow from the weights of the first, without gradient."""
        config = self.config
        random = self.samples_at_random(stratified)
        shape = (len(rays.near), config.num_samples + 1)
        jitter = torch.rand(shape, dtype=rays.near.dtype, device=rays.near.device) if random else None
        viewdirs = rays.viewdirs if self.unit_viewdirs else rays.viewdirs * rays.z_scale
        mask, view_mask = self.encoding_masks()
        t = stratified_fenceposts(rays.near, rays.far, config.num_samples, jitter)
        outputs: Dict[str, Tensor] = {}
        for suffix in ("_coarse", ""):
            if suffix == "":
                t = resample_fenceposts(
                    t, outputs["weights_coarse"], config.num_samples, config.resample_padding, random
                )
            means, cov_diag = cast_rays(t, rays.origins, rays.directions, rays.radii, self.geometry.ray_shape)
            noise = None
            if self.training and config.density_noise > 0:
                noise = config.density_noise * torch.randn_like(t[:, 1:])
            density, rgb = self.field(means, cov_diag, viewdirs, mask, view_mask, noise)
            outputs[f"weights{suffix}"] = compositing_weights(density, t, rays.directions) * rays.valid
            outputs[f"t{suffix}"] = t
            outputs[f"sample_rgb{suffix}"] = rgb
            outputs[f"density{suffix}"] = density
        return outputs

    def get_loss_dict(
        self, outputs: Dict[str, Tensor], batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Colour of both levels, and the occlusion regularisation where it is switched on."""
        config, target = self.config, batch["image"].to(self.device)
        weights = batch.get("loss_weight")
        losses = {"rgb_loss": colour_loss(outputs["rgb"], target, weights)}
        if not self.training:
            return losses
        coarse = composite_rgb(outputs["sample_rgb_coarse"], outputs["weights_coarse"], self.geometry.background)
        losses["rgb_loss_coarse"] = config.coarse_weight * colour_loss(coarse, target, weights)
        if config.occlusion_weight > 0:
            extra = None
            if self.occlusion_background_samples > 0:
                extra = background_coloured(outputs["sample_rgb"].detach(), self.occlusion_background_samples)
            losses["occlusion_loss"] = config.occlusion_weight * occlusion_loss(
                outputs["density"], self.occlusion_samples, extra
            )
        return losses
