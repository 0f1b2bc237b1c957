"""Losses of the depth prior on planar depth as it is rendered: its correlation with a map, its inverse's error."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor

from fewshot_ns.model_components.depth_losses import correlation_loss, inverse_depth_error
from fewshot_ns.model_components.rendering import Rendering

_NEAREST, _FARTHEST = 0.01, 100.0
"""Depths beyond these multiples of the median are clamped: one pixel without bounds would be all that correlates."""
_SOMETHING, _SURFACE = 0.01, 0.5
"""Opacities above which a pixel has some depth at all, and above which its mean depth is that of a surface. Rays are
all but empty in the first steps, and may learn then already in which order things stand."""


def nearness_correlation(rendering: Rendering, label: Tensor, views: Tensor) -> Tensor:
    """1 - Pearson correlation of rendered depth with maps of any scale, mean over views; see `correlation_loss`.

    Args:
        rendering: (R,) training pixels, of which those count that are not empty.
        label: (R, 4) of `nearness_labels`, by which it is inverse or negative planar depth that is compared.
        views: (R,) view of each.
    """
    depth, opacity, nearness, valid, inverse = (value[:, 0] for value in _compared(rendering, label))
    counts = valid & (opacity > _SOMETHING)
    median = torch.where(counts, depth.detach(), torch.nan).nanmedian().nan_to_num(nan=1.0).clamp(min=1e-12)
    depth = depth.clamp(min=_NEAREST * median, max=_FARTHEST * median)
    rendered = torch.where(inverse, 1.0 / depth, -depth)
    return correlation_loss(rendered, nearness, counts, views.to(depth.device))


def measured_inverse_error(rendering: Rendering, label: Tensor) -> Tensor:
    """`inverse_depth_error` of rendered planar depth, of pixels that are mostly opaque.

    Args:
        rendering: (R,) training pixels.
        label: (R, 4) of `nearness_labels`, of maps of known scale.
    """
    depth, opacity, nearness, valid, _ = _compared(rendering, label)
    measured = torch.where(valid, 1.0 / torch.where(valid, nearness, 1.0), 0.0)
    return inverse_depth_error(depth, measured, opacity > _SURFACE)


def _compared(rendering: Rendering, label: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(R, 1) each: rendered planar depth, opacity, nearness, whether it is known and inverse."""
    nearness, valid, norms, inverse = label.to(rendering.depth).split(1, dim=-1)
    # World depth, not the ray parameter: that is no planar depth in NDC, nor where rays begin at a plane.
    return rendering.depth / norms, rendering.accumulation.detach(), nearness, valid > 0, inverse > 0
