"""Between which depths the network searches, and which views it matches.

It tells 256 steps of inverse depth apart. Where the photos lie far apart a step is several pixels long and the search
passes over the right place; where they lie close together a step is a small part of a pixel, and the photos look the
same at all depths that are compared. It works best where a step moves a point by about half a pixel of the photos.
"""

from __future__ import annotations

import math
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView
from fewshot_ns.pretrained.itermvs.updates import BINS

Range = Tuple[float, float]
"""Smallest and largest planar depth, world units."""

SHORTEST_STEP, LONGEST_STEP = 0.45, 1.0
"""Pixels of the photo by which a step should move a point, at least and at most."""
NEAR_MARGIN, FAR_MARGIN = 0.9, 1.2
"""Shares of what was found by which a range reaches further; the network seldom finds what lies at its very end."""
FAR_OF_INFINITE = 100.0
"""Largest depth relative to the smallest where the scene has no far end."""
_NEAREST_SHARE = 0.25
"""A range is never widened to less than this share of its near end."""
_PROBES = 7
"""Points along each side of a photo at which views are compared."""
_BEST_ANGLE, _NARROW, _WIDE = 5.0, 1.0, 10.0
"""Of the angle in degrees between two views of a point: the best, and how fast smaller and larger ones get worse."""
_QUANTILES = (0.005, 0.995)
_MIN_PIXELS = 100


def search_range(view: StereoView) -> Range:
    """Depths that hold all that a view may show, with a margin at the near end."""
    far = view.far if math.isfinite(view.far) else FAR_OF_INFINITE * view.near
    return NEAR_MARGIN * view.near, far


def source_views(views: Sequence[StereoView], index: int, count: int) -> List[int]:
    """Up to `count` views to match a view with, the best first.

    The measure is MVSNet's, with points on the reference's pixels in the middle of its range of inverse depth in the
    place of COLMAP's: over the points that another view has in its photo, the sum of a bell of the angle between the
    two lines of sight, highest at 5 degrees. Views that score alike (with nothing in common) go by that angle.
    """
    reference = views[index]
    depth = 2.0 / (1.0 / reference.near + 1.0 / reference.far)
    points = _probes(reference, depth)
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


def step_length(view: StereoView, sources: Sequence[StereoView], ends: Range) -> float:
    """Pixels by which a step of the search in the middle of a range moves a point in the sources, on average.

    The pixels are those of sources that are stretched to the view's size. 0 where no source sees anything of it.
    """
    nearest, farthest = 1.0 / ends[0], 1.0 / ends[1]
    middle = (nearest + farthest) / 2.0
    near, far = (_probes(view, 1.0 / inverse) for inverse in (middle + (nearest - farthest) / BINS, middle))
    lengths = []
    for source in sources:
        stretch = near.new_tensor([view.size[1] / source.size[1], view.size[0] / source.size[0]])
        first, second = source.project(near)[0], source.project(far)[0]
        seen = source.contains(first) & source.contains(second)
        if seen.any():
            lengths.append(float(((first - second) * stretch).norm(dim=-1)[seen].mean()))
    return sum(lengths) / len(lengths) if lengths else 0.0


def widened(ends: Range, length: float) -> Range:
    """A range with steps of `SHORTEST_STEP`, from one with steps of `length` pixels; the same one if they are longer.

    Half of what is added goes to the far end, as far as there is room before infinity.
    """
    if not 0.0 < length < SHORTEST_STEP:
        return ends
    nearest, farthest = 1.0 / ends[0], 1.0 / ends[1]
    span = (nearest - farthest) * SHORTEST_STEP / length
    farthest = max(farthest - (span - (nearest - farthest)) / 2.0, min(farthest, nearest / FAR_OF_INFINITE))
    return 1.0 / min(farthest + span, nearest / _NEAREST_SHARE), 1.0 / farthest


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


def _probes(view: StereoView, depth: float) -> Tensor:
    """(N, 3) points at a planar depth, evenly over the photo."""
    height, width = view.size
    share = (torch.arange(_PROBES, device=view.image.device) + 0.5) / _PROBES
    row, column = torch.meshgrid(share * height, share * width, indexing="ij")
    fx, fy, cx, cy = view.intrinsics.unbind()
    local = torch.stack([(column - cx) / fx, -(row - cy) / fy, -torch.ones_like(row)], dim=-1)
    return (view.pose[:, 3] + depth * local @ view.pose[:, :3].T).flatten(0, 1)
