"""The smoothness prior: rendered depth is smooth on patches of views that nobody photographed (RegNeRF)."""

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple, Type

from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import RaySpace
from fewshot_ns.model_components.losses import patch_smoothness_loss
from fewshot_ns.model_components.renderers import expected_distance_clipped
from fewshot_ns.model_components.schedules import linear_ramp


@dataclass
class SmoothnessPriorConfig(InstantiateConfig):
    """Depth smoothness on patches of unseen views."""

    _target: Type = field(default_factory=lambda: SmoothnessPrior)
    """Class that the config builds."""
    enabled: bool = False
    """Whether training renders patches of unseen views."""
    factor: Optional[float] = None
    """Factor on the whole term; None: 1 in metric scenes and 0 in NDC, where the released code of RegNeRF and
    SparseNeRF multiplies the term by zero."""
    num_patches: int = 64
    """Patches per step (RegNeRF: 64, which is 4096 rays; SparseNeRF on DTU: 4)."""
    patch_size: int = 8
    """Sides of a patch, pixels."""
    num_poses: int = 10000
    """Unseen views, drawn once (RegNeRF: 10000, SparseNeRF: 1000; their loader keeps a single one for LLFF)."""
    training_cameras_only: bool = False
    """Whether unseen views are placed by the training cameras alone; the original uses all cameras, those of the test
    views included."""
    weight_start: float = 400.0
    """Weight of the fine level at the first step, beside a colour loss summed over channels."""
    weight_end: float = 0.1
    """Weight of the fine level from `ramp_steps` on."""
    ramp_steps: int = 512
    """Steps over which the weight goes linearly from the one to the other."""
    coarse_weight: float = 0.1
    """Weight of the coarse level, where the model has one; it follows no ramp, as in the original."""


class SmoothnessPrior:
    """Loss terms of the smoothness prior.

    Args:
        config: see `SmoothnessPriorConfig`.
        ray_space: that of the scene.
    """

    def __init__(self, config: SmoothnessPriorConfig, ray_space: RaySpace) -> None:
        self.config = config
        default = 0.0 if ray_space == "ndc" else 1.0
        self.factor = (default if config.factor is None else config.factor) if config.enabled else 0.0

    @property
    def active(self) -> bool:
        """Whether unseen views have to be rendered at all."""
        return self.factor != 0.0

    def resolved(self) -> Dict[str, float]:
        """What the scene decided, for the log; empty where the prior is off."""
        return {"factor": self.factor} if self.config.enabled else {}

    def weight(self, step: int) -> float:
        """Weight of the fine level at a step counted from 0; the original counts from 1."""
        config = self.config
        return self.factor * linear_ramp(step + 1, config.weight_start, config.weight_end, config.ramp_steps)

    def loss_dict(self, outputs: Mapping[str, Tensor], step: int) -> Dict[str, Tensor]:
        """Weighted terms of the step.

        Args:
            outputs: of the unseen rays, patch by patch and row by row: `weights` (N, S) and `t` (N, S + 1), and
                `weights_coarse` and `t_coarse` where the model has a coarse level.
            step: current step.

        Returns:
            `depth_smoothness` and, given a coarse level, `depth_smoothness_coarse`; empty where the prior is off.
        """
        if not self.active:
            return {}
        coarse = None
        if "weights_coarse" in outputs:
            coarse = _distance_and_opacity(outputs["weights_coarse"], outputs["t_coarse"])
        return self.terms(_distance_and_opacity(outputs["weights"], outputs["t"]), coarse, step)

    def terms(
        self, fine: Tuple[Tensor, Tensor], coarse: Optional[Tuple[Tensor, Tensor]], step: int
    ) -> Dict[str, Tensor]:
        """As `loss_dict`, from distances (N, 1) and opacities (N, 1) of each level."""
        losses = {"depth_smoothness": self.weight(step) * self._of_level(*fine)}
        if coarse is not None:
            losses["depth_smoothness_coarse"] = self.factor * self.config.coarse_weight * self._of_level(*coarse)
        return losses

    def _of_level(self, distance: Tensor, opacity: Tensor) -> Tensor:
        shape = (-1, self.config.patch_size, self.config.patch_size)
        return patch_smoothness_loss(distance.reshape(shape), opacity.reshape(shape))


def _distance_and_opacity(weights: Tensor, t: Tensor) -> Tuple[Tensor, Tensor]:
    return expected_distance_clipped(weights, t), weights.sum(-1, keepdim=True)
