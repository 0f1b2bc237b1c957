"""The depth prior: ranking and continuity distilled from depth maps of the training views (SparseNeRF)."""

from dataclasses import dataclass, field
from typing import Dict, Literal, Optional, Type

from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from fewshot_ns.model_components.losses import depth_continuity_loss, depth_ranking_loss


@dataclass
class DepthPriorConfig(InstantiateConfig):
    """Depth ranking and spatial continuity on quads of pixels."""

    _target: Type = field(default_factory=lambda: DepthPrior)
    """Class that the config builds."""
    enabled: bool = False
    """Whether training uses the depth maps of the scene."""
    num_quads: int = 128
    """Quads per step; their 4 rays each also serve the colour loss."""
    single_image: bool = False
    """Whether all quads of a step come from one training image, as in the original."""
    box_fraction: float = 1.0
    """Sides of the box that holds a pair, as a fraction of the image's sides."""
    protocol_boxes: bool = True
    """Whether a data set whose own protocol has boxes (NVS-RGBD) draws pairs in those, by its rule for ties."""
    neighbour_fraction: float = 0.3
    """Fraction of the 6x6 candidates, nearest in prior depth first, among which a neighbour is drawn."""
    allow_self_neighbour: bool = True
    """Whether a pixel may be its own neighbour, as in the original (about 10 % of its pairs)."""
    tie: Literal["first", "second"] = "second"
    """Which of two pixels with equal prior counts as nearer: the one drawn first or second."""
    ranking_weight: float = 0.3
    """Weight of the ranking term."""
    ranking_margin: float = 1e-4
    """By how much the nearer pixel has to be rendered nearer, units of the ray parameter."""
    ranking_margin_scale: float = 0.0
    """Widens the margin of a pair by this fraction of the near-far interval times the gap that the prior sees between
    its pixels (1 = the spread of the prior over the image); 0 ranks without regard to the gap, as the paper does."""
    continuity_weight: float = 0.1
    """Weight of the continuity term."""
    continuity_margin: float = 1e-4
    """Difference between neighbours that costs nothing, units of the ray parameter."""
    start_step: int = 0
    """First step at which the terms count."""
    stop_step: Optional[int] = None
    """Step from which the terms no longer count; None: never."""


class DepthPrior:
    """Loss terms of the depth prior.

    Args:
        config: see `DepthPriorConfig`.
    """

    def __init__(self, config: DepthPriorConfig) -> None:
        self.config = config

    def active(self, step: int) -> bool:
        """Whether the terms count at this step."""
        stop = self.config.stop_step
        return self.config.enabled and step >= self.config.start_step and (stop is None or step < stop)

    def loss_dict(self, distance: Tensor, gaps: Tensor, interval: float, step: int) -> Dict[str, Tensor]:
        """Weighted terms of the step.

        Args:
            distance: (R, 1) expected ray parameter; the first 4 * Q rays are quads.
            gaps: (Q,) gap that the prior sees between p0 and p1 of each quad; empty for a batch without quads.
            interval: far minus near, units of the ray parameter.
            step: current step.

        Returns:
            `depth_ranking` and `depth_continuity`, empty where the prior is off.
        """
        if not self.active(step) or len(gaps) == 0:
            return {}
        quads = distance[: 4 * len(gaps), 0].reshape(-1, 4)
        config = self.config
        margin = config.ranking_margin + config.ranking_margin_scale * interval * gaps
        return {
            "depth_ranking": config.ranking_weight * depth_ranking_loss(quads, margin),
            "depth_continuity": config.continuity_weight * depth_continuity_loss(quads, config.continuity_margin),
        }
