"""The edge smoothness prior: rendered depth of a photo is smooth where the photo is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Type

from torch import Tensor

from fewshot_ns.model_components.losses import edge_aware_smoothness
from fewshot_ns.priors.base import Prior, PriorConfig, PriorScene, StepContext


@dataclass
class EdgeSmoothnessPriorConfig(PriorConfig):
    """Smooth inverse depth in the training views, except at edges of the photos (Godard et al. 2017)."""

    _target: Type = field(default_factory=lambda: EdgeSmoothnessPrior)
    """Class that the config builds."""
    weight: float = 1.0
    """Weight of the term; depth counts in multiples of the image's mean."""
    edge: float = 10.0
    """A step of grey values g between neighbours lets their depths differ: it divides the weight by exp(this x g)."""


class EdgeSmoothnessPrior(Prior[EdgeSmoothnessPriorConfig]):
    """Acts on steps that train a whole image.

    Args:
        config: the prior's config.
        scene: says whether steps train whole images.
        name: of the field.

    Raises:
        ValueError: a negative field.
    """

    def __init__(self, config: EdgeSmoothnessPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(0.0, weight=config.weight, edge=config.edge)

    def prepare(self) -> None:
        """Checks that steps train whole images.

        Raises:
            ValueError: they do not.
        """
        if not self.scene.whole_images:
            raise ValueError(
                f"{self.flag}.enabled: expected steps that train a whole image, found single pixels; give "
                "--pipeline.datamanager.whole-images True, or --pipeline.smoothness.enabled True in its place"
            )

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`edge_smoothness` of the step's image."""
        height, width = context.batch["image_size"]
        count = height * width
        image = context.batch["image"][-count:].to(context.photos.rgb).reshape(height, width, -1)
        distance, opacity = (
            values[-count:].reshape(height, width)
            for values in (context.photos.distance, context.photos.accumulation.detach())
        )
        factor = self.config.fade(step) * self.config.weight
        return {"edge_smoothness": factor * edge_aware_smoothness(distance, image, opacity > 0.5, self.config.edge)}
