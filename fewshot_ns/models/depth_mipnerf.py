"""depth-mipnerf: mip-NeRF behind a proposal network, whose weights a measured depth can bound."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, FrozenSet, List, Optional, Tuple, Type

import torch
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.ray_space import ModelRays, normals_to_world
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.fields.mipnerf_field import MipNeRFField
from fewshot_ns.fields.proposal_field import ProposalField
from fewshot_ns.model_components.curricula import EncodedColumns, NearFarAnnealingConfig
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.interval_losses import interlevel_loss
from fewshot_ns.model_components.losses import charbonnier_loss
from fewshot_ns.model_components.ray_samplers import (
    depth_guided_fenceposts,
    resample_fenceposts,
    stratified_fenceposts,
)
from fewshot_ns.model_components.renderers import compositing_weights
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.models.convert_mipnerf import released_mipnerf
from fewshot_ns.models.ray_model import RayModel, RayModelConfig
from fewshot_ns.utils.checkpoints import load_strictly


@dataclass
class DepthMipNeRFModelConfig(RayModelConfig):
    """Proposal levels of one 4x256 network, then one level of mip-NeRF's 8x256 network."""

    _target: Type = field(default_factory=lambda: DepthMipNeRFModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 2048
    """Rays rendered at once at evaluation."""
    annealing: NearFarAnnealingConfig = field(default_factory=lambda: NearFarAnnealingConfig(steps=0))
    """Near and far that open slowly (RegNeRF); not in the original."""
    num_proposal_samples: Tuple[int, ...] = (64, 64)
    """Samples per ray of each proposal level; the original's other setting is one level of 128."""
    num_samples: int = 32
    """Samples per ray of the final level."""
    resample_padding: float = 0.01
    """Added to the blurred weights of a level before resampling."""
    num_proposal_layers: int = 4
    """Layers of the proposal network, which all its levels share."""
    proposal_width: int = 256
    """Width of the proposal network."""
    num_layers: int = 8
    """Layers of the trunk."""
    width: int = 256
    """Width of the trunk and of the bottleneck."""
    skip_layer: int = 5
    """Layer whose input is [activations, encoding]."""
    num_octaves: int = 16
    """Octaves 2^0 to 2^(n-1) of the integrated positional encoding."""
    view_octaves: int = 4
    """Octaves of the direction encoding."""
    colour_width: int = 128
    """Width of the colour branch."""
    embedding_size: int = 0
    """Entries of a learned vector per training view that the colour branch sees, zero at evaluation; 0: none. The
    original's configs name 4, which its code cannot run."""
    density_bias: float = -1.0
    """Added to the raw density before the softplus."""
    density_noise: float = 0.0
    """Standard deviation of the noise on the raw density in training, final level."""
    rgb_padding: float = 0.001
    """Colours may exceed [0, 1] by this much."""
    charbonnier_offset: float = 1e-3
    """Added to the squared colour error under the root."""
    proposal_weight: float = 1.0
    """Weight of the proposal levels' loss (the two-level setting: 0.05)."""
    depth_guided_samples: int = 0
    """How many of the first level's samples are drawn in training around the measured depth, with a learned width; the
    original's option draws 16 of its 64. Rays without depth, and all rays at evaluation, are sampled uniformly."""


class DepthMipNeRFModel(RayModel):
    """Renders by proposal levels and one final level; what priors add to the loss comes from the pipeline."""

    config: DepthMipNeRFModelConfig
    PROVIDES = RayModel.PROVIDES | {"normals"}
    masks_frequencies = True

    def populate_modules(self) -> None:
        """Builds both networks and the embedding of the training views.

        Raises:
            ValueError: no proposal level, or more samples around the measured depth than the first one has.
        """
        super().populate_modules()
        config = self.config
        if not config.num_proposal_samples:
            raise ValueError("expected at least one entry in --pipeline.model.num-proposal-samples, got none")
        if not 0 <= config.depth_guided_samples < config.num_proposal_samples[0]:
            raise ValueError(
                "expected --pipeline.model.depth-guided-samples below the samples of the first level "
                f"({config.num_proposal_samples[0]}), got {config.depth_guided_samples}"
            )
        self.length_unit = get_fewshot_metadata(self.kwargs["metadata"]).length_unit
        self.samples_by_depth = config.depth_guided_samples > 0
        self.proposal = ProposalField(
            config.num_proposal_layers,
            config.proposal_width,
            config.num_octaves,
            config.density_bias,
            config.compute_dtype,
        )
        self.field = MipNeRFField(
            num_layers=config.num_layers,
            width=config.width,
            skip_layer=config.skip_layer,
            num_octaves=config.num_octaves,
            view_octaves=config.view_octaves,
            colour_width=config.colour_width,
            density_bias=config.density_bias,
            rgb_padding=config.rgb_padding,
            embedding_columns=config.embedding_size,
            compute_dtype=config.compute_dtype,
        )
        size = config.embedding_size
        self.embedding = torch.nn.Embedding(self.num_train_data, size) if size > 0 else None
        self.log_depth_spread = Parameter(torch.tensor(_LOG_DEPTH_SPREAD))

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """One group, so that the gradient's norm is clipped over all parameters together."""
        networks = (self.field, self.proposal, self.embedding)
        parameters = [value for network in networks if network is not None for value in network.parameters()]
        return {"field": [*parameters, self.log_depth_spread]}

    def start_from(self, path: Path) -> None:
        """Loads the weights of a training checkpoint, or those of the original's.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is neither, or holds no proposal network.
            CheckpointMismatchError: networks of another size.
        """
        released = released_mipnerf(path)
        if released is None:
            super().start_from(path)
            return
        if released.proposal is None:
            raise ValueError(
                f"{path}: expected a proposal network (mip_nerf.prop_mlp.*), found plain mip-NeRF, which the method "
                "mipnerf-fewshot reads"
            )
        load_strictly(self.field, released.field, path)
        load_strictly(self.proposal, released.proposal, f"{path} (proposal network)")
        if released.log_depth_spread is not None:
            self.log_depth_spread.data.copy_(released.log_depth_spread.reshape(()))

    @property
    def labels(self) -> FrozenSet[str]:
        """Depth, where it guides samples."""
        return frozenset({"depth"}) if self.samples_by_depth else frozenset()

    def embedding_of(self, rays: ModelRays) -> Optional[Tensor]:
        """(R, embedding_size) of the training views of the rays; None, which means zeros, outside of training.

        Rays of unseen views get zeros as well.
        """
        if self.embedding is None or not self.training or rays.views is None:
            return None
        views = rays.views[:, 0]
        return torch.where((views >= 0)[:, None], self.embedding(views.clamp(min=0)), 0.0)

    def render_rays(self, rays: ModelRays, stratified: Optional[bool] = None) -> Dict[str, Tensor]:
        """Proposal levels, then the final one; fenceposts follow from the weights before, without gradient."""
        config = self.config
        random = self.samples_at_random(stratified)
        outputs: Dict[str, Tensor] = {}
        counts = config.num_proposal_samples
        encodings = [
            EncodedColumns(config.num_octaves, include_input=False),
            EncodedColumns(config.view_octaves, include_input=True),
        ]
        mask, view_mask = self.frequency_mask.apply(encodings, self.step, self.device)
        t = self._first_fenceposts(rays, counts[0], random)
        for level, following in enumerate((*counts[1:], config.num_samples)):
            density = self.proposal(*self._gaussians(t, rays), mask)
            weights = compositing_weights(density, t, rays.directions) * rays.valid
            outputs |= {f"t_proposal_{level}": t, f"weights_proposal_{level}": weights}
            outputs[f"density_proposal_{level}"] = density
            t = resample_fenceposts(t, weights, following, config.resample_padding, random)
        means, cov_diag = self._gaussians(t, rays)
        noise = None
        if self.training and config.density_noise > 0:
            noise = config.density_noise * torch.randn_like(t[:, 1:])
        density, rgb = self.field(
            means, cov_diag, rays.viewdirs, mask, view_mask, noise=noise, embedding=self.embedding_of(rays)
        )
        outputs["weights"] = compositing_weights(density, t, rays.directions)
        outputs |= {"t": t, "sample_rgb": rgb, "density": density}
        if self.training and "normals" in self.served:
            normals = self.field.trainable_normals(means, cov_diag, mask)
            outputs["normals"] = normals_to_world(normals, means, self.geometry)
        return outputs

    def _first_fenceposts(self, rays: ModelRays, count: int, random: bool) -> Tensor:
        jitter = torch.rand(len(rays.near), count + 1).to(rays.near) if random else None
        if not self.training or rays.measured is None or not self.samples_by_depth:
            return stratified_fenceposts(rays.near, rays.far, count, jitter)
        depth, slope = rays.measured.split(1, dim=-1)
        noise = torch.randn(len(depth), self.config.depth_guided_samples).to(depth)
        spread = self.log_depth_spread.exp() * slope * self.length_unit
        return depth_guided_fenceposts(rays.near, rays.far, count, depth, spread, noise, jitter)

    def _gaussians(self, t: Tensor, rays: ModelRays) -> Tuple[Tensor, Tensor]:
        return cast_rays(t, rays.origins, rays.directions, rays.radii, self.geometry.ray_shape)

    def proposal_losses(self, outputs: Rendering) -> Tensor:
        """(R, S) interlevel loss of each final sample, mean over the proposal levels."""
        samples, extras = outputs.samples, outputs.extras
        if samples is None:
            raise RuntimeError("the proposal is compared with the samples of a training step, and this is none")
        levels = range(len(self.config.num_proposal_samples))
        final = samples.t, samples.weights
        each = [interlevel_loss(*final, extras[f"t_proposal_{i}"], extras[f"weights_proposal_{i}"]) for i in levels]
        return torch.stack(each).mean(0)

    def get_loss_dict(  # type: ignore[override]
        self, outputs: Rendering, batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Colour and proposal."""
        config, target = self.config, batch["image"].to(self.device)
        losses = {
            "rgb_loss": charbonnier_loss(outputs.rgb, target, batch.get("loss_weight"), config.charbonnier_offset)
        }
        if self.training:
            losses["proposal_loss"] = config.proposal_weight * self.proposal_losses(outputs).mean()
        return losses


_LOG_DEPTH_SPREAD = -3.0
"""Start of the logarithm of the width of the samples around a measured depth, world units."""
