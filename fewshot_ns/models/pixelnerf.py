"""pixelNeRF: one network for all scenes, which looks at a few source views of the scene that it renders."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Literal, NamedTuple, Optional, Tuple, Type

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.data.scene_table import SCENE_INDEX_KEY, Conditioning
from fewshot_ns.encoders.resnet import Backbone, Norm, ResNetEncoder
from fewshot_ns.field_components.encodings import positional_encoding
from fewshot_ns.fields.pixelnerf_field import PixelNeRFField
from fewshot_ns.model_components.point_samples import (
    bounded_point_weights,
    importance_fractions,
    points_around_depth,
    points_in_bins,
)
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.model_components.source_views import Interpolation, Padding, SourceCameras, look_up, lookup_taps
from fewshot_ns.models.fewshot_model import DISTANCE_MEAN, FewShotModel, FewShotModelConfig
from fewshot_ns.models.pixelnerf_checkpoints import released_state
from fewshot_ns.utils.checkpoints import load_strictly


@dataclass
class ResNetEncoderConfig:
    """The image encoder and where its weights come from."""

    backbone: Backbone = "resnet34"
    """Network, by torchvision's name."""
    num_layers: int = 4
    """Maps that are joined: the first convolution's and those of the stages after it."""
    first_pool: bool = True
    """Whether the max pooling before the first stage is there; the published 64x64 settings leave it out."""
    norm: Norm = "batch"
    """Normalisation layers; only batch norms have ImageNet weights."""
    feature_scale: float = 1.0
    """Images are resized by this factor before they are encoded."""
    padding: Padding = "border"
    """What a point sees that falls beside a source image: the nearest feature, or zeros."""
    interpolation: Interpolation = "bilinear"
    """How features are looked up between the pixels of their map."""
    frozen: bool = False
    """Whether weights and batch statistics stay as they are."""
    keep_unused: bool = True
    """Whether stages that are not joined are held, as in the released checkpoints."""
    pretrained: bool = True
    """Whether training starts from ImageNet weights; without them, random initialisation has to be asked for."""
    weights: Optional[Path] = None
    """File with the ImageNet weights, or a folder that holds it; None: FEWSHOT_WEIGHTS, torch's cache, a download."""
    download: bool = True
    """Whether weights that are nowhere on this disk may be downloaded."""


@dataclass
class PixelNeRFModelConfig(FewShotModelConfig):
    """pixelNeRF with the constants of its default configuration."""

    _target: Type = field(default_factory=lambda: PixelNeRFModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 1024
    """Rays rendered at once at evaluation."""
    anneal_steps: Optional[int] = 0
    """Unused: near and far are those of the scene from the first step on."""
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
    """Evaluate the coarse network in place of the fine one, with 64 samples and 128 further ones."""
    density_noise: float = 0.0
    """Standard deviation of the noise on the raw density in training."""
    colour_loss: Literal["mse", "l1"] = "mse"
    """Colour loss of both networks."""
    coarse_weight: float = 1.0
    """Weight of the coarse network's colour loss."""
    fine_weight: float = 1.0
    """Weight of the fine network's colour loss."""


class Conditioned(NamedTuple):
    """What the model knows of the source views it was shown."""

    given: Conditioning
    """The source views, on the model's device."""
    cameras: SourceCameras
    """Their cameras."""
    latents: Tensor
    """(B * V * h * w, C) features of all pixels of all maps."""
    map_size: Tuple[int, int]
    """(w, h)."""


class Samples(NamedTuple):
    """How many samples a ray has."""

    coarse: int
    """Of the coarse network."""
    importance: int
    """Further ones by the coarse weights."""
    depth: int
    """Further ones around the coarse depth."""


_COARSE_ONLY = 128
"""Further samples, in all, where the coarse network alone is evaluated (pixelNeRF's own evaluation)."""


class PixelNeRFModel(FewShotModel):
    """See `PixelNeRFModelConfig`. `condition` has to be called before rays are asked for."""

    config: PixelNeRFModelConfig

    def populate_modules(self) -> None:
        """Builds encoder and networks; ImageNet weights come later, by `load_encoder_weights`."""
        super().populate_modules()
        config, encoder = self.config, self.config.encoder
        self.encoder = ResNetEncoder(
            *(encoder.backbone, encoder.num_layers, encoder.first_pool, encoder.norm, encoder.feature_scale),
            frozen=encoder.frozen,
            keep_unused=encoder.keep_unused,
        )
        self.mlp_coarse = self._build_field()
        fine = config.num_importance_samples + config.num_depth_samples > 0
        self.mlp_fine = self._build_field() if fine else None
        self._conditioned: Optional[Conditioned] = None
        self._projected: Dict[PixelNeRFField, Tensor] = {}

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
        """Takes the encoder's ImageNet weights where the config asks for them; before training from scratch.

        Raises:
            WeightsNotFoundError: they are nowhere to be had.
        """
        encoder = self.config.encoder
        if encoder.pretrained:
            self.encoder.load_imagenet(encoder.weights, encoder.download, "--pipeline.model.encoder.weights")

    def start_from(self, path: Path) -> None:
        """Takes the weights of a training checkpoint, or of a released one (`pixel_nerf_latest`).

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is neither.
            CheckpointMismatchError: networks of another size.
        """
        state = released_state(path, self)
        if state is None:
            super().start_from(path)
            return
        own = dict(self.named_buffers(recurse=False))
        load_strictly(self, {**own, **state}, path)

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """One group, of all parameters that learn."""
        return {"field": [value for value in self.parameters() if value.requires_grad]}

    def condition(self, conditioning: Conditioning) -> None:
        """Shows the model the source views of the scenes whose rays come next, until the next call.

        They are encoded once; in training with a graph, so that the loss of all rays reaches the encoder.

        Args:
            conditioning: B scenes of V views each.
        """
        tensors = {name: value for name, value in vars(conditioning).items() if isinstance(value, Tensor)}
        given = replace(conditioning, **{name: value.to(self.device) for name, value in tensors.items()})
        maps = self.encoder(given.images.flatten(0, 1))
        self._conditioned = Conditioned(
            given=given,
            cameras=SourceCameras.of(given),
            latents=maps.movedim(1, -1).flatten(0, 2),
            map_size=(maps.shape[-1], maps.shape[-2]),
        )
        self._projected = {}

    @property
    def conditioned(self) -> Conditioned:
        """What `condition` was given.

        Raises:
            RuntimeError: it was not called.
        """
        if self._conditioned is None:
            raise RuntimeError(f"{type(self).__name__} was shown no source views: call condition() before it renders")
        return self._conditioned

    def get_outputs(self, ray_bundle: RayBundle) -> Dict[str, Tensor]:  # type: ignore[override]
        """Outputs of world rays (R,), of the scenes that `SCENE_INDEX_KEY` names, else of scene 0."""
        known = self.conditioned.given
        index = ray_bundle.metadata.get(SCENE_INDEX_KEY)
        origins = ray_bundle.origins
        scenes = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
        scenes = scenes if index is None else index[:, 0].to(scenes)
        near, far = (bound.to(origins)[scenes, None] for bound in (known.near, known.far))
        levels = self.render_rays_of(origins, ray_bundle.directions, near, far, scenes)
        outputs: Dict[str, Tensor] = {}
        for suffix, level in levels.items():
            weights, z = level["weights"], level["z"]
            accumulation = weights.sum(-1, keepdim=True)
            rgb = composite_rgb(level["sample_rgb"], weights, known.background)
            mean = (weights * z).sum(-1, keepdim=True) / accumulation.clamp(min=torch.finfo(torch.float32).eps)
            outputs[f"rgb{suffix}"] = rgb if self.training else rgb.clamp(0.0, 1.0)
            outputs[f"depth{suffix}"] = torch.minimum(torch.maximum(mean, near), far)
            outputs[f"accumulation{suffix}"] = accumulation
        if self.training:
            norm = ray_bundle.metadata.get("directions_norm", torch.ones_like(near))
            outputs["weights"], outputs["t"] = levels[""]["weights"], torch.cat([levels[""]["z"], far], dim=-1) / norm
            outputs[DISTANCE_MEAN] = outputs["depth"] / norm
        return outputs

    def render_rays_of(
        self, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, scenes: Tensor
    ) -> Dict[str, Dict[str, Tensor]]:
        """Levels of rays in world space.

        Args:
            origins: (R, 3).
            directions: (R, 3), of unit length.
            near: (R, 1).
            far: (R, 1).
            scenes: (R,) which of the scenes shown.

        Returns:
            by suffix of their outputs, '_coarse' and '' (or '' alone), `z` (R, S), `weights` (R, S) and
            `sample_rgb` (R, S, 3).
        """
        count = self._samples()
        rotated = [self.conditioned.cameras.rotated(vectors, scenes) for vectors in (origins, directions)]

        def query(network: PixelNeRFField, z: Tensor) -> Tuple[Tensor, Tensor]:
            return self._query(network, rotated[0], rotated[1], z, scenes)

        def level(z: Tensor, density: Tensor, rgb: Tensor) -> Dict[str, Tensor]:
            return {"z": z, "weights": bounded_point_weights(density, z, far), "sample_rgb": rgb}

        z = points_in_bins(near, far, self._fractions(near, count.coarse), self.config.in_disparity)
        coarse = level(z, *query(self.mlp_coarse, z))
        if count.importance + count.depth == 0:
            return {"": coarse}
        drawn = self._importance(coarse["weights"], count.importance)
        further = points_in_bins(near, far, drawn, self.config.in_disparity)
        depth = (coarse["weights"] * z).sum(-1, keepdim=True)
        around = points_around_depth(depth, self._noise(near, count.depth), self.config.depth_deviation, near, far)
        network = self.mlp_coarse if self.mlp_fine is None or self._coarse_alone else self.mlp_fine
        # Only the points around the depth have a gradient, so they are looked at on their own.
        fixed = torch.cat([z, further], dim=-1)
        density, rgb = (
            torch.cat(parts, dim=1) for parts in zip(query(network, fixed), query(network, around), strict=True)
        )
        z, order = torch.cat([fixed, around], dim=-1).sort(dim=-1)
        fine = level(z, density.gather(1, order), rgb.gather(1, order[..., None].expand_as(rgb)))
        return {"_coarse": coarse, "": fine}

    def _query(
        self, network: PixelNeRFField, origins: Tensor, directions: Tensor, z: Tensor, scenes: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """(R, S) density and (R, S, 3) colour at distances z (R, S) along rays (V, R, 3) in the axes of the views."""
        known, encoder = self.conditioned, self.config.encoder
        rotated = origins[:, :, None] + z[..., None] * directions[:, :, None]
        height, width = known.given.images.shape[2:4]
        uv = known.cameras.project(rotated, scenes)
        pixels, shares = lookup_taps(uv, (width, height), known.map_size, encoder.padding, encoder.interpolation)
        views = torch.arange(len(rotated), device=scenes.device)[:, None]
        start = (scenes * len(rotated) + views) * (known.map_size[0] * known.map_size[1])
        projected = self._features(network, pixels + start[..., None, None], shares)
        if self.config.camera_positions:
            rotated = rotated + known.cameras.translations[scenes].transpose(0, 1)[:, :, None]
        encoded = positional_encoding(self.config.frequency * rotated, self.config.num_octaves, False, by_octave=True)
        along = directions[:, :, None].expand_as(rotated)
        inputs = torch.cat([rotated, encoded, along], dim=-1)
        raw = network(inputs.flatten(1, 2), projected.flatten(1, 2)).view(*z.shape, 4)
        density = raw[..., 3]
        if self.training and self.config.density_noise > 0:
            density = density + self.config.density_noise * torch.randn_like(density)
        return torch.relu(density), torch.sigmoid(raw[..., :3])

    def _features(self, network: PixelNeRFField, pixels: Tensor, shares: Tensor) -> Tensor:
        """(V, R, S, P) projected features at points, by whichever order of look-up and projection costs less."""
        latents = self.conditioned.latents
        graph = torch.is_grad_enabled()
        if graph and len(latents) > pixels[..., 0].numel():
            return network.project(look_up(latents.to(network.format), pixels, shares))
        known = self._projected.get(network)
        # What was projected without a graph, at evaluation, teaches nothing.
        if known is None or (graph and not known.requires_grad):
            known = self._projected[network] = network.project(latents)
        return look_up(known, pixels, shares)

    @property
    def _coarse_alone(self) -> bool:
        return self.config.eval_coarse_only and not self.training

    def _samples(self) -> Samples:
        config = self.config
        count = Samples(config.num_samples, config.num_importance_samples, config.num_depth_samples)
        if self.training:
            return count
        count = count._replace(coarse=max(count.coarse, config.min_eval_samples))
        return count._replace(importance=_COARSE_ONLY - count.depth) if self._coarse_alone else count

    @property
    def _random(self) -> bool:
        return self.training or self.config.eval_samples == "random"

    def _uniform(self, like: Tensor, count: int) -> Tensor:
        """(R, count) uniform numbers, or one half."""
        if self._random:
            return torch.rand(len(like), count, dtype=like.dtype, device=like.device)
        return like.new_full((len(like), count), 0.5)

    def _fractions(self, like: Tensor, count: int) -> Tensor:
        steps = torch.arange(count, dtype=like.dtype, device=like.device)
        return (steps + self._uniform(like, count)) / count

    def _importance(self, weights: Tensor, count: int) -> Tensor:
        if self._random:
            return importance_fractions(weights, self._uniform(weights, count), self._uniform(weights, count))
        return importance_fractions(weights, self._fractions(weights, count), self._uniform(weights, count))

    def _noise(self, like: Tensor, count: int) -> Tensor:
        """(R, count) normal numbers, or as many equally likely ones."""
        if self._random:
            return torch.randn(len(like), count, dtype=like.dtype, device=like.device)
        return 2.0**0.5 * torch.erfinv(2.0 * self._fractions(like, count) - 1.0)

    def get_loss_dict(
        self, outputs: Dict[str, Tensor], batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Colour losses of both networks."""
        target = batch["image"].to(self.device)[..., :3]
        measure = torch.nn.functional.mse_loss if self.config.colour_loss == "mse" else torch.nn.functional.l1_loss
        losses = {"rgb_loss": self.config.fine_weight * measure(outputs["rgb"], target)}
        if "rgb_coarse" in outputs:
            losses["rgb_loss_coarse"] = self.config.coarse_weight * measure(outputs["rgb_coarse"], target)
        return losses
