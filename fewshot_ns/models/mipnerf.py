"""mip-NeRF as RegNeRF, FreeNeRF and SparseNeRF train it on a few views: one network, two levels of samples."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Type

import torch
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.ray_space import ModelRays, normals_to_world
from fewshot_ns.cameras.scene_geometry import RaySpace
from fewshot_ns.fields.mipnerf_field import MipNeRFField
from fewshot_ns.model_components.curricula import AnnealingDefaults, EncodedColumns, NearFarAnnealingConfig
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.losses import colour_loss
from fewshot_ns.model_components.ray_samplers import resample_fenceposts, stratified_fenceposts
from fewshot_ns.model_components.renderers import compositing_weights
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.models.convert_mipnerf import released_mipnerf
from fewshot_ns.models.ray_model import RayModel, RayModelConfig
from fewshot_ns.utils.checkpoints import load_strictly


@dataclass
class MipNeRFModelConfig(RayModelConfig):
    """Two levels of one 8x256 network on integrated encodings, black background, RegNeRF's constants."""

    _target: Type = field(default_factory=lambda: MipNeRFModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 1024
    """Rays rendered at once at evaluation."""
    annealing: NearFarAnnealingConfig = field(default_factory=lambda: NearFarAnnealingConfig(steps=0))
    """Near and far that open slowly (RegNeRF; for 9 views it does not anneal)."""
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
    """Whether the network sees unit view directions; None: yes in metric scenes; in NDC, as in the original code,
    the un-normalised world direction of the pixel."""
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


class MipNeRFModel(RayModel):
    """Renders two levels of samples of one network; what priors add to the loss comes from the pipeline."""

    config: MipNeRFModelConfig
    PROVIDES = RayModel.PROVIDES | {"normals"}
    ANNEALING_DEFAULTS: Dict[RaySpace, AnnealingDefaults] = {
        "ndc": AnnealingDefaults(512, 1e-4, 1.0),
        "metric": AnnealingDefaults(256, 0.5, 0.5),
    }
    masks_frequencies = True

    def populate_modules(self) -> None:
        """Builds the network and resolves what the paper gives separately for LLFF and DTU."""
        super().populate_modules()
        config, metric = self.config, self.geometry.ray_space == "metric"
        self.unit_viewdirs = metric if config.unit_viewdirs is None else config.unit_viewdirs
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

    def resolved(self) -> Dict[str, Any]:
        """Adds what this model resolved."""
        return {**super().resolved(), "unit_viewdirs": self.unit_viewdirs}

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """One group, so that the gradient's norm is clipped over all parameters together."""
        return {"field": list(self.field.parameters())}

    def start_from(self, path: Path) -> None:
        """Loads the weights of a training checkpoint, or those of mipnerf_pl's mip-NeRF.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is neither, or holds a proposal network as well.
            CheckpointMismatchError: a network of another size.
        """
        released = released_mipnerf(path)
        if released is None:
            super().start_from(path)
            return
        if released.proposal is not None:
            raise ValueError(
                f"{path}: expected one network for both levels, found a proposal network (mip_nerf.prop_mlp.*); the "
                "method depth-mipnerf has one"
            )
        load_strictly(self.field, released.field, path)

    def encoding_masks(self) -> Tuple[Optional[Tensor], Optional[Tensor]]:
        """Visibility of the columns of the position and the direction encoding; None where all are visible."""
        config = self.config
        encodings = [
            EncodedColumns(config.num_octaves, config.include_mean),
            EncodedColumns(config.view_octaves, include_input=True),
        ]
        mask, view_mask = self.frequency_mask.apply(encodings, self.step, self.device)
        return mask, view_mask

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
        if self.training and "normals" in self.served:
            normals = self.field.trainable_normals(means, cov_diag, mask)
            outputs["normals"] = normals_to_world(normals, means, self.geometry)
        return outputs

    def get_loss_dict(  # type: ignore[override]
        self, outputs: Rendering, batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Colour of both levels."""
        target, weights = batch["image"].to(self.device), batch.get("loss_weight")
        losses = {"rgb_loss": colour_loss(outputs.rgb, target, weights)}
        if not self.training or outputs.coarse is None:
            return losses
        losses["rgb_loss_coarse"] = self.config.coarse_weight * colour_loss(outputs.coarse.rgb, target, weights)
        return losses
