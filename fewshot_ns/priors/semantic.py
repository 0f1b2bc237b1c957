"""The semantic prior: renderings of unseen views look, to an image encoder, like the photos (DietNeRF)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Literal, Optional, Type

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fewshot_ns.cameras.ray_space import to_model_rays
from fewshot_ns.data.dataset import FewShotDataset
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.models.fewshot_model import FewShotModel
from fewshot_ns.priors.encoders import Encoder, EncoderConfig, ImageEncoder
from fewshot_ns.priors.semantic_images import cosine_similarity
from fewshot_ns.priors.semantic_targets import target_embeddings
from fewshot_ns.priors.semantic_views import UnseenViews, UnseenViewsConfig
from fewshot_ns.utils.cache import cache_folder


@dataclass
class SemanticPriorConfig(InstantiateConfig):
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
    """Whether the view is rendered at random samples, as in training; False: at fixed ones, where the model can."""
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
        if not self.config.enabled:
            return
        self.views = UnseenViews(self.config.views, dataset, device)
        self.encoder = ImageEncoder(self.config.encoder, device)
        images = [dataset.get_image_float32(index)[..., :3] for index in range(len(dataset))]
        folder = cache_folder("semantic", self.config.cache_dir)
        self.targets = target_embeddings(self.encoder, images, folder).to(device)

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

    def loss_dict(self, model: FewShotModel, step: int) -> Dict[str, Tensor]:
        """Weighted terms of the step.

        Args:
            model: any backbone, in training.
            step: current step.

        Returns:
            `semantic` and, given a coarse level, `semantic_coarse`: minus the weighted cosine, so it may be negative.
            Empty where the prior is off.
        """
        if not self.active(step) or self.views is None or self.encoder is None:
            return {}
        grid = self.views.draw_grid()
        levels = self.render(model, self.views.rays(self.views.draw_pose(), grid))
        images = torch.stack([image.reshape(*grid.shape[:2], 3) for image in levels.values()])
        target = self.targets[self.target_of(step)]
        embeddings = self.encoder(images)
        weights = {"semantic": self.config.fine_weight, "semantic_coarse": self.config.coarse_weight}
        return {
            name: -weights[name] * cosine_similarity(embedding, target)
            for name, embedding in zip(levels, embeddings, strict=True)
        }

    def render(self, model: FewShotModel, rays: RayBundle) -> Dict[str, Tensor]:
        """Colours (R, 3) of the levels that have a weight, by the names of their terms.

        Their gradient is that of rendering all rays at once, and so are the random numbers of each chunk when it is
        rendered again.
        """
        config, chunks = self.config, []
        size = len(rays) if config.chunk_rays is None else config.chunk_rays
        for start in range(0, len(rays), size):
            part = rays[start : start + size]
            if config.chunk_rays is None or not torch.is_grad_enabled():
                chunks.append(self._colours(model, part))
            else:
                # The tensor tells torch on which device random numbers are drawn.
                chunks.append(checkpoint(_Render(self, model, part), part.origins, use_reentrant=False))
        if not chunks[0]:
            raise ValueError(
                f"--pipeline.semantic.fine-weight is 0, and {type(model).__name__} has no coarse level to compare"
            )
        names = [name for name in ("semantic", "semantic_coarse") if name in chunks[0]]
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in names}

    def _colours(self, model: FewShotModel, rays: RayBundle) -> Dict[str, Tensor]:
        config, of_model = self.config, model.config
        in_space = to_model_rays(rays, model.geometry)
        usual = getattr(of_model, "stratified", None)
        if usual is not None and not config.stratified:
            setattr(of_model, "stratified", False)  # noqa: B010 - not every model has it
        try:
            if config.fine_weight == 0 and hasattr(model, "render_coarse"):
                return {"semantic_coarse": model.render_coarse(in_space)}  # type: ignore[operator]
            outputs = model.outputs_of(in_space)
        finally:
            if usual is not None:
                setattr(of_model, "stratified", usual)  # noqa: B010
        levels = {"semantic": outputs["rgb"]} if config.fine_weight > 0 else {}
        if config.coarse_weight > 0 and "sample_rgb_coarse" in outputs:
            weights, background = outputs["weights_coarse"], model.geometry.background
            levels["semantic_coarse"] = composite_rgb(outputs["sample_rgb_coarse"], weights, background)
        return levels


@dataclass
class _Render:
    """One chunk's rendering, which torch may call twice."""

    prior: SemanticPrior
    model: FewShotModel
    rays: RayBundle

    def __call__(self, _: Tensor) -> Dict[str, Tensor]:
        return self.prior._colours(self.model, self.rays)
