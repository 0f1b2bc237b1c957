"""The depth prior: what depth maps of the training views say, by one of several losses."""

from dataclasses import dataclass, field, replace
from typing import Any, Dict, FrozenSet, List, Literal, Optional, Tuple, Type

import torch
from torch import Tensor

from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.labels import DEPTH_KEY, DEPTH_SIGMA_KEY, DEPTH_SLOPE_KEY, NEARNESS_KEY
from fewshot_ns.data.samplers.quads import QuadSampler, QuadSamplerOptions
from fewshot_ns.model_components.losses import (
    depth_continuity_loss,
    depth_gap_slope,
    depth_ranking_loss,
    margins_of,
)
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.pretrained.weights import ways_out
from fewshot_ns.priors.base import BoundsFinder, Needs, PixelRequest, Prior, PriorConfig, PriorScene, StepContext
from fewshot_ns.priors.depth.bounds import bounds_in_photos
from fewshot_ns.priors.depth.inverse import measured_inverse_error, nearness_correlation
from fewshot_ns.priors.depth.metric import (
    NEED_SCALE,
    DepthLoss,
    MetricDepthConfig,
    l2_depth_terms,
    metric_depth_terms,
    resolved_near_weight,
)
from fewshot_ns.priors.depth.sources import (
    DepthSourceConfig,
    FoundMaps,
    fields_as_flags,
    find_maps,
    unfit_files,
    ways_to_depth,
)


@dataclass
class DepthPriorConfig(DepthSourceConfig, PriorConfig):
    """Depth of the training views as their depth maps say."""

    _target: Type = field(default_factory=lambda: DepthPrior)
    """Class that the config builds."""
    loss: DepthLoss = "ranking"
    """ranking: order of depths and continuity, on quads of pixels; pearson: correlation with maps of any scale; cdf,
    l2, urf, ds-nerf, inverse-l1: comparison with depths of known scale on all rays that have one; none: no term."""
    pearson_weight: float = 0.05
    """Weight of pearson: 1 - the correlation of rendered inverse depth with the map, over the step's pixels of a
    view."""
    metric: MetricDepthConfig = field(default_factory=MetricDepthConfig)
    """Weights and widths of the losses on depths of known scale."""
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
    """Whether a dataset whose own protocol has boxes (NVS-RGBD) draws pairs in those, by its rule for ties."""
    neighbour_fraction: float = 0.3
    """Fraction of the 6x6 candidates, nearest in prior depth first, among which a neighbour is drawn."""
    allow_self_neighbour: bool = True
    """Whether a pixel may be its own neighbour, as in the original (about 10 % of its pairs)."""
    tie: Literal["first", "second"] = "second"
    """Which of two pixels with equal prior counts as nearer: the one drawn first or second."""
    ranking_weight: Optional[float] = 0.3
    """Weight of the ranking term. None: SparseNeRF's 0.5 in NDC, 0.2 in metric scenes, for a colour loss that is summed
    over channels."""
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

    def scene_files(self) -> FrozenSet[str]:
        """The scene's own depth maps, unless they are computed where there are none."""
        wanted = self.source == "files" or (self.fill == "files" and self.source in ("stereo", "mvs"))
        read = self.enabled and wanted and self.loss != "none"
        return frozenset({"depth_maps"}) if read else frozenset()

    def bounds_finder(self) -> Optional[BoundsFinder]:
        """By the depth that the photos confirm, where the maps come from them."""
        photos = self.source in ("stereo", "mvs", "auto")
        return self._bounds if self.enabled and photos and self.loss != "none" else None

    def _bounds(self, dataset: FewShotDataset, flag: str) -> Optional[Tuple[float, float]]:
        if self.source == "auto" and not unfit_files(dataset.fewshot, self.loss in NEED_SCALE):
            return None
        matching = self.mvs if self.source == "mvs" else self.stereo
        ways = ways_to_depth(flag, self.loss in NEED_SCALE, ("mvs",))
        with fields_as_flags(flag), ways_out(ways):
            return bounds_in_photos(dataset, matching, f"{flag}.mvs.weights", self.cache_dir, self.flat_regions)


class DepthPrior(Prior[DepthPriorConfig]):
    """Ranking and continuity on quads of pixels, correlation with maps, or losses on measured depth.

    Args:
        config: the prior's config.
        scene: its ray space, protocol and length unit resolve the fields that are None.
        name: of the field.

    Raises:
        ValueError: a length unit or a smallest sigma that is not positive, or a negative weight.
    """

    def __init__(self, config: DepthPriorConfig, scene: PriorScene, name: str) -> None:
        super().__init__(config, scene, name)
        record = scene.dataset.fewshot
        self.nvs_rgbd = record.pair_box is not None
        length_unit = config.metric.length_unit
        self.length_unit = record.length_unit if length_unit is None else length_unit
        if not self.length_unit > 0:
            raise ValueError(f"expected a positive {self.flag}.metric.length-unit, got {self.length_unit:g}")
        smallest = config.metric.min_sigma_of_maps
        if smallest is not None and not smallest > 0:
            raise ValueError(f"expected a positive {self.flag}.metric.min-sigma-of-maps, got {smallest:g}")
        self.expect_at_least(1, num_quads=config.num_quads)
        self.expect_at_least(0, ranking_weight=config.ranking_weight, continuity_weight=config.continuity_weight)
        self.expect_at_least(0, pearson_weight=config.pearson_weight)
        self.expect_at_least(0, **{"metric.inverse-l1-weight": config.metric.inverse_l1_weight})
        ndc = record.geometry.ray_space == "ndc"
        ranking, continuity = (0.5, 0.05 if self.nvs_rgbd else 0.005) if ndc else (0.2, 0.2)
        self.ranking_weight = ranking if config.ranking_weight is None else config.ranking_weight
        self.continuity_weight = continuity if config.continuity_weight is None else config.continuity_weight
        self.box_fraction, self.box_pixels = config.box_fraction, config.box_pixels
        if config.box_fraction is None:
            self.box_fraction = 1.0
            self.box_pixels = 30 if ndc and config.box_pixels is None else config.box_pixels
        self.quads: Optional[QuadSampler] = None
        self.maps: Optional[FoundMaps] = None
        """Where the maps come from, once that is decided."""
        self._gaps, self._views = torch.zeros(0), torch.zeros(0, dtype=torch.long)

    @property
    def needs_quads(self) -> bool:
        """Whether training needs quads of pixels."""
        return self.config.enabled and self.config.loss == "ranking"

    @property
    def needs_metric_depth(self) -> bool:
        """Whether training needs depth of known scale."""
        return self.config.enabled and self.config.loss in NEED_SCALE

    @property
    def needs(self) -> Needs:
        """Quads in the batch, or what maps say of it; samples along rays for the losses that bound weights."""
        loss = self.config.loss
        if loss == "ranking":
            return Needs(alternative="train a single-scene method on one scene", request="pixels")
        label = "nearness" if loss in ("pearson", "inverse-l1") else "depth"
        labels = frozenset() if loss == "none" else frozenset({label})
        if loss in ("cdf", "urf", "ds-nerf"):
            why = {"samples": f"{self.flag}.loss {loss} bounds weights along rays"}
            return Needs(why, f"use {self.flag}.loss l2, inverse-l1, pearson or ranking", labels=labels)  # type: ignore[arg-type]
        return Needs(alternative="train a single-scene method on one scene", labels=labels)  # type: ignore[arg-type]

    @property
    def num_quads(self) -> int:
        """Quads in a batch."""
        share = self.scene.num_rays // (8 if self.nvs_rgbd else 4)
        return share if self.config.num_quads is None else self.config.num_quads

    def resolved(self) -> Dict[str, Any]:
        """Values that the scene decided, for the log."""
        maps = {} if self.maps is None else self.maps.resolved()
        if self.config.loss in ("pearson", "inverse-l1"):
            return {"loss": self.config.loss, **maps}
        if not self.needs_quads:
            near = {"near_weight": resolved_near_weight(self.config.metric, self.scene.geometry.ray_space)}
            bounded = near if self.config.loss in ("cdf", "urf") else {}
            return {"loss": self.config.loss, "length_unit": self.length_unit, **bounded, **maps}
        weights = {"ranking_weight": self.ranking_weight, "continuity_weight": self.continuity_weight}
        boxes = {"box_fraction": self.box_fraction, "box_pixels": self.box_pixels}
        return {**weights, **boxes, "num_quads": self.num_quads, **maps}

    def prepare(self) -> None:
        """Computes the maps that the config asks for, and builds the sampler of quads.

        Raises:
            WeightsNotFoundError: the network is not found.
            ValueError: there are no depth maps, one of them is unusable, or the batch is too small; or the loss is not
                one for the scene.
        """
        if self.config.loss == "inverse-l1" and self.scene.geometry.ray_space == "ndc":
            raise ValueError(
                f"{self.flag}.loss inverse-l1: expected a scene in world space, found {self.scene.data} in NDC; give "
                f"the dataparser's --ray-space metric, or {self.flag}.loss cdf, or pearson"
            )
        if self.config.loss != "none":
            self.maps = find_maps(self.config, self.scene, self.flag, self.needs_metric_depth)
            if self.maps.source == "none":
                self.config = replace(self.config, loss="none")
        if self.config.loss in NEED_SCALE:
            unfit = unfit_files(self.scene.dataset.fewshot, metric=True)
            if unfit:
                ways = ways_to_depth(self.flag, True)
                raise ValueError(f"{self.flag}.loss {self.config.loss}: {unfit}. Ways out: {ways}")
        if self.needs_quads:
            self.quads = self._build_sampler()

    def _build_sampler(self) -> QuadSampler:
        config, dataset, num_rays = self.config, self.scene.dataset, self.scene.num_rays
        record = dataset.fewshot
        assert record.depth_prior_filenames is not None
        if 4 * self.num_quads > num_rays:
            raise ValueError(
                f"{self.num_quads} quads need {4 * self.num_quads} rays, but a batch has {num_rays}; lower "
                f"{self.flag}.num-quads or raise --pipeline.datamanager.train-num-rays-per-batch"
            )
        options = QuadSamplerOptions(
            box_fraction=1.0 if self.box_fraction is None else self.box_fraction,
            box_pixels=self.box_pixels,
            neighbour_fraction=config.neighbour_fraction,
            allow_self=config.allow_self_neighbour,
            tie=config.tie,
            leave_out_views=record.depth_encoding.may_be_empty,
        )
        box = record.pair_box if config.protocol_boxes else None
        if box is not None:
            options = replace(options, box_pixels=box.side, min_valid=box.min_valid, tie=box.tie)
        nearness: List[Tensor] = []
        valid: List[Tensor] = []
        for index in range(len(dataset)):
            depth = dataset.depth_map(index)
            nearness.append(torch.as_tensor(depth.nearness()))
            valid.append(torch.as_tensor(depth.valid) & dataset.training_mask(index)[..., 0])
        return QuadSampler(nearness, valid, options)

    def request(self, step: int) -> Optional[PixelRequest]:
        """Quads in the order p0, p1, n0, n1; of NVS-RGBD the other pixels come from boxes too, as in the original."""
        if self.quads is None:
            return None
        single = self.config.single_image or self.scene.single_image_batches
        pixels = self.quads.sample(self.num_quads, single)
        self._gaps, self._views = self.quads.gaps(pixels), pixels[::4, 0]
        boxed = self.config.protocol_boxes and self.nvs_rgbd
        return PixelRequest(pixels, self.quads.sample_singles if boxed else None)

    def loss_dict(self, step: int, context: StepContext) -> Dict[str, Tensor]:
        """Terms of the configured loss: `depth_ranking` and `depth_continuity`, `depth_pearson`, `depth_inverse_l1`, or
        those on measured depth along rays."""
        if self.config.loss == "ranking":
            if context.requested is None:
                return {}
            quads = context.requested.distance[:, 0].reshape(-1, 4)
            return self.ranking_terms(quads, self._gaps.to(quads.device), step, self._views.to(quads.device))
        photos, batch, factor = context.photos, context.batch, self.config.fade(step)
        if self.config.loss == "pearson":
            loss = nearness_correlation(photos, batch[NEARNESS_KEY], batch["indices"][:, 0])
            return {"depth_pearson": factor * self.config.pearson_weight * loss}
        if self.config.loss == "inverse-l1":
            loss = measured_inverse_error(photos, batch[NEARNESS_KEY])
            return {"depth_inverse_l1": factor * self.config.metric.inverse_l1_weight * loss}
        if not self.needs_metric_depth:
            return {}
        labels = (batch[key] for key in (DEPTH_KEY, DEPTH_SIGMA_KEY, DEPTH_SLOPE_KEY))
        return self.metric_terms(photos, *labels, step=step)

    def ranking_terms(
        self, quads: Tensor, gaps: Tensor, step: int, views: Optional[Tensor] = None
    ) -> Dict[str, Tensor]:
        """Weighted terms of ranking and continuity.

        Args:
            quads: (Q, 4) rendered ray parameters of p0, p1, n0, n1.
            gaps: (Q,) gap that the prior sees between p0 and p1 of each quad.
            step: current step.
            views: (Q,) training view of each quad, whose own scale the prior has; None: all of one view.

        Returns:
            `depth_ranking` and `depth_continuity`, empty without quads.
        """
        if len(gaps) == 0:
            return {}
        config, geometry = self.config, self.scene.geometry
        slope = torch.full_like(gaps, config.ranking_margin_scale * (geometry.far - geometry.near))
        if config.ranking_margin_fit > 0:
            views = torch.zeros_like(gaps, dtype=torch.long) if views is None else views
            slope = slope.maximum(config.ranking_margin_fit * depth_gap_slope(quads.detach(), gaps, views))
        factor = config.fade(step)
        ranking = depth_ranking_loss(quads, config.ranking_margin + margins_of(slope, gaps))
        continuity = depth_continuity_loss(quads, config.continuity_margin)
        return {
            "depth_ranking": factor * self.ranking_weight * ranking,
            "depth_continuity": factor * self.continuity_weight * continuity,
        }

    def metric_terms(
        self, rendering: Rendering, depth: Tensor, depth_sigma: Tensor, depth_slope: Tensor, step: int
    ) -> Dict[str, Tensor]:
        """Weighted terms that compare rendered with measured depth.

        Args:
            rendering: (R,) training pixels.
            depth: (R, 1) measured depth as ray parameter, 0 where there is none.
            depth_sigma: (R, 1) its standard deviation, world units of planar depth, 0 where unknown.
            depth_slope: (R, 1) ray parameter per world unit of planar depth there.
            step: current step.
        """
        config, factor, samples = self.config, self.config.fade(step), rendering.samples
        measured = depth, depth_sigma, depth_slope
        if samples is None:
            if config.loss != "l2":
                return {}
            # The mean over an image backbone's pixel, not divided by its opacity, as along a ray.
            accumulated = rendering.distance * rendering.accumulation
            terms = l2_depth_terms(config.metric, accumulated, depth, self.length_unit)
        else:
            rendered = samples.weights, samples.t
            scene = self.length_unit, self.scene.geometry.ray_space
            terms = metric_depth_terms(config.metric, config.loss, *rendered, *measured, step, *scene)
        return {name: factor * term for name, term in terms.items()}
