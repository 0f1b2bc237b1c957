"""The occlusion prior: nothing stands right before the cameras (FreeNeRF)."""

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Type

from torch import Tensor

from fewshot_ns.model_components.losses import background_coloured, occlusion_loss
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, StepContext

FREENERF_SAMPLES = 128
"""Samples per ray of FreeNeRF, which its numbers of first samples refer to."""
FIRST_SAMPLES = {"ndc": 20, "metric": 10}
"""How many of them FreeNeRF covers (LLFF, DTU)."""
BACKGROUND_SAMPLES = {"ndc": 0, "metric": 20}
"""Among how many of them it covers nearly white or black ones as well (LLFF, DTU)."""


@dataclass
class OcclusionPriorConfig(PriorConfig):
    """Occlusion regularisation: density of the first samples of a ray is penalised."""

    _target: Type = field(default_factory=lambda: OcclusionPrior)
    """Class that the config builds."""
    weight: float = 0.01
    """Weight of the term (FreeNeRF: 0.01), on the final level."""
    num_samples: Optional[int] = None
    """How many of a ray's first samples it covers; None: FreeNeRF's share of a ray's samples, 20 of 128 in NDC, 10 in
    metric scenes."""
    background_samples: Optional[int] = None
    """Among how many of the first samples nearly white or black ones count as well; None: none in NDC, in metric scenes
    FreeNeRF's share for DTU, 20 of 128."""


class OcclusionPrior(Prior[OcclusionPriorConfig]):
    """Penalty on the density of the first samples of the rays of the training pixels."""

    def __init__(self, config: OcclusionPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(
            0, weight=config.weight, num_samples=config.num_samples, background_samples=config.background_samples
        )

    @property
    def needs(self) -> Needs:
        """Densities along rays, of any number of scenes."""
        why = {"density": "occlusion regularisation penalises densities along rays"}
        return Needs(why, "splats have dropout and decay of opacity instead", single_scene=False)

    def counts_of(self, samples: int) -> tuple[int, int]:
        """How many of a ray's first samples count, and among how many nearly white or black ones do.

        Args:
            samples: samples per ray.
        """
        config, space = self.config, self.scene.geometry.ray_space
        share = samples / FREENERF_SAMPLES
        first = round(FIRST_SAMPLES[space] * share) if config.num_samples is None else config.num_samples
        extra = config.background_samples
        return first, round(BACKGROUND_SAMPLES[space] * share) if extra is None else extra

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`occlusion_loss` of the training pixels."""
        samples = context.photos.samples
        if samples is None or samples.density is None:
            return {}
        first, background = self.counts_of(samples.density.shape[-1])
        extra = None
        if background > 0 and samples.rgb is not None:
            extra = background_coloured(samples.rgb.detach(), background)
        weight = self.config.fade(step) * self.config.weight
        return {"occlusion_loss": weight * occlusion_loss(samples.density, first, extra)}

    def resolved(self) -> Dict[str, Any]:
        """How many samples count, of FreeNeRF's number of samples where no other is given."""
        first, background = self.counts_of(FREENERF_SAMPLES)
        of = f" of {FREENERF_SAMPLES}"
        config = self.config
        return {
            "num_samples": f"{first}{of}" if config.num_samples is None else first,
            "background_samples": f"{background}{of}" if config.background_samples is None else background,
        }
