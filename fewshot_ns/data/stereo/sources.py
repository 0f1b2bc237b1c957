"""Which views a view is matched with, and between which depths its scene proves to lie."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView

Range = Tuple[float, float]
"""Smallest and largest planar depth, world units."""

NEAR_MARGIN, FAR_MARGIN = 0.9, 1.2
"""Shares of what was found by which a range reaches further."""
_PROBES = 7
"""Points along each side of a photo at which views are compared."""
_BEST_ANGLE, _NARROW, _WIDE = 5.0, 1.0, 10.0
"""Of the angle in degrees between two views of a point: the best, and how fast smaller and larger ones get worse."""
_QUANTILES = (0.005, 0.995)
_MIN_PIXELS = 100
_DEPTHS = 65
"""Depths at which it is looked up what others see."""
_SHOWN_SHARE = 0.02
"""Least share of these points that others have to show."""


def source_views(views: Sequence[StereoView], index: int, count: int) -> List[int]:
    """Up to `count` views to match a view with, the best first.

    The measure is MVSNet's, with points on the reference's pixels in the middle of its range of inverse depth in the
    place of COLMAP's: over the points that another view has in its photo, the sum of a bell of the angle between the
    two lines of sight, highest at 5 degrees. Views that score alike (with nothing in common) go by that angle.
    """
    reference = views[index]
    depth = 2.0 / (1.0 / reference.near + 1.0 / reference.far)
    points = probes(reference, depth)
    away = reference.pose[:, 3] - points
    ranked = []
    for other, view in enumerate(views):
        if other == index:
            continue
        position, _ = view.project(points)
        cosine = torch.nn.functional.cosine_similarity(away, view.pose[:, 3] - points, dim=-1)
        angle = torch.rad2deg(torch.acos(cosine.clamp(-1.0, 1.0)))
        width = torch.where(angle <= _BEST_ANGLE, _NARROW, _WIDE)
        bell = torch.exp(-(((angle - _BEST_ANGLE) / width) ** 2) / 2.0)
        score = float((bell * view.contains(position)).sum())
        ranked.append((-score, float(angle.mean()), other))
    return [other for _, _, other in sorted(ranked)[:count]]


def visible_range(view: StereoView, sources: Sequence[StereoView]) -> Optional[Range]:
    """The part of a view's range whose points other photos show.

    Cameras may stand so that what is very near to one lies in no other photo, at any pixel.

    Returns:
        None where they show nothing of it.
    """
    ends = 1.0 / view.far, 1.0 / view.near
    # Equal steps of inverse depth are as many pixels each; most are spent on what is near.
    shares = []
    inverse = torch.linspace(ends[0], ends[1], _DEPTHS).clamp(min=1e-4 * ends[1]).tolist()
    for each in inverse:
        points = probes(view, 1.0 / each)
        shown = torch.stack([source.contains(source.project(points)[0]) for source in sources]).any(dim=0)
        shares.append(float(shown.float().mean()))
    seen = [each for each, share in zip(inverse, shares, strict=True) if share >= _SHOWN_SHARE]
    if not seen:
        return None
    step = (ends[1] - ends[0]) / (_DEPTHS - 1)
    return min(view.near if seen[-1] + step >= ends[1] else 1.0 / (seen[-1] + step), 1.0 / seen[-1]), view.far


def found_range(z_depth: Tensor, confirmed: Tensor, ends: Range) -> Optional[Range]:
    """The part of a range in which confirmed depths lie, with margins.

    Args:
        z_depth: (H, W) planar depth.
        confirmed: (H, W) bool.
        ends: the range that was searched.

    Returns:
        None where too little is confirmed to say.
    """
    known = z_depth[confirmed]
    if known.numel() < _MIN_PIXELS:
        return None
    # Sorted by hand: torch.quantile takes no large tensors.
    ordered = known.sort().values
    low, high = (float(ordered[round(quantile * (known.numel() - 1))]) for quantile in _QUANTILES)
    return max(ends[0], NEAR_MARGIN * low), min(ends[1], FAR_MARGIN * high)


def probes(view: StereoView, depth: float) -> Tensor:
    """(N, 3) world points of a view at a planar depth, evenly over the photo."""
    height, width = view.size
    share = (torch.arange(_PROBES, device=view.image.device) + 0.5) / _PROBES
    row, column = torch.meshgrid(share * height, share * width, indexing="ij")
    fx, fy, cx, cy = view.intrinsics.unbind()
    local = torch.stack([(column - cx) / fx, -(row - cy) / fy, -torch.ones_like(row)], dim=-1)
    return (view.pose[:, 3] + depth * local @ view.pose[:, :3].T).flatten(0, 1)
