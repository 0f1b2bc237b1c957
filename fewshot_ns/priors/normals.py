"""The normals prior: surfaces face as measured, and never away from the camera."""

from dataclasses import dataclass, field
from typing import Dict, Literal, Type

import torch
from torch import Tensor

from fewshot_ns.data.labels import NORMAL_KEY
from fewshot_ns.model_components.normal_losses import (
    has_normal,
    normal_alignment_loss,
    normal_chord_loss,
    orientation_loss,
)
from fewshot_ns.priors.base import Needs, Prior, PriorConfig, PriorScene, StepContext


@dataclass
class NormalsPriorConfig(PriorConfig):
    """Measured normals (depth-mipnerf) and orientation (Ref-NeRF)."""

    _target: Type = field(default_factory=lambda: NormalsPrior)
    """Class that the config builds."""
    weight: float = 0.1
    """Weight of the misfit between the samples' normals and the measured one, which the scene then has to have; 0: no
    such term."""
    loss: Literal["alignment", "chord"] = "alignment"
    """alignment: 1 - cosine; chord: half the squared distance, which differs only where a normal vanishes."""
    orientation_weight: float = 0.0
    """Weight of the penalty on normals that point away from the camera (Ref-NeRF: 0.1); where the scene has measured
    normals it counts on the rays that have one, as in depth-mipnerf's code, else on all."""


class NormalsPrior(Prior[NormalsPriorConfig]):
    """Losses on trainable normals along the rays of the training pixels.

    Args:
        config: the prior's config.
        scene: says whether there are measured normals.
        name: of the field.

    Raises:
        ValueError: the prior is on, but both its weights are 0.
    """

    def __init__(self, config: NormalsPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        if config.enabled and config.weight <= 0 and config.orientation_weight <= 0:
            raise ValueError(
                f"the normals prior is on, but both its weights are 0 ({self.flag}.weight, "
                f"{self.flag}.orientation-weight)"
            )

    @property
    def needs(self) -> Needs:
        """Trainable normals along rays, and measured ones where a term compares with them."""
        measured = self.config.weight > 0 or self.scene.dataset.fewshot.normal_filenames is not None
        why = {
            "samples": "normals are weighed by the samples along rays",
            "normals": "the terms act on normals along rays",
        }
        return Needs(
            why,
            "use sparsenerf, dietnerf or depth-mipnerf, or --pipeline.model.field-type mlp of a lite method",
            labels=frozenset({"normal"}) if measured else frozenset(),
            single_scene=True,
        )

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`normal_loss` and `orientation_loss` of the training pixels, as far as they have a weight."""
        config, samples, viewdirs = self.config, context.photos.samples, context.photos.viewdirs
        if samples is None or samples.normals is None or viewdirs is None:
            return {}
        losses, factor = {}, config.fade(step)
        weights, normals, measured = samples.weights, samples.normals, context.batch.get(NORMAL_KEY)
        if config.weight > 0 and measured is not None:
            misfit = normal_alignment_loss if config.loss == "alignment" else normal_chord_loss
            losses["normal_loss"] = factor * config.weight * misfit(weights, normals, measured)
        if config.orientation_weight > 0:
            every = torch.ones_like(weights[:, 0], dtype=torch.bool)
            counted = every if measured is None else has_normal(measured)
            term = orientation_loss(weights, normals, viewdirs, counted)
            losses["orientation_loss"] = factor * config.orientation_weight * term
        return losses
