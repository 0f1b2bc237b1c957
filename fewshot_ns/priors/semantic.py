"""The semantic prior: an image encoder gives renderings of unseen views embeddings like the photos' (DietNeRF)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Literal, Mapping, Optional, Tuple, Type

import torch
from torch import Tensor, nn

from fewshot_ns.cameras.ray_space import scene_focus
from fewshot_ns.model_components.rendering import Rendering, RenderOptions
from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.image_encoder import Encoder, ImageEncoder
from fewshot_ns.pretrained.encoders.preprocessing import cosine_similarity
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, ways_out
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, Renderer, StepContext
from fewshot_ns.priors.semantic_targets import target_embeddings
from fewshot_ns.priors.unseen_views import UnseenViews, UnseenViewsConfig, on_hemisphere
from fewshot_ns.utils.cache import cache_folder
from fewshot_ns.viewer.sphere_controls import SphereControls, sphere_of_cameras, synthetic_sphere
from fewshot_ns.viewer.unseen_controls import UnseenViewControls


@dataclass
class SemanticPriorConfig(PriorConfig):
    """Semantic consistency of unseen views with the photos."""

    _target: Type = field(default_factory=lambda: SemanticPrior)
    """Class that the config builds."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder, and which of its embeddings is compared."""
    views: UnseenViewsConfig = field(default_factory=UnseenViewsConfig)
    """Poses and rendered pixels of the unseen views."""
    fine_weight: float = 0.1
    """Weight of the cosine between photo and rendering of the final level (JAX version: 0.01)."""
    coarse_weight: float = 0.1
    """Weight of the same for the coarse level, where the model has one; with a fine weight of 0, DietNeRF's model
    renders its coarse network alone."""
    interval: int = 10
    """Every how many steps the term counts (JAX version: 16)."""
    target_order: Literal["random", "cycle"] = "random"
    """Which photo a rendering is compared with: any, or all in turn in an order redrawn each round."""
    stratified: bool = True
    """Whether the view is rendered at random samples, as in training; False: at those of evaluation."""
    chunk_rays: Optional[int] = 1024
    """Rays of the view whose graph is kept at a time. The view is rendered without a graph, and again, chunk by chunk,
    when its gradient comes back from the encoder; DietNeRF's networks keep about 2.5 MB per ray. None: all at once."""
    cache_dir: Optional[Path] = None
    """Folder of the photos' embeddings; None takes FEWSHOT_CACHE, else the user's cache folder."""


def ways_without_encoder(config: SemanticPriorConfig, prior_flag: str) -> str:
    """What a user can do who has no weights of the encoder.

    Args:
        config: the prior's config.
        prior_flag: how its flags begin.
    """
    flag, ways = f"{prior_flag}.encoder", []
    if (config.encoder.library, config.encoder.model) != ("torchvision", "vgg16"):
        ways.append(
            f"{flag}.library torchvision {flag}.model vgg16 {flag}.output projected (VGG16, which LPIPS uses, too: "
            f"vgg16_features_torchvision.pt in the folder {WEIGHTS_ENV}, or vgg16-397923af.pth in torch's cache)"
        )
    return "; ".join(
        [
            *ways,
            f"any other encoder of open_clip, timm or torchvision whose file is at hand: {flag}.library, "
            f"{flag}.model and {flag}.weights PATH",
            f"or train without: {prior_flag}.enabled False",
        ]
    )


class SemanticPrior(Prior[SemanticPriorConfig]):
    """Similarity of unseen views to the photos; they are rendered in a forward of their own, after the main one.

    Args:
        config: the prior's config.
        scene: the scene.
        name: of the field.

    Raises:
        ValueError: an interval or a number of rays below 1, or no weight at all.
    """

    def __init__(self, config: SemanticPriorConfig, scene: PriorScene, name: str) -> None:
        if config.interval < 1 or (config.chunk_rays is not None and config.chunk_rays < 1):
            raise ValueError(
                f"expected --pipeline.{name}.interval and --pipeline.{name}.chunk-rays of at least 1, got "
                f"{config.interval} and {config.chunk_rays}"
            )
        super().__init__(config, scene, name)
        if config.enabled and config.fine_weight <= 0 and config.coarse_weight <= 0:
            raise ValueError(f"the semantic prior is on, but both its weights are 0 ({self.flag}.fine-weight)")
        self.encoder: Optional[Encoder] = None
        self.views: Optional[UnseenViews] = None
        self.targets = torch.zeros(0, 0)

    @property
    def needs(self) -> Needs:
        """Renderings of unseen views of one scene."""
        return Needs({"unseen_views": "the semantic prior renders unseen views"})

    def prepare(self) -> None:
        """Loads the encoder and embeds the photos.

        Raises:
            WeightsNotFoundError: the encoder's weights are not found.
            ValueError: unusable fields of `encoder` or `views`.
        """
        self.load_views()
        self.load_encoder()

    def load_views(self) -> UnseenViews:
        """The unseen views, also where the prior is off."""
        if self.views is None:
            self.views = UnseenViews(self.config.views, self.scene.dataset, self.scene.device, f"{self.flag}.views")
        return self.views

    def load_encoder(self) -> Tuple[Encoder, Tensor]:
        """The encoder and the embeddings (V, C) of the photos, also where the prior is off."""
        if self.encoder is None:
            dataset, device = self.scene.dataset, self.scene.device
            with ways_out(ways_without_encoder(self.config, self.flag)):
                encoder = ImageEncoder(self.config.encoder, device)
            images = [dataset.get_image_float32(index)[..., :3] for index in range(len(dataset))]
            folder = cache_folder("semantic", self.config.cache_dir)
            self.targets = target_embeddings(encoder, images, folder).to(device)
            self.encoder = encoder
        return self.encoder, self.targets

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided, for the log."""
        return {} if self.views is None else self.views.resolved()

    def target_of(self, step: int) -> int:
        """Which photo the rendering of a step is compared with."""
        if self.config.target_order == "random":
            return int(torch.randint(len(self.targets), (1,)))
        turn = (step + 1) // self.config.interval - 1
        order = torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(turn // len(self.targets)))
        return int(order[turn % len(self.targets)])

    def options(self, footprint_scale: float = 1.0) -> RenderOptions:
        """How unseen views are rendered."""
        config = self.config
        random = None if config.stratified else False
        return RenderOptions(random, config.fine_weight <= 0, config.chunk_rays, footprint_scale)

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`semantic` and, given a coarse level, `semantic_coarse`: minus the weighted cosine, so it may be negative.

        Raises:
            ValueError: what is rendered has no level whose weight is above 0.
        """
        if self.views is None or self.encoder is None:
            return {}
        view = self.views.draw()
        levels = self.weighed(context.render(view.cameras, self.options(view.footprint_scale)))
        target = self.targets[self.target_of(step)]
        embeddings = self.encoder(torch.cat(list(levels.values())))
        factor = self.config.fade(step)
        return {
            name: -(factor * self.weights[name]) * cosine_similarity(embedding, target)
            for name, embedding in zip(levels, embeddings, strict=True)
        }

    @property
    def weights(self) -> Dict[str, float]:
        """Weight of each term."""
        return {"semantic": self.config.fine_weight, "semantic_coarse": self.config.coarse_weight}

    def weighed(self, rendering: Rendering) -> Dict[str, Tensor]:
        """(1, H, W, 3) images of the levels that have a weight, by the names of their terms.

        Raises:
            ValueError: there is none.
        """
        levels = {"semantic": rendering.rgb}
        if rendering.coarse is not None:
            levels["semantic_coarse"] = rendering.coarse.rgb
        images = {term: image for term, image in levels.items() if self.weights[term] > 0}
        if not images:
            raise ValueError(
                f"the semantic prior has the weights {self.config.fine_weight} and {self.config.coarse_weight} "
                f"({self.flag}.fine-weight, {self.flag}.coarse-weight), but what the model renders has "
                "only rgb"
            )
        return images

    def viewer_controls(self, render: Renderer) -> Mapping[str, nn.Module]:
        """Sliders that move the camera on a sphere, and a button that shows an unseen view and its similarity
        to the photos; the encoder is loaded at the first press."""
        dataset = self.scene.dataset
        poses = dataset.cameras.camera_to_worlds.double().cpu().numpy()
        if on_hemisphere(self.config.views, dataset):
            sphere = synthetic_sphere(self.config.views.centre)
        else:
            sphere = sphere_of_cameras(poses, scene_focus(dataset.cameras, self.scene.geometry).double().numpy())
        names = [photo.name for photo in dataset.photos]
        return {
            "sphere": SphereControls(sphere, poses[0, :, 3]),
            "unseen_views": UnseenViewControls(self.load_views, self.load_encoder, names, render),
        }
