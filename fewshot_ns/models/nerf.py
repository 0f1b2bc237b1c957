"""The NeRF under DietNeRF: two networks, a coarse and a fine one, on points along rays."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Literal, Optional, Type

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.ray_space import ModelRays, normals_to_world, to_model_rays
from fewshot_ns.fields.nerf_field import NeRFField
from fewshot_ns.model_components.curricula import EncodedColumns, NearFarAnnealingConfig
from fewshot_ns.model_components.losses import colour_loss
from fewshot_ns.model_components.point_samples import (
    point_fenceposts,
    point_weights,
    resample_points,
    stratified_points,
)
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.models.convert_dietnerf import released_networks
from fewshot_ns.models.ray_model import RayModel, RayModelConfig
from fewshot_ns.utils.checkpoints import CheckpointMismatchError, load_strictly


@dataclass
class NeRFModelConfig(RayModelConfig):
    """NeRF with DietNeRF's constants; what makes it a DietNeRF is the pipeline's semantic prior."""

    _target: Type = field(default_factory=lambda: NeRFModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 2048
    """Rays rendered at once at evaluation."""
    annealing: NearFarAnnealingConfig = field(default_factory=lambda: NearFarAnnealingConfig(steps=0))
    """Near and far that open slowly (RegNeRF); not in the original."""
    num_samples: int = 64
    """Samples per ray of the coarse network."""
    num_importance_samples: int = 128
    """Further samples per ray of the fine network, which evaluates all; 0: no fine network (simplified NeRF)."""
    in_disparity: bool = False
    """Whether the coarse samples lie at equal steps in 1 / distance, which a near of zero (NDC) does not allow."""
    num_layers: int = 8
    """Layers of the trunk."""
    width: int = 256
    """Width of the trunk and of the bottleneck."""
    skip_layer: int = 5
    """Layer whose input is [encoding, activations]."""
    num_octaves: int = 10
    """Octaves 2^0 to 2^(n-1) of the position encoding (simplified NeRF: 6, hotdog 5)."""
    view_octaves: int = 4
    """Octaves of the direction encoding."""
    view_dependent: bool = True
    """Whether colour depends on the viewing direction (simplified NeRF: only for lego)."""
    colour_width: int = 128
    """Width of the colour branch."""
    density_activation: Literal["relu", "softplus"] = "relu"
    """Activation that makes a density of the network's output."""
    density_noise: float = 0.0
    """Standard deviation of the noise on the raw density in training."""
    coarse_weight: float = 1.0
    """Weight of the coarse network's colour loss; the fine network's is 1."""


class NeRFModel(RayModel):
    """Renders a coarse and a fine network; what priors add to the loss comes from the pipeline."""

    config: NeRFModelConfig
    PROVIDES = RayModel.PROVIDES | {"normals"}
    masks_frequencies = True

    def populate_modules(self) -> None:
        """Builds one or two networks.

        Raises:
            ValueError: samples at equal steps in disparity in a scene whose near is zero.
        """
        super().populate_modules()
        config = self.config
        if config.in_disparity and self.geometry.near <= 0:
            raise ValueError(
                f"--pipeline.model.in-disparity needs a near above zero, and this {self.geometry.ray_space} scene's "
                f"is {self.geometry.near:g}"
            )
        self.coarse = self._build_field()
        self.fine = self._build_field() if config.num_importance_samples > 0 else None

    def _build_field(self) -> NeRFField:
        config = self.config
        return NeRFField(
            num_layers=config.num_layers,
            width=config.width,
            skip_layer=config.skip_layer,
            num_octaves=config.num_octaves,
            view_octaves=config.view_octaves if config.view_dependent else None,
            colour_width=config.colour_width,
            density_activation=config.density_activation,
            compute_dtype=config.compute_dtype,
        )

    def start_from(self, path: Path) -> None:
        """Loads the weights of a training checkpoint, or those of DietNeRF's released ones.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is neither.
            CheckpointMismatchError: networks of another size.
        """
        states = released_networks(path, self.config.num_octaves, self.config.view_octaves)
        if states is None:
            super().start_from(path)
            return
        networks = self._networks()
        if len(states) != len(networks):
            raise CheckpointMismatchError(f"{path}: expected {len(networks)} networks, found {len(states)}")
        for name, network, state in zip(("coarse", "fine"), networks, states, strict=False):
            load_strictly(network, state, f"{path} ({name} network)")

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """One group."""
        return {"field": [value for network in self._networks() for value in network.parameters()]}

    def _networks(self) -> List[NeRFField]:
        return [self.coarse] if self.fine is None else [self.coarse, self.fine]

    def render_rays(self, rays: ModelRays, stratified: Optional[bool] = None) -> Dict[str, Tensor]:
        """The coarse level, then the fine one on its samples and on those drawn by its weights."""
        random = self.samples_at_random(stratified)
        z = self._coarse_points(rays, random)
        level = self._render_level(self.coarse, rays, z)
        if self.fine is None:
            return level
        u = self._positions(z, random)
        z = torch.cat([z, resample_points(z, level["weights"], u)], dim=-1).sort(dim=-1).values
        coarse = {f"{name}_coarse": value for name, value in level.items()}
        return {**coarse, **self._render_level(self.fine, rays, z)}

    def render_bundle(
        self,
        ray_bundle: RayBundle,
        stratified: Optional[bool] = None,
        coarse_only: bool = False,
        annealed: bool = False,
    ) -> Rendering:
        """As every ray backbone's, but the coarse network alone with `coarse_only`."""
        if not coarse_only or self.fine is None:
            return super().render_bundle(ray_bundle, stratified, coarse_only, annealed)
        rays = to_model_rays(ray_bundle, self.geometry)
        points = self._coarse_points(rays, self.samples_at_random(stratified))
        coarse = self.composite(self._render_level(self.coarse, rays, points), rays)
        return replace(coarse, coarse=coarse)

    def _coarse_points(self, rays: ModelRays, random: bool) -> Tensor:
        count, jitter = self.config.num_samples, None
        if random:
            jitter = torch.rand(len(rays.near), count, dtype=rays.near.dtype, device=rays.near.device)
        return stratified_points(rays.near, rays.far, count, jitter, self.config.in_disparity)

    def _positions(self, like: Tensor, random: bool) -> Tensor:
        """(R, N) positions in [0, 1] at which the coarse weights are resampled."""
        shape = len(like), self.config.num_importance_samples
        if random:
            return torch.rand(*shape, dtype=like.dtype, device=like.device)
        return torch.linspace(0.0, 1.0, shape[1], dtype=like.dtype, device=like.device).expand(*shape)

    def _render_level(self, network: NeRFField, rays: ModelRays, z: Tensor) -> Dict[str, Tensor]:
        noise = None
        if self.training and self.config.density_noise > 0:
            noise = self.config.density_noise * torch.randn_like(z)
        positions = rays.origins[:, None] + z[..., None] * rays.directions[:, None]
        masks = self.encoding_masks()
        density, rgb = network(positions, rays.viewdirs, noise, *masks)
        level = {
            "weights": point_weights(density, z, rays.directions) * rays.valid,
            "t": point_fenceposts(z, rays.far),
            "sample_rgb": rgb,
            "density": density,
        }
        if self.training and "normals" in self.served and network is (self.fine or self.coarse):
            normals = network.trainable_normals(positions, masks[0])
            level["normals"] = normals_to_world(normals, positions, self.geometry)
        return level

    def encoding_masks(self) -> List[Optional[Tensor]]:
        """Visibility of the columns of the position and the direction encoding; None where all are visible."""
        config = self.config
        encodings = [EncodedColumns(config.num_octaves, True, by_octave=True)]
        if config.view_dependent:
            encodings.append(EncodedColumns(config.view_octaves, True, by_octave=True))
        return self.frequency_mask.apply(encodings, self.step, self.device)

    def get_loss_dict(  # type: ignore[override]
        self, outputs: Rendering, batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Mean squared error of the colours of both networks."""
        target, weights = batch["image"].to(self.device), batch.get("loss_weight")
        losses = {"rgb_loss": colour_loss(outputs.rgb, target, weights) / 3.0}
        if not self.training or outputs.coarse is None:
            return losses
        losses["rgb_loss_coarse"] = self.config.coarse_weight * colour_loss(outputs.coarse.rgb, target, weights) / 3.0
        return losses
