"""Points and bounds of a scene from depth that photos confirm: where a model may start, and where rays may end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView, ViewDepth, sample


@dataclass(frozen=True)
class DepthPoints:
    """P points on surfaces that photos show."""

    positions: npt.NDArray[np.float32]
    """(P, 3) in the world of the cameras."""
    colours: npt.NDArray[np.uint8]
    """(P, 3) red, green, blue of the photo that a point is of."""
    views: npt.NDArray[np.int64]
    """(P,) position of that photo in the list of views."""
    num_views: npt.NDArray[np.int64]
    """(P,) how many views have a valid depth that agrees with the point, its own included."""
    pixels: npt.NDArray[np.int64]
    """(P, 2) row and column in that photo."""


def depth_points(
    views: Sequence[StereoView],
    depths: Sequence[ViewDepth],
    thin: bool = True,
    stride: int = 1,
    sigmas: float = 3.0,
    known: Optional[Sequence[ViewDepth]] = None,
) -> DepthPoints:
    """World points of the valid pixels of all views.

    Args:
        views: (V) photos.
        depths: (V) their depth, at the size of the photos, on the same device.
        thin: whether a point is left out where an earlier view has a valid depth that agrees with it.
        stride: every how many rows and columns a pixel is taken.
        sigmas: depths agree that differ by up to this many standard deviations of the two together.
        known: (V) better depths, if there are any; a thinned point is left out also where any of them agrees with it.

    Raises:
        ValueError: a stride below 1, or not one depth per view.
    """
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, got {stride}")
    if len(views) != len(depths):
        raise ValueError(f"expected one depth for each of {len(views)} views, got {len(depths)}")
    parts: List[Tuple[Tensor, ...]] = []
    for index, (view, depth) in enumerate(zip(views, depths, strict=True)):
        chosen = torch.zeros_like(depth.valid)
        chosen[::stride, ::stride] = True
        chosen &= depth.valid & view.mask
        points, sigma = view.points(depth.z_depth)[chosen], depth.sigma[chosen]
        count = torch.ones(len(points), dtype=torch.long, device=points.device)
        covered = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        for other, (source, theirs) in enumerate(zip(views, depths, strict=True)):
            if other != index and len(points):
                same = _agrees(points, sigma, source, theirs, sigmas)
                count += same
                covered |= same & (other < index)
        for other, better in enumerate(known or ()):
            if other != index and len(points):
                covered |= _agrees(points, sigma, views[other], better, sigmas)
        kept = ~covered if thin else torch.ones_like(covered)
        colour = (view.image[chosen] * 255.0).round().to(torch.uint8)
        parts.append(
            (points[kept], colour[kept], torch.full_like(count, index)[kept], count[kept], chosen.nonzero()[kept])
        )
    if not parts:
        none = np.zeros(0, np.int64)
        return DepthPoints(
            np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), none, none, np.zeros((0, 2), np.int64)
        )
    columns = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    positions, colours, origin, counts, pixels = columns
    return DepthPoints(positions.astype(np.float32), colours, origin, counts, pixels)


def _agrees(points: Tensor, sigma: Tensor, source: StereoView, depth: ViewDepth, sigmas: float) -> Tensor:
    """(P,) bool, whether a view has a valid depth where points (P, 3) of standard deviation (P,) lie, and as deep."""
    position, z_depth = source.project(points)
    seen = source.contains(position)
    maps = torch.stack([depth.z_depth, depth.sigma, depth.valid.to(depth.z_depth)], dim=-1)
    theirs, their_sigma, valid = sample(maps, position, "nearest").unbind(-1)
    allowed = sigmas * (sigma**2 + their_sigma**2).sqrt()
    return seen & (valid > 0.5) & ((theirs - z_depth).abs() <= allowed)


def reliable_range(
    depths: Sequence[ViewDepth],
    quantiles: Tuple[float, float] = (0.01, 0.99),
    widen: Tuple[float, float] = (0.8, 1.25),
) -> Optional[Tuple[float, float]]:
    """Near and far, planar depths in world units, that hold what the photos confirm.

    Args:
        depths: of all views.
        quantiles: of the valid depths of all views together, which single wrong depths do not move.
        widen: factors on the two, as for sparse points of a capture.

    Returns:
        None where no depth is valid.
    """
    values = torch.cat([torch.zeros(0), *(depth.z_depth[depth.valid].flatten().cpu() for depth in depths)])
    if len(values) == 0:
        return None
    low, high = np.quantile(values.double().numpy(), quantiles)
    return widen[0] * float(low), widen[1] * float(high)
