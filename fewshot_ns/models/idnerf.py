"""ID-NeRF and MatchNeRF: a decoder for all scenes, told how well the source views agree at every point."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, FrozenSet, List, Optional, Tuple, Type

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.ray_images import RayMatrices
from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.encoders.convert_gmflow import MatchingEncoderConfig
from fewshot_ns.encoders.gmflow import FEATURES
from fewshot_ns.encoders.matching_cache import MatchingCache
from fewshot_ns.fields.latent_inference import LatentInference
from fewshot_ns.fields.matching_field import MatchingField, Refinement
from fewshot_ns.fields.matching_sources import GROUPS, MatchingSources
from fewshot_ns.model_components.matching_points import Window
from fewshot_ns.model_components.planar_samples import TrainingDepths, planar_depths, sample_weights
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.model_components.rendering import RaySamples, Rendering
from fewshot_ns.models.conditioned_model import ConditionedModel, ConditionedModelConfig, rays_between
from fewshot_ns.models.convert_idnerf import released_state
from fewshot_ns.models.idnerf_targets import TargetViews, infer_target_latents, intrinsics_at_size, prompt_views
from fewshot_ns.priors.diffusion.prior import PromptViews
from fewshot_ns.utils.checkpoints import load_strictly


@dataclass
class IDNeRFModelConfig(ConditionedModelConfig):
    """ID-NeRF as its paper describes it. docs/idnerf.md has a table of where the released code differs."""

    _target: Type = field(default_factory=lambda: IDNeRFModel)
    """Class that the config builds."""
    eval_num_rays_per_chunk: int = 512
    """Rays rendered at once at evaluation."""
    encoder: MatchingEncoderConfig = field(default_factory=MatchingEncoderConfig)
    """Matching encoder."""
    encoder_cache_mb: int = 1024
    """Matching features that are kept where the encoder does not learn (evaluation, or a frozen encoder), MB."""
    matching_features: bool = True
    """Whether source views are compared by features of the matching encoder; False: by colours alone, without an
    encoder, which shows what the features are worth."""
    num_views: int = 3
    """Source views that the networks are made for."""
    window: Window = "mean"
    """How features are looked up at a point. mean: 3x3 window about it; released: ID-NeRF's code, whose windows are
    shifted and shrunk; off: bilinear (MatchNeRF)."""
    refinement: Refinement = "per-view"
    """Latent and features of the views by attention. per-view: one token each; scrambled: ID-NeRF's code, whose tokens
    mix columns of all; off: neither latent nor refinement (MatchNeRF)."""
    attention_passes: int = 1
    """How often both attentions attend; ID-NeRF's code: 3, the later ones to their own result without projections."""
    ray_matrices: RayMatrices = "camera_to_world"
    """What ray images of cameras are made from; ID-NeRF's code takes the world-to-camera matrix for the pose."""
    train_latent: bool = True
    """Whether the latent network learns; in ID-NeRF's code no optimizer holds it."""
    num_samples: int = 128
    """Samples per ray, at equal steps of planar depth."""
    training_depths: TrainingDepths = "within"
    """Random depths of training. within: of strata between near and far; overshooting: MatchNeRF's and ID-NeRF's code,
    whose strata begin at the samples of evaluation, so that the last one lies behind far."""
    position_octaves: int = 10
    """Octaves of the encoding of positions."""
    direction_octaves: int = 0
    """Octaves of the encoding of directions; 0: the direction alone."""
    width: int = 128
    """Width of the decoder."""
    num_layers: int = 6
    """Layers of the decoder's trunk."""
    skip_layers: Tuple[int, ...] = (4,)
    """Layers after which the encoded position is concatenated again."""


_POINTS_AT_ONCE = 4096
"""Points of rays that are evaluated at once without a graph on a CPU: their features fit into its cache."""


class IDNeRFModel(ConditionedModel):
    """Renders rays by a decoder that sees how well source views agree, and by a latent of the target view.

    `condition` has to be called before rays are rendered; with a latent, the model also has to know their
    camera: by the conditioning in training, by `get_outputs_for_camera`, or by `set_target_cameras`.

    Rays are sampled between the planar bounds of a scene. A sample's opacity does not depend on its distance to
    the next one. Parameters have the names of the released checkpoints.
    """

    config: IDNeRFModelConfig

    def populate_modules(self) -> None:
        """Builds encoder, latent network and decoder; `load_encoder_weights` loads the encoder's weights later.

        Raises:
            ValueError: fewer than two source views, which cannot be compared.
        """
        super().populate_modules()
        config, views = self.config, self.config.num_views
        if views < 2:
            raise ValueError(f"expected at least 2 source views (--pipeline.model.num-views), got {views}")
        self.feat_enc = config.encoder.setup() if config.matching_features else None
        self._matching_cache = None if self.feat_enc is None else MatchingCache(self.feat_enc, config.encoder_cache_mb)
        groups = GROUPS if config.matching_features else ()
        self.nerf_dec = MatchingField(
            matching_columns=sum(groups) + 4 * views,
            view_columns=len(groups) * FEATURES * (views - 1) + 4,
            num_views=views,
            refinement=config.refinement,
            attention_passes=config.attention_passes,
            position_octaves=config.position_octaves,
            direction_octaves=config.direction_octaves,
            width=config.width,
            num_layers=config.num_layers,
            skip_layers=config.skip_layers,
            compute_dtype=config.compute_dtype,
        )
        self.latent_inference = None
        if config.refinement != "off":
            self.latent_inference = LatentInference(views).requires_grad_(config.train_latent)
        self._sources: Optional[MatchingSources] = None
        self._targets: Optional[TargetViews] = None

    def load_encoder_weights(self) -> None:
        """Loads GMFlow's weights where the config asks for them; before training from scratch.

        Raises:
            WeightsNotFoundError: they are not found.
        """
        if self.feat_enc is not None:
            self.config.encoder.load(self.feat_enc, "--pipeline.model.encoder.weights")

    def start_from(self, path: Path) -> None:
        """Loads the weights of a training checkpoint, or of a released one of MatchNeRF or ID-NeRF.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is none of them, or damaged.
            CheckpointMismatchError: networks of another kind or size.
        """
        state = released_state(path, self.config.refinement)
        if state is None:
            super().start_from(path)
            return
        own = {name: value for name, value in self.state_dict().items() if "." not in name}
        load_strictly(self, {**own, **state}, path)

    def get_param_groups(self) -> Dict[str, List[Parameter]]:
        """Groups 'encoder', 'field' and 'latent', without what does not learn."""
        parts = {"encoder": self.feat_enc, "field": self.nerf_dec, "latent": self.latent_inference}
        there = {name: list(part.parameters()) for name, part in parts.items() if part is not None}
        groups = {name: [value for value in values if value.requires_grad] for name, values in there.items()}
        return {name: values for name, values in groups.items() if values}

    def encode_sources(self, conditioning: Conditioning) -> None:
        """Encodes source views and keeps their features for the rays that follow.

        Args:
            conditioning: B scenes of V views each.

        Raises:
            ValueError: another number of views than the networks are made for.
        """
        views = conditioning.images.shape[1]
        if views != self.config.num_views:
            raise ValueError(
                f"expected {self.config.num_views} source views (--pipeline.model.num-views), got {views}; give as "
                "many: ns-train by --pipeline.datamanager.num-sources and .sources, others by --source-views or nearest"
            )
        conditioning = conditioning.to(self.device).with_planar_bounds()
        near, far = (bound[:, None].expand(-1, views) for bound in (conditioning.near, conditioning.far))
        features = self._encode(conditioning.images)
        groups = GROUPS if features else ()
        self._sources = MatchingSources(conditioning, features, near, far, self.config.window, groups)
        self._targets = None
        if conditioning.target_to_worlds is not None and conditioning.target_intrinsics is not None:
            self.set_target_cameras(conditioning.target_to_worlds, conditioning.target_intrinsics)

    def _encode(self, images: Tensor) -> List[Tensor]:
        """Per scale (B, V, h, w, (V - 1) * C) matching features; none without an encoder."""
        if self.feat_enc is None or self._matching_cache is None:
            return []
        # Features are kept in half precision, too: looking them up is half of the work of a point, and bound by memory.
        reduced = self.config.compute_dtype == "bfloat16"
        dtype = torch.bfloat16 if reduced else images.dtype
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced):
            if torch.is_grad_enabled() and any(weight.requires_grad for weight in self.feat_enc.parameters()):
                return [each.to(dtype) for each in self.feat_enc(images)]
            return self._matching_cache(images, dtype)

    def set_target_cameras(self, camera_to_worlds: Tensor, intrinsics: Tensor) -> None:
        """Tells the model which view of each scene the next rays belong to.

        Args:
            camera_to_worlds: (B, 3, 4) OpenGL axes.
            intrinsics: (B, 4) fx, fy, cx, cy in pixels of an image of the size of the source views.
        """
        if self.latent_inference is None:
            return
        matrices, latents = self.config.ray_matrices, self.latent_inference
        conditioning = self.sources.conditioning
        self._targets = infer_target_latents(
            latents, self.nerf_dec, conditioning, camera_to_worlds, intrinsics, matrices
        )

    @property
    def sources(self) -> MatchingSources:
        """The source views that the model is conditioned on.

        Raises:
            RuntimeError: nothing yet.
        """
        if self._sources is None:
            raise RuntimeError(f"{type(self).__name__} was shown no source views: call condition() before it renders")
        return self._sources

    @property
    def targets(self) -> TargetViews:
        """Latents of the views that are rendered.

        Raises:
            RuntimeError: the model does not know which these are.
        """
        if self._targets is None:
            raise RuntimeError(
                "the latent belongs to one view, but the model does not know which: train with "
                "--pipeline.datamanager.target-views 1, or call set_target_cameras()"
            )
        return self._targets

    @property
    def provides(self) -> FrozenSet[str]:
        """With refinement a latent of the view that is trained on, and none of unseen views."""
        latent = self.latent_inference is not None
        return frozenset({"samples", "density", "latents"}) if latent else self.PROVIDES

    def why_not(self, name: str) -> Optional[str]:
        """As of every backbone."""
        if name == "unseen_views" and name not in self.provides:
            return (
                "this method predicts a latent of the view that is trained on, and has none of unseen views; of idnerf "
                "give --pipeline.model.refinement off with it"
            )
        return super().why_not(name)

    def guided_latents(self) -> Tuple[Tensor, List[PromptViews]]:
        """(B, 4, 64, 64) latents of the views that are rendered, and the source views of the B scenes."""
        return self.targets.latents, prompt_views(self.sources.conditioning, self.config.ray_matrices)

    def prepare_for(self, camera: Cameras) -> None:
        """Conditions the model on the source views of a camera, and computes its latent."""
        super().prepare_for(camera)
        height, width = self.sources.conditioning.images.shape[2:4]
        pose, intrinsics = camera.camera_to_worlds.reshape(1, 3, 4), intrinsics_at_size(camera, (height, width))
        # The poses of nerfstudio's camera paths are float64.
        self.set_target_cameras(pose.to(self.device, torch.float32), intrinsics.to(self.device, torch.float32))

    def render_bundle(
        self,
        ray_bundle: RayBundle,
        stratified: Optional[bool] = None,
        coarse_only: bool = False,
        annealed: bool = False,
    ) -> Rendering:
        """Renders world rays (R,), of the scenes that `SCENE_INDEX_KEY` names, else of scene 0."""
        conditioning = self.sources.conditioning
        norm = ray_bundle.metadata.get("directions_norm", torch.ones_like(ray_bundle.origins[:, :1]))
        scenes, near, far = rays_between(ray_bundle, conditioning, norm)
        jittered = self.config.training_depths if self.samples_at_random(stratified) else None
        z = planar_depths(near, far, self.config.num_samples, jittered)
        density, colours = self.query(ray_bundle.origins, ray_bundle.directions, z * norm, scenes)
        weights = sample_weights(density)
        accumulation = weights.sum(-1, keepdim=True)
        depth = (weights * z).sum(-1, keepdim=True) / accumulation.clamp(min=torch.finfo(torch.float32).eps)
        depth = torch.clamp(depth, near, far)
        samples = None
        if self.training:
            ends = torch.cat([z, torch.maximum(z[:, -1:], far)], dim=-1)
            samples = RaySamples(weights, ends, colours, density)
        return Rendering(
            rgb=composite_rgb(colours, weights, conditioning.background),
            depth=depth * norm,
            accumulation=accumulation,
            distance=depth,
            viewdirs=ray_bundle.directions,
            samples=samples,
        )

    def query(self, origins: Tensor, directions: Tensor, distances: Tensor, scenes: Tensor) -> Tuple[Tensor, Tensor]:
        """(R, S) densities and (R, S, 3) colours at points of world rays.

        Args:
            origins: (R, 3).
            directions: (R, 3), of unit length.
            distances: (R, S) along them.
            scenes: (R,) index of each ray's scene in the conditioning.
        """
        rays = (origins, directions, distances, scenes)
        count = max(_POINTS_AT_ONCE // distances.shape[1], 1)
        if torch.is_grad_enabled() or origins.device.type != "cpu" or len(origins) <= count:
            return self._query(*rays)
        parts = zip(*(tensor.split(count) for tensor in rays), strict=True)
        density, colours = zip(*(self._query(*part) for part in parts), strict=True)
        return torch.cat(density), torch.cat(colours)

    def _query(self, origins: Tensor, directions: Tensor, distances: Tensor, scenes: Tensor) -> Tuple[Tensor, Tensor]:
        points = origins[:, None] + distances[..., None] * directions[:, None]
        matrix = self.nerf_dec.view_matrix
        seen = self.sources.query(points, scenes, matrix)
        # The original's cameras have OpenCV's axes.
        first = self.sources.cameras.rotated(directions, scenes)[0] * directions.new_tensor([1.0, -1.0, -1.0])
        return self.nerf_dec(
            seen.coordinates[0],
            first[:, None].expand_as(points),
            seen.matching,
            seen.in_image,
            seen.view_features,
            latent_vectors=None if matrix is None else self.targets.vectors[scenes],
        )

    def get_loss_dict(  # type: ignore[override]
        self, outputs: Rendering, batch: Dict[str, Tensor], metrics_dict: Optional[Dict[str, Tensor]] = None
    ) -> Dict[str, Tensor]:
        """Colour loss."""
        target = batch["image"].to(self.device)[..., :3]
        return {"rgb_loss": torch.nn.functional.mse_loss(outputs.rgb, target)}
