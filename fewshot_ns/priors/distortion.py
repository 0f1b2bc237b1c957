"""The distortion prior: the weights of a ray lie close together (mip-NeRF 360)."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, Mapping, Optional, Type

from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry, spacing_of
from fewshot_ns.model_components.losses import distortion_loss
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, StepContext

_NORMALISED_WEIGHT = 0.01
"""Weight in mip-NeRF 360, whose distances are normalised."""


@dataclass
class DistortionPriorConfig(PriorConfig):
    """Compactness of the weights along each ray."""

    values_before: ClassVar[Mapping[str, Any]] = {"normalised": False}
    _target: Type = field(default_factory=lambda: DistortionPrior)
    """Class that the config builds."""
    weight: float = 0.01
    """Weight of the term, on the final level (mip-NeRF 360: 0.01; depth-mipnerf on ScanNet and Matterport: 1e-4)."""
    normalised: Optional[bool] = None
    """Whether positions along a ray count as shares of the way from near to far on a logarithmic scale, as mip-NeRF
    360's do, not in units of the ray space; None: in metric scenes whose far is more than 20 times near, or 5
    units beyond it, where the background would outweigh all colours. The weight is then at most mip-NeRF 360's 0.01."""


class DistortionPrior(Prior[DistortionPriorConfig]):
    """Distortion loss on the rays of the training pixels."""

    def __init__(self, config: DistortionPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(0, weight=config.weight)
        self.normalised, self.weight = config.normalised is True, config.weight
        if config.normalised is None and spacing_of(scene.geometry) == "geometric":
            self.normalised, self.weight = True, min(config.weight, _NORMALISED_WEIGHT)
        if self.normalised and (scene.geometry.ray_space == "ndc" or scene.geometry.near <= 0.0):
            raise ValueError(
                f"{self.flag}.normalised: expected a metric scene whose near is above zero, found "
                f"{scene.geometry.ray_space} rays from {scene.geometry.near:g}"
            )

    @property
    def needs(self) -> Needs:
        """Weights along rays, of any number of scenes."""
        why = {"samples": "distortion pulls the weights along a ray together"}
        return Needs(why, "use --pipeline.smoothness or --pipeline.depth", single_scene=False)

    def resolved(self) -> Dict[str, Any]:
        """That positions are normalised, and the weight then."""
        return {**super().resolved(), **({"normalised": True, "weight": self.weight} if self.normalised else {})}

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`distortion_loss` of the training pixels."""
        samples = context.photos.samples
        if samples is None:
            return {}
        weight = self.config.fade(step) * self.weight
        t = normalised_positions(samples.t, self.scene.geometry) if self.normalised else samples.t
        return {"distortion_loss": weight * distortion_loss(t, samples.weights)}


def normalised_positions(t: Tensor, geometry: SceneGeometry) -> Tensor:
    """Ray parameters (...) as shares of the way from near (0) to far (1) on a logarithmic scale; near is above zero."""
    near, far = geometry.near, geometry.far
    return (t.clamp(min=1e-3 * near) / near).log() / math.log(far / near)
