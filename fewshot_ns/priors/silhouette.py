"""The silhouette prior: where photos have alpha, rendered opacity is that alpha: nothing stands beside the object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Type

from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fewshot_ns.data.labels import ALPHA_KEY
from fewshot_ns.model_components.losses import silhouette_loss
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, StepContext


@dataclass
class SilhouettePriorConfig(PriorConfig):
    """Opacity as in the photos' alpha, which carves the visual hull."""

    _target: Type = field(default_factory=lambda: SilhouettePrior)
    """Class that the config builds."""
    weight: float = 0.1
    """Weight of the mean absolute difference. Photos without alpha have no such term."""


class SilhouettePrior(Prior[SilhouettePriorConfig]):
    """Compares opacity with alpha at the training pixels.

    Args:
        config: the prior's config.
        scene: the training views.
        name: of the field.

    Raises:
        ValueError: a negative weight.
    """

    def __init__(self, config: SilhouettePriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(0.0, weight=config.weight)
        self.known = False

    @property
    def needs(self) -> Needs:
        """Alpha of the training pixels."""
        return Needs(labels=frozenset({"alpha"}), alternative="train a single-scene method on one scene")

    def prepare(self) -> None:
        """Says where photos have no alpha."""
        self.known = self.scene.dataset.has_alpha
        if not self.known:
            CONSOLE.print(f"{self.flag}: the photos have no alpha, so there is no silhouette to keep to")

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`silhouette_loss` of the training pixels; nothing where photos have no alpha."""
        if not self.known or self.config.weight == 0:
            return {}
        alpha = context.batch[ALPHA_KEY].to(context.photos.accumulation)
        factor = self.config.fade(step) * self.config.weight
        return {"silhouette_loss": factor * silhouette_loss(context.photos.accumulation, alpha)}

    def resolved(self) -> Dict[str, Any]:
        """Whether the photos have alpha."""
        return {"photos_with_alpha": self.known}
