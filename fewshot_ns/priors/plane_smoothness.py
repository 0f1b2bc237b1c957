"""The plane smoothness prior: neighbouring texels of feature planes are alike."""

from dataclasses import dataclass, field
from typing import Dict, Type

from torch import Tensor

from fewshot_ns.model_components.losses import plane_smoothness_loss
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, StepContext


@dataclass
class PlaneSmoothnessPriorConfig(PriorConfig):
    """Total variation of the feature planes of a tri-plane field."""

    _target: Type = field(default_factory=lambda: PlaneSmoothnessPrior)
    """Class that the config builds."""
    weight: float = 0.5
    """Weight of the term."""


class PlaneSmoothnessPrior(Prior[PlaneSmoothnessPriorConfig]):
    """Total variation of the backbone's feature planes."""

    def __init__(self, config: PlaneSmoothnessPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(0, weight=config.weight)

    @property
    def needs(self) -> Needs:
        """Feature planes; what is rendered does not matter."""
        why = {"planes": "plane smoothness compares the texels of feature planes"}
        return Needs(why, f"give {self.flag}.enabled False", single_scene=False)

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`plane_smoothness_loss` of the backbone's planes."""
        weight = self.config.fade(step) * self.config.weight
        return {"plane_smoothness_loss": weight * plane_smoothness_loss(context.model.planes)}  # type: ignore[arg-type]
