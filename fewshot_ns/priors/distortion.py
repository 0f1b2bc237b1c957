"""The distortion prior: the weights of a ray lie close together (mip-NeRF 360)."""

from dataclasses import dataclass, field
from typing import Dict, Type

from torch import Tensor

from fewshot_ns.cameras.scene_geometry import spacing_of
from fewshot_ns.model_components.losses import distortion_loss
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, StepContext


@dataclass
class DistortionPriorConfig(PriorConfig):
    """Compactness of the weights along each ray."""

    _target: Type = field(default_factory=lambda: DistortionPrior)
    """Class that the config builds."""
    weight: float = 0.01
    """Weight of the term, on the final level (mip-NeRF 360: 0.01; depth-mipnerf on ScanNet and Matterport: 1e-4)."""


class DistortionPrior(Prior[DistortionPriorConfig]):
    """Distortion loss on the rays of the training pixels."""

    def __init__(self, config: DistortionPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(0, weight=config.weight)
        self.spacing = spacing_of(scene.dataset.fewshot.geometry)

    @property
    def needs(self) -> Needs:
        """Weights along rays, of any number of scenes."""
        why = {"samples": "distortion pulls the weights along a ray together"}
        return Needs(why, "use --pipeline.smoothness or --pipeline.depth", single_scene=False)

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`distortion_loss` of the training pixels."""
        samples = context.photos.samples
        if samples is None:
            return {}
        weight = self.config.fade(step) * self.config.weight
        # Along a long ray a sample's length is a share of its distance, not the same everywhere.
        t = samples.t.log() if self.spacing == "geometric" else samples.t
        return {"distortion_loss": weight * distortion_loss(t, samples.weights)}
