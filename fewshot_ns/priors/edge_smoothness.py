"""The edge smoothness prior: rendered depth of a photo is smooth where the photo is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Type

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.cameras.ray_space import scene_focus
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.model_components.losses import edge_aware_smoothness
from fewshot_ns.priors.base import Prior, PriorConfig, PriorScene, StepContext

_WEIGHT, _APART = 3.0, 15.0


@dataclass
class EdgeSmoothnessPriorConfig(PriorConfig):
    """Smooth inverse depth in the training views, except at edges of the photos (Godard et al. 2017)."""

    _target: Type = field(default_factory=lambda: EdgeSmoothnessPrior)
    """Class that the config builds."""
    weight: Optional[float] = None
    """Weight of the term; inverse depth counts in multiples of its mean. None: 3 where photos without alpha look
    at the scene from more than 15 degrees apart (median of the angles to the nearest other photo), which leaves much to
    guess; else 0, since depth of photos that look alike is known better than it is smooth."""
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
        self.weight = config.weight

    def prepare(self) -> None:
        """Checks that steps train whole images, and finds the weight where none is given.

        Raises:
            ValueError: they do not.
        """
        if not self.scene.whole_images:
            raise ValueError(
                f"{self.flag}.enabled: expected steps that train a whole image, found single pixels; give "
                "--pipeline.datamanager.whole-images True, or --pipeline.smoothness.enabled True in its place"
            )
        if self.weight is None:
            apart = nearest_angle(self.scene.dataset.cameras, self.scene.geometry)
            self.weight = _WEIGHT if apart > _APART and not self.scene.dataset.has_alpha else 0.0

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`edge_smoothness` of the step's image."""
        if not self.weight:
            return {}
        height, width = context.batch["image_size"]
        count = height * width
        image = context.batch["image"][-count:].to(context.photos.rgb).reshape(height, width, -1)
        distance, opacity = (
            values[-count:].reshape(height, width)
            for values in (context.photos.distance, context.photos.accumulation.detach())
        )
        factor = self.config.fade(step) * self.weight
        return {"edge_smoothness": factor * edge_aware_smoothness(distance, image, opacity > 0.5, self.config.edge)}

    def resolved(self) -> Dict[str, Any]:
        """The weight, which the scene decides where none is given."""
        return {"weight": self.weight} if self.config.enabled else {}


def nearest_angle(cameras: Cameras, geometry: SceneGeometry) -> float:
    """Median over cameras (V,) of the angle to the nearest other one, seen from the point that they look at, degrees; 0
    for a single camera."""
    if len(cameras) < 2:
        return 0.0
    centres = cameras.camera_to_worlds[:, :, 3].cpu().double() - scene_focus(cameras, geometry)
    directions = torch.nn.functional.normalize(centres, dim=-1)
    cosines = (directions @ directions.T).clamp(-1.0, 1.0).fill_diagonal_(-1.0)
    return float(torch.rad2deg(cosines.amax(dim=1).acos()).median())
