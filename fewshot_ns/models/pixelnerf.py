"""pixelNeRF: one network for all scenes, conditioned on a few source views of the scene that it renders."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Literal, Optional, Tuple, Type

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.encoders.resnet import ResNetEncoderConfig
from fewshot_ns.fields.pixelnerf_field import PixelNeRFField
from fewshot_ns.fields.source_features import SourceFeatures
from fewshot_ns.model_components.pixelnerf_draws import Draws, SampleCounts
from fewshot_ns.model_components.point_samples import (
    bounded_point_weights,
    importance_fractions,
    points_around_depth,
    points_in_bins,
    stratum_fractions,
)
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.model_components.rendering import RaySamples, Rendering
from fewshot_ns.models.conditioned_model import ConditionedModel, ConditionedModelConfig, rays_between
from fewshot_ns.models.convert_pixelnerf import released_state
from fewshot_ns.utils.checkpoints import load_strictly


@dataclass
class PixelNeRFModelConfig(ConditionedModelConfig):
    """pixelNeRF with the constants of its default configuration."""

    _target: Type = field(default_factory=lambda: PixelNeRFModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 1024
    """Rays rendered at once at evaluation."""
    encoder: ResNetEncoderConfig = field(default_factory=ResNetEncoderConfig)
    """Image encoder."""
    width: int = 512
    """Width of both networks."""
    num_blocks: int = 5
    """Residual blocks of both networks."""
    pool_before: int = 3
    """Block before which the source views are pooled."""
    pooling: Literal["average", "max"] = "average"
    """How source views are pooled."""
    spade: bool = False
    """Whether features also scale the networks' activations."""
    num_octaves: int = 6
    """Octaves of the position encoding."""
    frequency: float = 1.5
    """Lowest frequency of the position encoding, radians per world unit."""
    camera_positions: bool = False
    """Encode points relative to the source camera; False (original): relative to the world's origin, in its axes."""
    num_samples: int = 64
    """Samples per ray of the coarse network."""
    num_importance_samples: int = 16
    """Further samples of the fine network where the coarse weights are."""
    num_depth_samples: int = 16
    """Further samples of the fine network around the coarse depth; with no further samples there is no fine network."""
    depth_deviation: float = 0.01
    """Standard deviation of the samples around the coarse depth, world units."""
    in_disparity: bool = False
    """Whether samples lie at equal steps in 1 / distance."""
    min_eval_samples: int = 64
    """Fewest samples of the coarse network at evaluation."""
    eval_samples: Literal["random", "centred"] = "random"
    """Samples at evaluation: drawn as in training (original), or the middle of their strata, the same each time."""
    eval_coarse_only: bool = False
    """Evaluate the coarse network instead of the fine one, with 64 samples and 128 further ones."""
    density_activation: Literal["relu", "softplus"] = "relu"
    """What makes a density of the network's output; under relu (original) a ray on which all are negative learns
    nothing."""
    density_noise: float = 0.0
    """Standard deviation of the noise on the raw density in training."""
    colour_loss: Literal["mse", "l1"] = "mse"
    """Colour loss of both networks."""
    coarse_weight: float = 1.0
    """Weight of the coarse network's colour loss."""
    fine_weight: float = 1.0
    """Weight of the fine network's colour loss."""


_COARSE_ONLY = 128
"""Further samples, in all, where the coarse network alone is evaluated (pixelNeRF's own evaluation)."""


class PixelNeRFModel(ConditionedModel):
    """Renders rays from features of source views; `condition` has to be called before."""

    config: PixelNeRFModelConfig

    def populate_modules(self) -> None:
        """Builds encoder and networks; `load_encoder_weights` loads ImageNet weights later."""
        super().populate_modules()
        config = self.config
        self.encoder = config.encoder.setup()
        self.mlp_coarse = self._build_field()
        fine = config.num_importance_samples + config.num_depth_samples > 0
        self.mlp_fine = self._build_field() if fine else None
        self._sources: Optional[SourceFeatures] = None

    def _build_field(self) -> PixelNeRFField:
        config = self.config
        return PixelNeRFField(
            in_columns=3 * (2 * config.num_octaves + 1) + 3,
            latent_columns=self.encoder.columns,
            width=config.width,
            num_blocks=config.num_blocks,
            pool_before=config.pool_before,
            pooling=config.pooling,
            spade=config.spade,
            compute_dtype=config.compute_dtype,
        )

    def load_encoder_weights(self) -> None:
        """Loads the encoder's ImageNet weights where the config asks for them; before training from scratch.

        Raises:
            WeightsNotFoundError: they are not found.
        """
        self.config.encoder.load(self.encoder, "--pipeline.model.encoder.weights")

    def start_from(self, path: Path) -> None:
        """Loads the weights of a training checkpoint, or of a released one (`pixel_nerf_latest`).

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is neither.
            CheckpointMismatchError: networks of another size.
        """
        state = released_state(path, self)
        if state is None:
            super().start_from(path)
            return
        # Parameters and buffers of nerfstudio's model and of the base class, which are not the networks'.
        own = dict([*self.named_buffers(recurse=False), *self.named_parameters(recurse=False)])
        load_strictly(self, {**own, **state}, path)

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """One group, of all parameters that learn."""
        parts = [part for part in (self.encoder, self.mlp_coarse, self.mlp_fine) if part is not None]
        return {"field": [value for part in parts for value in part.parameters() if value.requires_grad]}

    def encode_sources(self, conditioning: Conditioning) -> None:
        """Encodes source views of B scenes and keeps their features for the rays that follow."""
        conditioning, config = conditioning.to(self.device), self.config
        self._sources = SourceFeatures(
            conditioning,
            self.encoder(conditioning.images.flatten(0, 1)),
            padding=config.encoder.padding,
            interpolation=config.encoder.interpolation,
            frequency=config.frequency,
            num_octaves=config.num_octaves,
            camera_positions=config.camera_positions,
        )

    @property
    def sources(self) -> SourceFeatures:
        """The source views that the model is conditioned on.

        Raises:
            RuntimeError: nothing yet.
        """
        if self._sources is None:
            raise RuntimeError(f"{type(self).__name__} was shown no source views: call condition() before it renders")
        return self._sources

    def samples_at_random(self, stratified: Optional[bool]) -> bool:
        """In training as asked, at random for None; at evaluation as configured."""
        return stratified is not False if self.training else self.config.eval_samples == "random"

    def render_bundle(
        self,
        ray_bundle: RayBundle,
        stratified: Optional[bool] = None,
        coarse_only: bool = False,
        annealed: bool = False,
    ) -> Rendering:
        """Renders world rays (R,), of the scenes that `SCENE_INDEX_KEY` names, else of scene 0."""
        conditioning = self.sources.conditioning
        scenes, near, far = rays_between(ray_bundle, conditioning)
        counts = self._counts()
        draws = (Draws.random if self.samples_at_random(stratified) else Draws.even)(near, counts)
        only = coarse_only and self.mlp_fine is not None
        levels = self.levels_of(ray_bundle.origins, ray_bundle.directions, near, far, scenes, draws, only)
        norm = ray_bundle.metadata.get("directions_norm", torch.ones_like(near))
        renderings: Dict[str, Rendering] = {}
        for suffix, level in levels.items():
            weights, z = level["weights"], level["z"]
            accumulation = weights.sum(-1, keepdim=True)
            mean = (weights * z).sum(-1, keepdim=True) / accumulation.clamp(min=torch.finfo(torch.float32).eps)
            depth = torch.clamp(mean, near, far)
            # Priors measure in units of the un-normalised direction.
            t = torch.cat([z, far], dim=-1) / norm
            renderings[suffix] = Rendering(
                rgb=composite_rgb(level["sample_rgb"], weights, conditioning.background),
                depth=depth,
                accumulation=accumulation,
                distance=depth / norm,
                viewdirs=ray_bundle.directions,
                samples=RaySamples(weights, t, level["sample_rgb"], level["density"]) if self.training else None,
            )
        coarse = renderings.get("_coarse")
        final = replace(renderings.get("", coarse), coarse=coarse)  # type: ignore[type-var]
        if self.training or coarse is None:
            return final
        names = ("rgb", "depth", "accumulation")
        shown = {"rgb": coarse.rgb.clamp(0.0, 1.0), "depth": coarse.depth, "accumulation": coarse.accumulation}
        return replace(final, extras={f"{name}_coarse": shown[name] for name in names})

    def levels_of(
        self,
        origins: Tensor,
        directions: Tensor,
        near: Tensor,
        far: Tensor,
        scenes: Tensor,
        draws: Draws,
        coarse_only: bool = False,
    ) -> Dict[str, Dict[str, Tensor]]:
        """Levels of rays in world space.

        Args:
            origins: (R, 3).
            directions: (R, 3), of unit length.
            near: (R, 1).
            far: (R, 1).
            scenes: (R,) index of each ray's scene in the conditioning.
            draws: where the samples lie.
            coarse_only: whether the fine level is left out.

        Returns:
            by suffix of their outputs, '_coarse' and '' ('' alone of a model without a fine network), `z` (R, S),
            `density` (R, S), `weights` (R, S) and `sample_rgb` (R, S, 3).
        """
        config, disparity = self.config, self.config.in_disparity
        activation = torch.relu if config.density_activation == "relu" else torch.nn.functional.softplus

        sources = self.sources.for_pass()

        def query(network: PixelNeRFField, z: Tensor) -> Tuple[Tensor, Tensor]:
            density, rgb = sources.query(network, origins, directions, z, scenes)
            if self.training and config.density_noise > 0:
                density = density + config.density_noise * torch.randn_like(density)
            return activation(density), torch.sigmoid(rgb)

        def level(z: Tensor, density: Tensor, rgb: Tensor) -> Dict[str, Tensor]:
            weights = bounded_point_weights(density, z, far)
            return {"z": z, "density": density, "weights": weights, "sample_rgb": rgb}

        z = points_in_bins(near, far, stratum_fractions(draws.coarse), disparity)
        coarse = level(z, *query(self.mlp_coarse, z))
        network = self.mlp_coarse if self._coarse_alone else self.mlp_fine
        if network is None:
            return {"": coarse}
        if coarse_only:
            return {"_coarse": coarse}
        fractions = importance_fractions(coarse["weights"], draws.importance, draws.jitter)
        fixed = torch.cat([z, points_in_bins(near, far, fractions, disparity)], dim=-1)
        depth = (coarse["weights"] * z).sum(-1, keepdim=True)
        around = points_around_depth(depth, draws.noise, config.depth_deviation, near, far)
        # Only the points around the depth have a gradient, so they are evaluated on their own.
        both = zip(query(network, fixed), query(network, around), strict=True)
        density, rgb = (torch.cat(parts, dim=1) for parts in both)
        z, order = torch.cat([fixed, around], dim=-1).sort(dim=-1)
        fine = level(z, density.gather(1, order), rgb.gather(1, order[..., None].expand_as(rgb)))
        return {"_coarse": coarse, "": fine}

    @torch.no_grad()
    def query_points(self, points: Tensor, directions: Tensor) -> Tuple[Tensor, Tensor]:
        """Density and colour of points, by the network whose renderings are shown.

        Args:
            points: (P, 3) in the world of scene 0 of the conditioning.
            directions: (P, 3) of unit length, in which they are looked at; density depends on it, too.

        Returns:
            (P,) and (P, 3), the latter in [0, 1].
        """
        activation = torch.relu if self.config.density_activation == "relu" else torch.nn.functional.softplus
        network = self.mlp_coarse if self._coarse_alone or self.mlp_fine is None else self.mlp_fine
        here, scenes = torch.zeros_like(points[:, :1]), torch.zeros_like(points[:, 0], dtype=torch.long)
        density, rgb = self.sources.query(network, points, directions, here, scenes)
        return activation(density[:, 0]), torch.sigmoid(rgb[:, 0])

    @property
    def _coarse_alone(self) -> bool:
        return self.config.eval_coarse_only and not self.training

    def _counts(self) -> SampleCounts:
        config = self.config
        counts = SampleCounts(config.num_samples, config.num_importance_samples, config.num_depth_samples)
        if self.training:
            return counts
        counts = counts._replace(coarse=max(counts.coarse, config.min_eval_samples))
        return counts._replace(importance=_COARSE_ONLY - counts.depth) if self._coarse_alone else counts

    def get_loss_dict(  # type: ignore[override]
        self, outputs: Rendering, batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Colour losses of both networks."""
        target = batch["image"].to(self.device)[..., :3]
        measure = torch.nn.functional.mse_loss if self.config.colour_loss == "mse" else torch.nn.functional.l1_loss
        losses = {"rgb_loss": self.config.fine_weight * measure(outputs.rgb, target)}
        if outputs.coarse is not None:
            losses["rgb_loss_coarse"] = self.config.coarse_weight * measure(outputs.coarse.rgb, target)
        return losses
