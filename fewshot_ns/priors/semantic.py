"""The semantic prior: renderings of unseen views look, to an image encoder, like the photos (DietNeRF)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Literal, Optional, Tuple, Type

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.image_encoder import Encoder, ImageEncoder
from fewshot_ns.pretrained.encoders.preprocessing import cosine_similarity
from fewshot_ns.priors.semantic_targets import target_embeddings
from fewshot_ns.priors.unseen_views import UnseenViews, UnseenViewsConfig
from fewshot_ns.utils.cache import cache_folder
from fewshot_ns.utils.configs import SavedConfig

RenderLevels = Callable[[RayBundle], Dict[str, Tensor]]
"""Colours (R, 3) of rays (R,): `rgb` of the final level and `rgb_coarse` of a coarse one, as far as there are such."""


@dataclass
class SemanticPriorConfig(SavedConfig, InstantiateConfig):
    """Semantic consistency of unseen views with the photos."""

    _target: Type = field(default_factory=lambda: SemanticPrior)
    """Class that the config builds."""
    enabled: bool = False
    """Whether training renders unseen views for an image encoder."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder, and what of it is compared."""
    views: UnseenViewsConfig = field(default_factory=UnseenViewsConfig)
    """Places and pixels of the unseen views."""
    fine_weight: float = 0.1
    """Weight of the cosine between photo and rendering of the final level (JAX version: 0.01)."""
    coarse_weight: float = 0.1
    """Weight of the same for the coarse level, where the model has one; with a fine weight of 0, DietNeRF's model
    renders its coarse network alone."""
    interval: int = 10
    """Every how many steps the term counts (JAX version: 16)."""
    start_step: int = 0
    """First step at which the term counts."""
    stop_step: Optional[int] = None
    """Step from which it no longer counts, so that only the photos do; None: never."""
    target_order: Literal["random", "cycle"] = "random"
    """Which photo a rendering is compared with: any, or all in turn in an order drawn anew each round."""
    stratified: bool = True
    """Whether the view is rendered at random samples, as in training; False: at those of evaluation."""
    chunk_rays: Optional[int] = 1024
    """Rays of the view whose graph is kept at a time. The view is rendered without a graph, and again, chunk by chunk,
    when its gradient comes back from the encoder; DietNeRF's networks keep about 2.5 MB per ray. None: all at once."""
    cache_dir: Optional[Path] = None
    """Folder of the photos' embeddings; None takes FEWSHOT_CACHE, else the user's cache folder."""


class SemanticPrior:
    """Loss terms of the semantic prior.

    Args:
        config: see `SemanticPriorConfig`.

    Raises:
        ValueError: an interval or a number of rays below 1, or no weight at all.
    """

    def __init__(self, config: SemanticPriorConfig) -> None:
        if config.interval < 1 or (config.chunk_rays is not None and config.chunk_rays < 1):
            raise ValueError(
                "expected --pipeline.semantic.interval and --pipeline.semantic.chunk-rays of at least 1, got "
                f"{config.interval} and {config.chunk_rays}"
            )
        if config.enabled and config.fine_weight <= 0 and config.coarse_weight <= 0:
            raise ValueError("the semantic prior is on, but both its weights are 0 (--pipeline.semantic.fine-weight)")
        self.config = config
        self.encoder: Optional[Encoder] = None
        self.views: Optional[UnseenViews] = None
        self.targets = torch.zeros(0, 0)

    def prepare(self, dataset: FewShotDataset, device: torch.device) -> None:
        """Loads the encoder and embeds the photos, where the prior is on.

        Args:
            dataset: training split.
            device: of model and encoder.

        Raises:
            WeightsNotFoundError: the encoder's weights are nowhere to be had.
            ValueError: see `ImageEncoder` and `UnseenViews`.
        """
        if self.config.enabled:
            self.load_views(dataset, device)
            self.load_encoder(dataset, device)

    def load_views(self, dataset: FewShotDataset, device: torch.device) -> UnseenViews:
        """The unseen views of a training split, also where the prior is off."""
        if self.views is None:
            self.views = UnseenViews(self.config.views, dataset, device)
        return self.views

    def load_encoder(self, dataset: FewShotDataset, device: torch.device) -> Tuple[Encoder, Tensor]:
        """The encoder and the embeddings (V, C) of the photos of a training split, also where the prior is off."""
        if self.encoder is None:
            encoder = ImageEncoder(self.config.encoder, device)
            images = [dataset.get_image_float32(index)[..., :3] for index in range(len(dataset))]
            folder = cache_folder("semantic", self.config.cache_dir)
            self.targets = target_embeddings(encoder, images, folder).to(device)
            self.encoder = encoder
        return self.encoder, self.targets

    def resolved(self) -> Dict[str, Any]:
        """What the scene decided, for the log; empty where the prior is off."""
        return {} if self.views is None else self.views.resolved()

    def active(self, step: int) -> bool:
        """Whether the term counts at a step counted from 0; the original counts from 1."""
        config = self.config
        before_stop = config.stop_step is None or step < config.stop_step
        return config.enabled and step >= config.start_step and before_stop and (step + 1) % config.interval == 0

    def target_of(self, step: int) -> int:
        """Which photo the rendering of a step is compared with."""
        if self.config.target_order == "random":
            return int(torch.randint(len(self.targets), (1,)))
        turn = (step + 1) // self.config.interval - 1
        order = torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(turn // len(self.targets)))
        return int(order[turn % len(self.targets)])

    def loss_dict(self, render: RenderLevels, step: int) -> Dict[str, Tensor]:
        """Weighted terms of the step.

        Args:
            render: gives the colours of the rays of an unseen view.
            step: current step.

        Returns:
            `semantic` and, given a coarse level, `semantic_coarse`: minus the weighted cosine, so it may be negative.
            Empty where the prior is off.

        Raises:
            ValueError: what is rendered has no level whose weight is above 0.
        """
        if not self.active(step) or self.views is None or self.encoder is None:
            return {}
        grid = self.views.draw_grid()
        levels = self.weighed(render(self.views.rays(self.views.draw_pose(), grid)))
        images = torch.stack([image.reshape(*grid.shape[:2], 3) for image in levels.values()])
        target = self.targets[self.target_of(step)]
        embeddings = self.encoder(images)
        return {
            name: -self.weights[name] * cosine_similarity(embedding, target)
            for name, embedding in zip(levels, embeddings, strict=True)
        }

    @property
    def weights(self) -> Dict[str, float]:
        """Weight of each term."""
        return {"semantic": self.config.fine_weight, "semantic_coarse": self.config.coarse_weight}

    def weighed(self, levels: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """The levels that have a weight, by the names of their terms.

        Raises:
            ValueError: there is none.
        """
        names = {"semantic": "rgb", "semantic_coarse": "rgb_coarse"}
        found = {term: levels[level] for term, level in names.items() if level in levels and self.weights[term] > 0}
        if not found:
            raise ValueError(
                f"the semantic prior has the weights {self.config.fine_weight} and {self.config.coarse_weight} "
                "(--pipeline.semantic.fine-weight, --pipeline.semantic.coarse-weight), but what the model renders has "
                f"only {' and '.join(levels) or 'no coarse level'}"
            )
        return found
