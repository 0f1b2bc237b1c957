"""The depth prior: ranking and continuity distilled from depth maps of the training views (SparseNeRF)."""

from dataclasses import dataclass, field
from typing import Any, Dict, Literal, Optional, Type

import torch
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import RaySpace
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.model_components.losses import depth_continuity_loss, depth_gap_slope, depth_ranking_loss
from fewshot_ns.model_components.schedules import linear_ramp
from fewshot_ns.pretrained.monocular_depth import MonocularDepthConfig, monocular_depths
from fewshot_ns.priors.depth.metric import DepthLoss, MetricDepthConfig, metric_depth_terms
from fewshot_ns.utils.configs import SavedConfig


@dataclass
class DepthPriorConfig(SavedConfig, InstantiateConfig):
    """Depth ranking and spatial continuity on quads of pixels."""

    _target: Type = field(default_factory=lambda: DepthPrior)
    """Class that the config builds."""
    enabled: bool = False
    """Whether training uses the depth maps of the scene."""
    loss: DepthLoss = "ranking"
    """ranking: order of depths and continuity, on quads of pixels; cdf, l2, urf, ds-nerf: comparison with depths of
    known scale on all rays that have one; none: no term."""
    metric: MetricDepthConfig = field(default_factory=MetricDepthConfig)
    """Weights and widths of the losses on depths of known scale."""
    source: Literal["files", "mono"] = "files"
    """files: depth maps of the scene; mono: a monocular network, whose missing maps are computed before training."""
    mono: MonocularDepthConfig = field(default_factory=MonocularDepthConfig)
    """The network of source mono."""
    num_quads: Optional[int] = 128
    """Quads per step; their 4 rays each also serve the colour loss. None: as in SparseNeRF, all rays of the batch lie
    in quads, of NVS-RGBD half."""
    single_image: bool = False
    """Whether all quads of a step come from one training image, as in the original."""
    box_fraction: Optional[float] = 1.0
    """Sides of the box that holds a pair, as a fraction of the image's sides. None: as in SparseNeRF, 30 pixels in NDC
    (its value for most scenes of LLFF, at 504x378) and the whole image in metric scenes."""
    box_pixels: Optional[int] = None
    """Sides of the box in pixels, instead of `box_fraction`."""
    protocol_boxes: bool = True
    """Whether a data set whose own protocol has boxes (NVS-RGBD) draws pairs in those, by its rule for ties."""
    neighbour_fraction: float = 0.3
    """Fraction of the 6x6 candidates, nearest in prior depth first, among which a neighbour is drawn."""
    allow_self_neighbour: bool = True
    """Whether a pixel may be its own neighbour, as in the original (about 10 % of its pairs)."""
    tie: Literal["first", "second"] = "second"
    """Which of two pixels with equal prior counts as nearer: the one drawn first or second."""
    ranking_weight: Optional[float] = 0.3
    """Weight of the ranking term. None: SparseNeRF's 0.5 in NDC, 0.2 in metric scenes, beside a colour loss summed over
    channels."""
    ranking_margin: float = 1e-4
    """By how much the nearer pixel has to be rendered nearer, units of the ray parameter."""
    ranking_margin_scale: float = 0.0
    """Widens the margin of a pair by this fraction of the near-far interval times the gap that the prior sees between
    its pixels (1 = the spread of the prior over the image); 0 ranks without regard to the gap, as the paper does."""
    ranking_margin_fit: float = 0.0
    """Widens the margin of a pair to at least this fraction of what its gap means in distance, by the line that fits
    the rendered distances of the view's pairs in this step; below 1, or the fit drives itself. 0: no fit."""
    continuity_weight: Optional[float] = 0.1
    """Weight of the continuity term. None: SparseNeRF's 0.005 in NDC (NVS-RGBD 0.05), 0.2 in metric scenes."""
    continuity_margin: float = 1e-4
    """Difference between neighbours that costs nothing, units of the ray parameter."""
    start_step: int = 0
    """First step at which the terms count."""
    stop_step: Optional[int] = None
    """Step from which the terms no longer count; None: never."""
    fade_start_step: int = 0
    """Step from which the weights of both terms fall linearly."""
    fade_end_step: int = 0
    """Step from which they have fallen to fade_ratio."""
    fade_ratio: float = 1.0
    """Fraction of the weights that remains; 1: they never fall."""


class DepthPrior:
    """Loss terms of the depth prior.

    Args:
        config: see `DepthPriorConfig`.
        ray_space: that of the scene.
        nvs_rgbd: whether the scene's protocol is that of NVS-RGBD, which has a weight and a batch of its own.
        length_unit: the scene's own unit of lengths, world units; see `FewShotMetadata.length_unit`.
    """

    def __init__(
        self,
        config: DepthPriorConfig,
        ray_space: RaySpace = "metric",
        nvs_rgbd: bool = False,
        length_unit: float = 1.0,
    ) -> None:
        self.config, self.nvs_rgbd = config, nvs_rgbd
        self.length_unit = length_unit if config.metric.length_unit is None else config.metric.length_unit
        if not self.length_unit > 0:
            raise ValueError(f"expected a positive --pipeline.depth.metric.length-unit, got {self.length_unit:g}")
        ndc = ray_space == "ndc"
        ranking, continuity = (0.5, 0.05 if nvs_rgbd else 0.005) if ndc else (0.2, 0.2)
        self.ranking_weight = ranking if config.ranking_weight is None else config.ranking_weight
        self.continuity_weight = continuity if config.continuity_weight is None else config.continuity_weight
        self.box_fraction, self.box_pixels = config.box_fraction, config.box_pixels
        if config.box_fraction is None:
            self.box_fraction = 1.0
            self.box_pixels = 30 if ndc and config.box_pixels is None else config.box_pixels

    @property
    def ranks(self) -> bool:
        """Whether training needs quads of pixels."""
        return self.config.enabled and self.config.loss == "ranking"

    @property
    def measures(self) -> bool:
        """Whether training needs the depth of each ray."""
        return self.config.enabled and self.config.loss not in ("ranking", "none")

    def num_quads(self, num_rays: int) -> int:
        """Quads in a batch of `num_rays` rays."""
        share = num_rays // (8 if self.nvs_rgbd else 4)
        return share if self.config.num_quads is None else self.config.num_quads

    def resolved(self) -> Dict[str, Any]:
        """What the scene decided, for the log; empty where the prior is off."""
        names = ("ranking_weight", "continuity_weight", "box_fraction", "box_pixels")
        if self.config.enabled and not self.ranks:
            return {"loss": self.config.loss, "length_unit": self.length_unit}
        return {name: getattr(self, name) for name in names} if self.config.enabled else {}

    def provide_maps(self, dataset: FewShotDataset) -> None:
        """Gives the training views the maps of a monocular network where the config asks for it.

        Raises:
            WeightsNotFoundError: the network is nowhere to be had.
        """
        if not (self.ranks or self.measures) or self.config.source == "files":
            return
        background = dataset.fewshot.geometry.background
        depths = monocular_depths(
            self.config.mono, dataset.image_filenames, background, "--pipeline.depth.mono.weights"
        )
        dataset.use_depth_maps(depths.files, depths.encoding)

    def active(self, step: int) -> bool:
        """Whether the terms count at this step."""
        stop = self.config.stop_step
        return self.config.enabled and step >= self.config.start_step and (stop is None or step < stop)

    def fade(self, step: int) -> float:
        """Factor on the weights at this step."""
        config = self.config
        start = config.fade_start_step
        return linear_ramp(step - start, 1.0, config.fade_ratio, config.fade_end_step - start)

    def loss_dict(
        self, distance: Tensor, gaps: Tensor, interval: float, step: int, views: Optional[Tensor] = None
    ) -> Dict[str, Tensor]:
        """Weighted terms of the step.

        Args:
            distance: (R, 1) expected ray parameter; the first 4 * Q rays are quads.
            gaps: (Q,) gap that the prior sees between p0 and p1 of each quad; empty for a batch without quads.
            interval: far minus near, units of the ray parameter.
            step: current step.
            views: (Q,) training view of each quad, whose own scale the prior has; None: all of one view.

        Returns:
            `depth_ranking` and `depth_continuity`, empty where the prior is off.
        """
        if not self.active(step) or len(gaps) == 0:
            return {}
        quads = distance[: 4 * len(gaps), 0].reshape(-1, 4)
        config = self.config
        slope = torch.full_like(gaps, config.ranking_margin_scale * interval)
        if config.ranking_margin_fit > 0:
            views = torch.zeros_like(gaps, dtype=torch.long) if views is None else views
            slope = slope.maximum(config.ranking_margin_fit * depth_gap_slope(quads.detach(), gaps, views))
        factor = self.fade(step)
        ranking = depth_ranking_loss(quads, config.ranking_margin + slope * gaps)
        continuity = depth_continuity_loss(quads, config.continuity_margin)
        return {
            "depth_ranking": factor * self.ranking_weight * ranking,
            "depth_continuity": factor * self.continuity_weight * continuity,
        }

    def metric_loss_dict(
        self,
        outputs: Dict[str, Tensor],
        depth: Optional[Tensor],
        depth_sigma: Optional[Tensor],
        depth_slope: Optional[Tensor],
        step: int,
    ) -> Dict[str, Tensor]:
        """Weighted terms of the step that compare rendered with measured depth; empty where the loss is another.

        Args:
            outputs: `weights` (R, S) and `t` (R, S + 1) of the final level.
            depth: (R, 1) measured depth as ray parameter, 0 where there is none; None without maps.
            depth_sigma: (R, 1) its standard deviation, world units of planar depth, 0 where unknown.
            depth_slope: (R, 1) ray parameter per world unit of planar depth there.
            step: current step.
        """
        if not self.measures or not self.active(step) or depth is None or depth_sigma is None or depth_slope is None:
            return {}
        config, factor = self.config, self.fade(step)
        rendered = outputs["weights"], outputs["t"]
        measured = depth, depth_sigma, depth_slope
        terms = metric_depth_terms(config.metric, config.loss, *rendered, *measured, step, self.length_unit)
        return {name: factor * term for name, term in terms.items()}
