"""The smoothness prior: rendered depth is smooth on patches of unseen views (RegNeRF)."""

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple, Type

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fewshot_ns.data.samplers.unseen_views import UnseenPatchSampler, unseen_cameras
from fewshot_ns.model_components.losses import patch_smoothness_loss
from fewshot_ns.model_components.renderers import expected_distance_clipped
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.model_components.schedules import linear_ramp
from fewshot_ns.priors.base import CameraRequest, Needs, Prior, PriorConfig, PriorScene, StepContext


@dataclass
class SmoothnessPriorConfig(PriorConfig):
    """Depth smoothness on patches of unseen views."""

    _target: Type = field(default_factory=lambda: SmoothnessPrior)
    """Class that the config builds."""
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
    """Weight of the fine level at the first step, for a colour loss that is summed over channels."""
    weight_end: float = 0.1
    """Weight of the fine level from `ramp_steps` on."""
    ramp_steps: int = 512
    """Steps over which the weight goes linearly from the one to the other."""
    coarse_weight: float = 0.1
    """Weight of the coarse level, where the model has one; it follows no ramp, as in the original."""


class SmoothnessPrior(Prior[SmoothnessPriorConfig]):
    """Smoothness of rendered depth on patches of unseen views.

    Args:
        config: the prior's config.
        scene: its ray space resolves the factor.
        name: of the field.
    """

    def __init__(self, config: SmoothnessPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        self.expect_at_least(1, num_patches=config.num_patches, num_poses=config.num_poses)
        self.expect_at_least(0, factor=config.factor)
        default = 0.0 if scene.geometry.ray_space == "ndc" else 1.0
        self.factor = (default if config.factor is None else config.factor) if config.enabled else 0.0
        self.patches: Optional[UnseenPatchSampler] = None

    @property
    def active(self) -> bool:
        """Whether unseen views have to be rendered at all."""
        return self.factor != 0.0

    @property
    def needs(self) -> Needs:
        """Patches of unseen views in the main forward."""
        if not self.active:
            return Needs(single_scene=False)
        why = {"unseen_views": "smoothness compares the depth of patches of unseen views"}
        return Needs(why, "train a single-scene method on one scene", request="cameras")  # type: ignore[arg-type]

    def prepare(self) -> None:
        """Draws the unseen views.

        Raises:
            ValueError: a forward-facing scene without bounds, cameras without a common focus, or patches larger than
                images.
        """
        if not self.active:
            CONSOLE.print(f"{self.flag}: without effect in this scene, as in the released code; {self.flag}.factor 1")
            return
        config, dataset = self.config, self.scene.dataset
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        seen = dataset.cameras
        cameras = unseen_cameras(seen, dataset.fewshot, config.num_poses, config.training_cameras_only, generator)
        self.patches = UnseenPatchSampler(cameras.to(self.scene.device), config.patch_size)

    def request(self, step: int) -> Optional[CameraRequest]:
        """Patches, each of a view of its own."""
        return None if self.patches is None else CameraRequest(self.patches.sample(self.config.num_patches))

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided, for the log."""
        return {"factor": self.factor, "num_patches": self.config.num_patches if self.active else 0}

    def weight(self, step: int) -> float:
        """Weight of the fine level at a step counted from 0; the original counts from 1."""
        config = self.config
        return self.factor * linear_ramp(step + 1, config.weight_start, config.weight_end, config.ramp_steps)

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """`depth_smoothness` and, given a coarse level, `depth_smoothness_coarse`, of the patches (P, H, W)."""
        patches = context.requested
        if patches is None:
            return {}
        coarse = None if patches.coarse is None else _distance_and_opacity(patches.coarse)
        return self.terms(_distance_and_opacity(patches), coarse, step)

    def terms(
        self, fine: Tuple[Tensor, Tensor], coarse: Optional[Tuple[Tensor, Tensor]], step: int
    ) -> Dict[str, Tensor]:
        """Weighted terms of a step from distances and opacities of each level, patch by patch, N values each."""
        factor = self.config.fade(step)
        losses = {"depth_smoothness": factor * self.weight(step) * self._of_level(*fine)}
        if coarse is not None:
            weight = factor * self.factor * self.config.coarse_weight
            losses["depth_smoothness_coarse"] = weight * self._of_level(*coarse)
        return losses

    def _of_level(self, distance: Tensor, opacity: Tensor) -> Tensor:
        shape = (-1, self.config.patch_size, self.config.patch_size)
        return patch_smoothness_loss(distance.reshape(shape), opacity.reshape(shape))


def _distance_and_opacity(rendering: Rendering) -> Tuple[Tensor, Tensor]:
    """(N, 1) distances, of ray backbones as RegNeRF clips them, and (N, 1) opacities."""
    flat = rendering.flatten()
    if flat.samples is None:
        return flat.distance, flat.accumulation
    weights, t = flat.samples.weights, flat.samples.t
    return expected_distance_clipped(weights, t), weights.sum(-1, keepdim=True)
