"""Depth of surfaces of one colour, a table or a wall, on which nothing can be matched: planes through their borders.

What stands on a table is matched, and its foot lies on the table's plane. A region of one colour gets the plane that
the confirmed depths around it agree on, and that the borders of regions of its colour in other photos agree on: the
outline of a thing that hides it lies on no plane that two photos share. What stands on a plane lies on it or before it,
and hides it; what lies behind it at the border of the region speaks against it, as where a plane goes through the edges
of a box and would hide its foot. (Planes as hypotheses for segments are an old
idea of stereo: Tao, Sawhney and Kumar, ICCV 2001.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_ns.data.stereo.consistency import reproject
from fewshot_ns.data.stereo.views import StereoView, ViewDepth, sample
from fewshot_ns.utils.configs import SavedConfig, expect_fields

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_SIDE = 126
"""Longest side of the photos in which regions are looked for."""
_TRIALS = 300
"""Planes through three points that are tried for each region."""
_BORDER = 4
"""Width of the border around a region, pixels at that size."""
_KNOWN_SHARE = 0.7
"""A region with more confirmed pixels than this has no need of a plane."""
_FEWEST = 15
"""Fewest confirmed pixels on the border of a region that may have a plane; twice as many of one that proposes it."""
_AHEAD_SHARE = 0.95
"""Least share of a region that its plane has to meet before the camera."""
_BEHIND = 3.0
"""A confirmed depth lies behind a plane where it lies beyond it by more than this many times the tolerance."""
_AGAINST = 1.5
"""How many pixels on a plane one behind it outweighs."""
_HIDDEN, _BEFORE = 0.97, 1.05
"""A point is hidden by what lies nearer than this share of its depth, and contradicted by what lies beyond that one."""
_AGREEING = 0.03
"""Fraction of depth by which two views' planes may differ that show the same."""


@dataclass
class FlatRegionConfig(SavedConfig):
    """Planes for regions of one colour."""

    enabled: bool = True
    """Whether such regions get planes where nothing can be matched."""
    max_grey_step: float = 0.06
    """Largest step between neighbouring pixels of a region, in the channel where it is largest, colours in [0, 1]."""
    min_area: float = 0.003
    """Smallest region, as a fraction of the photo."""
    tolerance: float = 0.01
    """Fraction of depth by which a confirmed depth may lie off a plane that it supports."""
    min_proposal: float = 0.25
    """Least support of a plane on the border of the region that proposes it: the fraction of the border's confirmed
    pixels that lie on it, less 1.5 times the fraction that lie behind it."""
    min_support: float = 0.08
    """Least support on the border of every other region that shares it."""
    max_colour_error: float = 0.12
    """Largest mean difference of colour to a photo that sees the point."""
    relative_sigma: float = 0.01
    """Standard deviation of a filled depth, as a fraction of it; more where views disagree by more."""

    def check(self) -> None:
        """Refuses values that no plane can come of.

        Raises:
            FieldError: a field out of its range.
        """
        positive = ("max_grey_step", "min_area", "tolerance", "max_colour_error", "relative_sigma")
        expect_fields(self, "a positive number", lambda value: value > 0, *positive)
        shares = ("min_area", "min_proposal", "min_support")
        expect_fields(self, "a share of at most 1", lambda value: value <= 1, *shares)


class _Plane(NamedTuple):
    """Points x of the world with normal . x = offset."""

    normal: Array
    offset: float

    def z_depth(self, centre: Array, rays: Array) -> Array:
        """Planar depth along rays (N, 3) from a camera's centre; 0 where they do not meet it ahead."""
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (self.offset - centre @ self.normal) / (rays @ self.normal)
        return np.where(np.isfinite(depth) & (depth > 0), depth, 0.0)


class _Region(NamedTuple):
    """A region of one colour in a view."""

    inside: Mask
    """(h, w), at the size at which regions are looked for."""
    colour: Array
    """(3,) mean."""
    centre: Array
    """(3,) of the camera."""
    rays: Array
    """(N, 3) of its pixels."""
    border_rays: Array
    """(M, 3) of the confirmed pixels on its border."""
    border_depth: Array
    """(M,) planar depth of these."""

    def supporters(self, plane: _Plane, tolerance: float) -> Mask:
        """(M,) which confirmed pixels of the border lie on a plane."""
        depth = plane.z_depth(self.centre, self.border_rays)
        return np.abs(depth - self.border_depth) < tolerance * self.border_depth

    def votes(self, plane: _Plane, tolerance: float) -> float:
        """How many confirmed pixels of the border speak for a plane, less those that speak against it."""
        behind = self.border_depth * (1.0 - _BEHIND * tolerance) > plane.z_depth(self.centre, self.border_rays)
        return float(self.supporters(plane, tolerance).sum() - _AGAINST * behind.sum())

    def support(self, plane: _Plane, tolerance: float) -> float:
        """The same as a share of them; negative where more speaks against the plane."""
        count = len(self.border_depth)
        return self.votes(plane, tolerance) / count if count >= _FEWEST else 0.0


class _Proposal(NamedTuple):
    """A plane that a region's border lies on."""

    plane: _Plane
    colour: Array


def fill_flat_regions(
    config: FlatRegionConfig, views: Sequence[StereoView], depths: Sequence[ViewDepth]
) -> List[ViewDepth]:
    """Depths with the planes of regions of one colour in them.

    Args:
        config: what counts as a region and as its plane.
        views: (V) photos.
        depths: (V) what is known of them, of the photos' size; valid pixels stay as they are.

    Returns:
        (V) more valid pixels: those whose plane two views share, or another view's plane confirms, and that no photo
        contradicts by its colour or by a depth behind them.

    Raises:
        FieldError: a field of the config out of its range.
    """
    config.check()
    regions = [_regions(config, view, depth) for view, depth in zip(views, depths, strict=True)]
    proposals = [
        _Proposal(plane, region.colour)
        for each in regions
        for region in each
        if (plane := _proposed_plane(config, region)) is not None
    ]
    planes = []
    for index, view in enumerate(views):
        filled, shared = np.zeros(_region_size(view)), np.zeros(_region_size(view))
        for region in regions[index]:
            plane, seen_by = _best_plane(config, region, proposals, regions, index)
            if plane is not None:
                filled[region.inside] = plane.z_depth(region.centre, region.rays)
                shared[region.inside] = seen_by >= 2
        maps = torch.from_numpy(np.stack([filled, shared])[None]).float()
        planes.append(torch.nn.functional.interpolate(maps, size=view.size, mode="nearest-exact")[0])
    guesses = [torch.where(depth.valid, depth.z_depth, plane[0]) for depth, plane in zip(depths, planes, strict=True)]
    return [_accepted(config, views, depths, guesses, planes[index][1] > 0.5, index) for index in range(len(views))]


def _region_size(view: StereoView) -> tuple[int, int]:
    scale = min(1.0, _SIDE / max(view.size))
    return max(1, round(view.size[0] * scale)), max(1, round(view.size[1] * scale))


def _regions(config: FlatRegionConfig, view: StereoView, depth: ViewDepth) -> List[_Region]:
    """Connected regions of one colour that are not known yet."""
    from scipy import ndimage

    size = _region_size(view)
    small = view.resized(size)
    image = small.image.double().numpy()
    weight = depth.valid.float()
    known = torch.where(depth.valid, 1.0 / depth.z_depth.clamp(min=1e-12), torch.zeros(()))
    sums = torch.nn.functional.interpolate(torch.stack([known * weight, weight])[None], size=size, mode="area")[0]
    confirmed = (sums[1] > 0.5).numpy()
    inverse = (sums[0] / sums[1].clamp(min=1e-6)).double().numpy()
    rays, centre = small.rays.double().numpy(), view.pose[:, 3].double().numpy()
    step = np.zeros(size)
    step[:, 1:] = np.abs(np.diff(image, axis=1)).max(axis=-1)
    step[1:] = np.maximum(step[1:], np.abs(np.diff(image, axis=0)).max(axis=-1))
    labels, count = _labelled((step < config.max_grey_step) & small.mask.numpy())
    found, least = [], config.min_area * size[0] * size[1]
    for label in np.flatnonzero(np.bincount(labels.ravel(), minlength=count + 1)[1:] >= least) + 1:
        # Thin bridges join what has nothing to do with each other.
        inside = np.asarray(ndimage.binary_opening(labels == label, iterations=2), dtype=bool)
        if inside.sum() < least or confirmed[inside].mean() > _KNOWN_SHARE:
            continue
        border = np.asarray(ndimage.binary_dilation(inside, iterations=_BORDER), dtype=bool) & confirmed
        found.append(_Region(inside, image[inside].mean(0), centre, rays[inside], rays[border], 1.0 / inverse[border]))
    return found


def _labelled(mask: Mask) -> tuple[npt.NDArray[np.int32], int]:
    """Numbers 1, 2, ... of the connected parts of a mask (h, w), 0 elsewhere, and how many there are."""
    from scipy import ndimage

    labels = np.zeros(mask.shape, dtype=np.int32)
    count = ndimage.label(mask, output=labels)
    return labels, int(count)  # type: ignore[arg-type]


def _proposed_plane(config: FlatRegionConfig, region: _Region) -> Optional[_Plane]:
    """The plane that most of a region's border lies on (RANSAC); None where it is too little of it, or a line."""
    count = len(region.border_depth)
    if count < 2 * _FEWEST:
        return None
    generator = np.random.default_rng(0)
    points = region.centre + region.border_rays * region.border_depth[:, None]
    most, best = 0.0, np.zeros(count, dtype=bool)
    for _ in range(_TRIALS):
        first, second, third = points[generator.choice(count, 3, replace=False)]
        normal = np.cross(second - first, third - first)
        length = np.linalg.norm(normal)
        if length > 0:
            normal = normal / length
            plane = _Plane(normal, float(normal @ first))
            votes = region.votes(plane, config.tolerance)
            if votes > most:
                most, best = votes, region.supporters(plane, config.tolerance)
    if most < max(2 * _FEWEST, config.min_proposal * count):
        return None
    middle = points[best].mean(axis=0)
    _, spread, axes = np.linalg.svd(points[best] - middle, full_matrices=False)
    if spread[1] / np.sqrt(best.sum()) < config.tolerance * np.median(region.border_depth):
        return None
    return _Plane(axes[2], float(axes[2] @ middle))


def _best_plane(
    config: FlatRegionConfig,
    region: _Region,
    proposals: Sequence[_Proposal],
    regions: Sequence[Sequence[_Region]],
    index: int,
) -> tuple[Optional[_Plane], int]:
    """The proposed plane that this region, and those of its colour in other views, support most; and in how many views
    it is supported."""
    best, votes, seen_by = None, 0.0, 0
    for plane, colour in proposals:
        own = region.support(plane, config.tolerance)
        if own < config.min_support or not _alike(colour, region.colour):
            continue
        if (plane.z_depth(region.centre, region.rays) > 0).mean() < _AHEAD_SHARE:
            continue
        others = [
            max(
                (other.support(plane, config.tolerance) for other in each if _alike(other.colour, region.colour)),
                default=0.0,
            )
            for view, each in enumerate(regions)
            if view != index
        ]
        if own + sum(others) > votes:
            best, votes = plane, own + sum(others)
            seen_by = 1 + sum(share >= config.min_support for share in others)
    return best, seen_by


def _alike(first: Array, second: Array) -> bool:
    return bool(np.abs(first - second).max() <= 0.1)


def _accepted(
    config: FlatRegionConfig,
    views: Sequence[StereoView],
    depths: Sequence[ViewDepth],
    guesses: Sequence[Tensor],
    shared: Tensor,
    index: int,
) -> ViewDepth:
    """A view's depth with those pixels of its planes that the other views allow."""
    view, depth, guess = views[index], depths[index], guesses[index]
    confirmed, contradicted = torch.zeros_like(depth.valid), torch.zeros_like(depth.valid)
    apart = torch.full_like(guess, torch.inf)
    for other, source in enumerate(views):
        if other == index:
            continue
        position, there = source.project(view.points(guess))
        seen = source.contains(position) & (there > 0)
        other_colour = (sample(source.image, position) - view.image).abs().mean(dim=-1) > config.max_colour_error
        known = torch.where(depths[other].valid, depths[other].z_depth, torch.zeros_like(guesses[other]))
        surface = sample(known, position, "nearest")
        hidden = (surface > 0) & (surface < _HIDDEN * there)
        contradicted |= seen & ~hidden & (other_colour | (surface > _BEFORE * there))
        error = reproject(view, guess, source, guesses[other]).depth_error
        agrees = seen & ~other_colour & (error < _AGREEING)
        confirmed |= agrees
        apart = torch.where(agrees, torch.minimum(apart, error), apart)
    new = (confirmed | shared) & ~contradicted & (guess > 0) & view.mask & ~depth.valid
    relative = torch.where(apart.isfinite(), apart, torch.zeros_like(apart)).clamp(min=config.relative_sigma)
    return ViewDepth(
        torch.where(new, guess, depth.z_depth), torch.where(new, relative * guess, depth.sigma), depth.valid | new
    )
