"""Losses of the depth prior that compare rendered with measured depth, by name."""

from dataclasses import dataclass
from typing import Dict, Literal, Optional

import torch
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import RaySpace
from fewshot_ns.model_components.depth_losses import (
    cdf_bound_losses,
    depth_error,
    ds_nerf_loss,
    open_bound_loss,
    urf_losses,
)
from fewshot_ns.model_components.renderers import accumulated_distance
from fewshot_ns.model_components.schedules import square_root_decay

DepthLoss = Literal["ranking", "pearson", "cdf", "l2", "urf", "ds-nerf", "inverse-l1", "none"]
NEED_SCALE = frozenset({"cdf", "l2", "urf", "ds-nerf", "inverse-l1"})
"""Losses that need depth of known scale."""


@dataclass
class MetricDepthConfig:
    """Losses on depth of known scale; lengths are planar depth, in NDC too."""

    length_unit: Optional[float] = None
    """Unit of all lengths here, in units of the scene's world (the one that the parser may have scaled). None: a metre
    in scenes whose files are in metres (rgbd-data), else 1."""
    near_weight: Optional[float] = 0.1
    """Weight of the terms around the surface: cdf, urf. None: 0.5 in NDC, 0.1 in metric scenes, which suits depth from
    the photos themselves."""
    empty_weight: float = 1.0
    """Weight of the term on empty space before it: cdf, urf."""
    l2_weight: float = 0.1
    """Weight of l2, whose error is planar depth in metric scenes and one of the ray parameter in NDC."""
    ds_nerf_weight: float = 0.1
    """Weight of ds-nerf."""
    inverse_l1_weight: float = 0.05
    """Weight of inverse-l1, whose error counts in multiples of the inverse of the median measured depth."""
    sigma: float = 0.03
    """Standard deviation of the measured depth: cdf, ds-nerf."""
    sigma_of_maps: bool = True
    """Whether a map's own standard deviation, where it has one and it is larger, replaces sigma."""
    min_sigma_of_maps: Optional[float] = None
    """Smallest standard deviation of maps that have their own, in place of sigma there; None: sigma."""
    sigma_start: float = 0.25
    """Sigma at the first step where it is annealed."""
    sigma_slope: float = 0.5
    """How fast it shrinks: sigma = max(start - slope sqrt(4 step / steps), end)."""
    sigma_end: float = 0.09
    """Smallest annealed sigma."""
    sigma_anneal_steps: int = 0
    """Steps of the run that the annealing of sigma (the first version of depth-mipnerf) refers to; 0: fixed."""
    beta: float = 0.0
    """cdf: the bounds before and behind the surface are moved apart by this much each; 0.06 suits real sensors."""
    far_open: bool = False
    """cdf: whether all samples behind the surface are bounded, as in the text; False: those up to 3 sigma."""
    open_bounds: bool = False
    """cdf: whether all samples before the surface are bounded as well as all behind it, as one set and without beta (a
    variant of the original's code)."""
    urf_start: float = 0.45
    """urf: half width of the surface's neighbourhood at the first step."""
    urf_slope: float = 0.4
    """urf: how fast it shrinks, as sigma_slope."""
    urf_end: float = 0.15
    """urf: its smallest value."""
    urf_anneal_steps: int = 50000
    """urf: steps of the run that its annealing refers to; 0: urf_end from the start."""
    urf_squared: bool = False
    """urf: whether the term around the surface is squared once more (a variant of the original's code)."""


def resolved_near_weight(config: MetricDepthConfig, ray_space: RaySpace) -> float:
    """The weight around the surface in a scene."""
    if config.near_weight is not None:
        return config.near_weight
    return 0.5 if ray_space == "ndc" else 0.1


def annealed_sigma(config: MetricDepthConfig, step: int) -> float:
    """Sigma at this step."""
    if config.sigma_anneal_steps == 0:
        return config.sigma
    return square_root_decay(step, config.sigma_start, config.sigma_slope, config.sigma_end, config.sigma_anneal_steps)


def l2_depth_terms(
    config: MetricDepthConfig, accumulated: Tensor, depth: Tensor, length_unit: float = 1.0
) -> Dict[str, Tensor]:
    """The weighted term of l2.

    Args:
        config: weights and widths of the losses.
        accumulated: (R, 1) rendered ray parameter, not divided by the opacity.
        depth: (R, 1) measured one, 0 where there is none.
        length_unit: unit of the config's lengths, world units.
    """
    error = depth_error(accumulated, depth, depth > 0)
    return {"depth_l2": config.l2_weight * error / length_unit**2}


def metric_depth_terms(
    config: MetricDepthConfig,
    loss: DepthLoss,
    weights: Tensor,
    t: Tensor,
    depth: Tensor,
    depth_sigma: Tensor,
    depth_slope: Tensor,
    step: int,
    length_unit: float = 1.0,
    ray_space: RaySpace = "metric",
) -> Dict[str, Tensor]:
    """Weighted terms of one loss; rays without depth do not count.

    Args:
        config: weights and widths of the losses.
        loss: its name; those that do not compare along rays give no terms.
        weights: (R, S) of the final level.
        t: (R, S + 1) fenceposts; no gradient flows into them.
        depth: (R, 1) measured depth as ray parameter, 0 where there is none.
        depth_sigma: (R, 1) its standard deviation in world units of planar depth, 0 where unknown.
        depth_slope: (R, 1) ray parameter per world unit of planar depth at the measured depth.
        step: current step.
        length_unit: unit of the config's lengths, world units.
        ray_space: of the scene, which decides a weight that is None.
    """
    t, near_weight = t.detach(), resolved_near_weight(config, ray_space)
    if loss == "l2":
        return l2_depth_terms(config, accumulated_distance(weights, t), depth, length_unit)
    # Where a map's slope or width is no number it has no depth, or no width of its own.
    sloped = (depth_slope > 0) & depth_slope.isfinite()
    depth = torch.where(sloped, depth, torch.zeros_like(depth))
    depth_slope = torch.where(sloped, depth_slope, torch.ones_like(depth_slope))
    depth_sigma = torch.where(depth_sigma.isfinite(), depth_sigma, torch.zeros_like(depth_sigma))
    # To first order planar depth around the surface, whatever the ray parameter is; in metric scenes the same up to the
    # unit. The depth itself stays what it is: only differences to it count.
    t = depth + (t - depth) / (depth_slope * length_unit)
    depth_sigma = depth_sigma / length_unit
    t_mid = 0.5 * (t[:, 1:] + t[:, :-1])
    sigma = torch.full_like(depth, annealed_sigma(config, step))
    if config.sigma_of_maps:
        if config.min_sigma_of_maps is not None:
            sigma = torch.where(depth_sigma > 0, config.min_sigma_of_maps, sigma)
        sigma = sigma.maximum(depth_sigma)
    if loss == "cdf":
        bounds = cdf_bound_losses(weights, t_mid, depth, sigma, config.beta, config.far_open)
        near = open_bound_loss(weights, t_mid, depth, sigma) if config.open_bounds else bounds.near
        return {"depth_near": near_weight * near, "depth_empty": config.empty_weight * bounds.empty}
    if loss == "urf":
        steps, end = config.urf_anneal_steps, config.urf_end
        width = square_root_decay(step, config.urf_start, config.urf_slope, end, steps) if steps > 0 else end
        empty, near = urf_losses(weights, t_mid, depth, width, config.urf_squared)
        return {"depth_near": near_weight * near, "depth_empty": config.empty_weight * empty}
    if loss == "ds-nerf":
        return {"depth_ds_nerf": config.ds_nerf_weight * ds_nerf_loss(weights, t, depth, sigma)}
    return {}
