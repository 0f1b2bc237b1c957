"""Depth of a few posed photos from each other, without a network.

Each photo is matched with the others on planes at equal steps of inverse depth, first at a small size: zero-mean
normalised cross-correlation of windows, semi-global aggregation, the best depth of each pixel. The surface found so is
matched again, at small offsets from itself, where windows lean as it does, at the photos' own size. A depth counts
where it agrees with that of another view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fewshot_ns.data.stereo.aggregation import semi_global
from fewshot_ns.data.stereo.consistency import Reprojection, reproject
from fewshot_ns.data.stereo.sources import Range, found_range, source_views, visible_range
from fewshot_ns.data.stereo.sweep import Matcher, largest_speed, parallax_speed, window_mean
from fewshot_ns.data.stereo.views import StereoView, ViewDepth
from fewshot_ns.utils.configs import SavedConfig, expect_fields
from fewshot_ns.utils.devices import find_device

VERSION = 4
"""Version of what is computed; a new one makes all kept maps stale."""
_FEWEST_PLANES = 16
_OFFSETS = 4
"""Steps by which a surface may move when it is matched again, in each direction."""
_FINEST_STEP = 0.5
"""Pixels by which the last of these steps moves a point in another photo."""
_MOST_ROUNDS = 5
_MARGIN_RADIUS = 3
"""Radius of the windows over which the costs of a depth elsewhere are averaged."""
_NEIGHBOURING = 3
"""Planes around the best one that count as the same depth when the next best is looked for."""
_LEAST_SIDE = 96
"""Longest side of the photos by which it is found out where the scene lies, at least; of smaller ones too little is
left."""
_WELL_MATCHED = 0.35
"""Matching cost of windows that show the same thing."""
_LEAST = {
    32: ("max_side", "sweep_side"),
    16: ("num_planes",),
    1: ("num_sources", "min_views"),
    0: (
        "median_radius",
        "small_step",
        "large_step",
        "edge",
        "max_cost",
        "doubtful_cost",
        "max_pixel_error",
        "max_depth_error",
    ),
}
"""Fields by their least values."""
_POSITIVE = ("sigma_pixels", "doubling_cost")
_RANGE_ERRORS = (2.0, 0.03)
"""Pixels and fraction of depth by which depths may differ that are to say where the scene lies."""


class StereoError(ValueError):
    """Photos from which no depth can be found; the message names them."""


@dataclass
class StereoConfig(SavedConfig):
    """Depth of the training views from each other, without a network."""

    max_side: int = 504
    """Longest side of the photos that are matched, pixels; larger ones are averaged down."""
    sweep_side: int = 252
    """Longest side of the photos at which all depths are tried; what is found is refined at the full size."""
    num_planes: int = 128
    """Most depths that are tried; fewer where they would lie closer than one pixel of parallax."""
    num_sources: int = 4
    """Other views that a view is matched with at most; those that look at it from about 5 degrees come first."""
    sweep_radii: Tuple[int, ...] = (1, 3)
    """Radii of the windows at that side, pixels; their costs are averaged."""
    refine_radii: Tuple[int, ...] = (2, 4)
    """Radii of the windows at the full size."""
    small_step: float = 0.1
    """Cost of a neighbour that lies one depth step away, on the scale of the matching cost (0 to 2)."""
    large_step: float = 2.5
    """Cost of a neighbour farther away, where the photo is flat."""
    edge: float = 20.0
    """That cost is divided by 1 + this times the step of grey values between the two pixels."""
    median_radius: int = 2
    """Radius of the median that surfaces are smoothed by, pixels."""
    best_share: float = 0.5
    """Share of the best source in the cost of a depth; the rest is the mean of all, which what is hidden spoils."""
    max_cost: float = 0.85
    """Highest matching cost of a valid pixel at its depth; windows that have nothing in common cost 1."""
    doubtful_share: float = 0.18
    """In a view where less than this share of the valid pixels costs less than three quarters of `doubtful_cost`..."""
    doubtful_cost: float = 0.4
    """...only pixels that cost less than that are valid: views with wrong poses, or from very different sides, agree
    here and there by chance."""
    min_margin: float = 0.05
    """Lowest margin of a valid pixel: by how much its depth is cheaper than the next best one elsewhere."""
    min_views: int = 1
    """Other views that have to agree with a valid pixel."""
    max_pixel_error: float = 2.0
    """Views agree where a pixel, taken to the other view by its depth and back by that view's, misses its place by
    less, pixels..."""
    max_depth_error: float = 0.02
    """...or its depth by less than this fraction."""
    sigma_pixels: float = 1.0
    """Standard deviation of a match, pixels; that of the depth follows from how far the views lie apart, and is at
    least half of what the views disagree by."""
    doubling_cost: Optional[float] = None
    """Matching cost at which the standard deviation is twice as large (0.45 fits measurements); what is added grows
    with the cost's third power: windows that match badly are off by more than their parallax says. None: it is not."""
    device: str = "auto"
    """Where it runs: auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""

    def check(self) -> None:
        """Refuses values that no depth can come of.

        Raises:
            FieldError: a field out of its range.
        """
        for least, names in _LEAST.items():
            expect_fields(self, f"at least {least}", lambda value, least=least: value >= least, *names)
        expect_fields(self, "a positive number", lambda value: value is None or value > 0, *_POSITIVE)
        expect_fields(self, "a number from 0 to 1", lambda value: 0 <= value <= 1, "best_share", "doubtful_share")
        radii = ("sweep_radii", "refine_radii")
        expect_fields(self, "radii of at least 1", lambda value: len(value) > 0 and min(value) >= 1, *radii)


def stereo_depths(config: StereoConfig, views: Sequence[StereoView]) -> List[ViewDepth]:
    """Depth of each view from the others.

    Args:
        config: what is matched and how.
        views: (V) at least two that see the same things.

    Returns:
        One for each view, at the size of its photo, on the CPU.

    Raises:
        StereoError: fewer than two views, or none that shares anything with another.
        ValueError: values of the config that make no sense.
    """
    full, seeing, neighbours = _matchable(config, views, config.max_side)
    with torch.no_grad(), _progress() as progress:
        ranges = _ranges(config, full, neighbours, progress)
        small = [_limited(_between(view, ends), config.sweep_side) for view, ends in zip(full, ranges, strict=True)]
        surfaces: List[_Surface] = []
        work = f"[green]Depth from the photos on {full[0].image.device}"
        for index in progress.track(range(len(full)), description=work):
            swept = _sweep(config, small[index], _of(small, neighbours[index]))
            surfaces.append(_refined(config, full[index], _of(full, neighbours[index]), swept))
        # What a photo does not show confirms nothing.
        depths = [torch.where(view.mask, surface.z_depth, 0.0) for view, surface in zip(full, surfaces, strict=True)]
        found_depths = []
        for index, view in enumerate(full):
            sources = _of(full, neighbours[index])
            pairs = [reproject(view, depths[index], full[other], depths[other]) for other in neighbours[index]]
            depth = _view_depth(config, view, sources, surfaces[index], pairs)
            found_depths.append(_resized(depth, views[seeing[index]]).to(torch.device("cpu")))
    by_index = dict(zip(seeing, found_depths, strict=True))
    return [by_index.get(index) or _nothing(view) for index, view in enumerate(views)]


def narrowed_views(config: StereoConfig, views: Sequence[StereoView]) -> List[StereoView]:
    """The views with near and far around what a first look at small photos confirms, for other matchers than this one.

    Near and far of a scene say little: in NDC far is infinite, and DTU's rays start at a plane of the world. A view of
    which the first look finds too little, or that shares nothing with another, stays as it is.

    Args, Raises: as of `stereo_depths`.
    """
    full, seeing, neighbours = _matchable(config, views, config.sweep_side)
    with torch.no_grad(), _progress() as progress:
        found = dict(zip(seeing, _ranges(config, full, neighbours, progress), strict=True))
    return [_between(view, found[index]) if index in found else view for index, view in enumerate(views)]


class _Surface(NamedTuple):
    """The best depth of every pixel of a view, at one size."""

    inverse: Tensor
    """(H, W) inverse depth, positive."""
    step: float
    """Distance of the depths that were compared, inverse depth."""
    cost: Tensor
    """(H, W) matching cost there."""
    margin: Tensor
    """(H, W) how much cheaper it is than the next best depth elsewhere, of the aggregated cost."""

    @property
    def z_depth(self) -> Tensor:
        """(H, W) planar depth."""
        return 1.0 / self.inverse


def _check(config: StereoConfig, views: Sequence[StereoView]) -> None:
    """Refuses views and values that no depth can come of."""
    if len(views) < 2:
        names = f"{views[0].name} alone" if views else "none"
        raise StereoError(f"depth from the photos: expected at least two photos with poses, found {names}")
    for view in views:
        if not 0.0 < view.near < view.far:
            raise ValueError(f"{view.name}: expected depths 0 < near < far, found {view.near:g} and {view.far:g}")
    config.check()
    most = min(config.num_sources, len(views) - 1)
    expect_fields(config, f"at most {most}, the other views of a view", lambda value: value <= most, "min_views")


def _of(views: Sequence[StereoView], indices: Sequence[int]) -> List[StereoView]:
    return [views[index] for index in indices]


def _limited(view: StereoView, side: int) -> StereoView:
    """The view with a longest side of at most `side` pixels."""
    scale = min(1.0, side / max(view.size))
    return view.resized((max(1, round(view.size[0] * scale)), max(1, round(view.size[1] * scale))))


class _Matchable(NamedTuple):
    """The views of which others see anything, S of them, on the device."""

    views: List[StereoView]
    """(S) of limited size, with near and far such that others see what lies between."""
    indices: List[int]
    """(S) which of all views they are."""
    neighbours: List[List[int]]
    """(S) positions in `views` that each is matched with, the best first."""


def _matchable(config: StereoConfig, views: Sequence[StereoView], side: int) -> _Matchable:
    """What every search for depth begins with; arguments and errors as of `stereo_depths`, photos of at most `side`."""
    _check(config, views)
    device = find_device(config.device)
    sighted, seeing = _within_sight([_limited(view, side).to(device) for view in views])
    chosen = _of(sighted, seeing)
    return _Matchable(chosen, seeing, [source_views(chosen, index, config.num_sources) for index in range(len(chosen))])


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=CONSOLE, transient=True)


def _within_sight(views: Sequence[StereoView]) -> Tuple[List[StereoView], List[int]]:
    """Views with near and far such that others see what lies between, and the indices of those of which others see
    anything."""
    found, seeing = list(views), []
    for index, view in enumerate(views):
        ends = visible_range(view, [other for number, other in enumerate(views) if number != index])
        if ends is not None:
            found[index] = replace(view, near=ends[0], far=ends[1])
            seeing.append(index)
    if len(seeing) < 2:
        raise StereoError(
            f"depth from the photos: expected photos that show the same things, found none among "
            f"{', '.join(view.name for view in views)}; choose views that overlap, or check the poses and near and far"
        )
    return found, seeing


def _nothing(view: StereoView) -> ViewDepth:
    """The depth of a view that shares nothing with any other."""
    none = torch.zeros(view.size)
    return ViewDepth(none, torch.ones(view.size), none > 0)


def _between(view: StereoView, ends: Range) -> StereoView:
    return replace(view, near=ends[0], far=ends[1])


def _ranges(
    config: StereoConfig, views: Sequence[StereoView], neighbours: Sequence[Sequence[int]], progress: Progress
) -> List[Range]:
    """Near and far of each view around what a first look at small photos confirms."""
    tiny = [_limited(view, max(config.sweep_side // 2, _LEAST_SIDE)) for view in views]
    found: List[_Surface] = []
    for index in progress.track(range(len(views)), description="[green]Where the scene lies"):
        found.append(_sweep(config, tiny[index], _of(tiny, neighbours[index])))
    ranges = []
    for index, (view, surface) in enumerate(zip(tiny, found, strict=True)):
        agree = torch.zeros_like(surface.inverse, dtype=torch.bool)
        for other in neighbours[index]:
            pair = reproject(view, surface.z_depth, tiny[other], found[other].z_depth)
            agree |= pair.consistent(*_RANGE_ERRORS)
        agree &= (surface.cost < 2.0 * _WELL_MATCHED) & (surface.margin > 0.05)
        ends = view.near, view.far
        ranges.append(found_range(surface.z_depth, agree, ends) or ends)
    return ranges


def _costs(
    config: StereoConfig, view: StereoView, sources: List[StereoView], inverse: Tensor, radii: Sequence[int]
) -> Tensor:
    """(K, H, W) matching costs at inverse depths (K, H, W) or (K, 1, 1)."""
    matcher = Matcher(view, sources, radii)
    best = total = matcher.costs(0, inverse)
    for source in range(1, len(sources)):
        costs = matcher.costs(source, inverse)
        best, total = torch.minimum(best, costs), total + costs
    return config.best_share * best + (1.0 - config.best_share) * total / len(sources)


def _best(
    config: StereoConfig, view: StereoView, costs: Tensor, start: Tensor, step: float
) -> Tuple[Tensor, Tensor, Tensor]:
    """The cheapest label of every pixel after aggregation.

    Args:
        config: the costs of steps.
        view: of the pixels.
        costs: (K, H, W) of labels at equal steps.
        start: inverse depth of the first label, (H, W) or a scalar.
        step: between labels.

    Returns:
        (H, W) each: inverse depth between the labels by a parabola, matching cost, label.
    """
    total = semi_global(costs, view.image.mean(dim=-1), config.small_step, config.large_step, config.edge)
    label = total.argmin(dim=0)
    middle = label.clamp(1, len(costs) - 2)
    before, at, after = (total.gather(0, (middle + offset)[None])[0] for offset in (-1, 0, 1))
    offset = ((before - after) / (2.0 * (before - 2.0 * at + after)).clamp(min=1e-6)).clamp(-0.5, 0.5)
    return start + (middle + offset) * step, costs.gather(0, label[None])[0], label


def _margin(costs: Tensor, label: Tensor) -> Tensor:
    """(H, W) by how much the chosen label (H, W) is cheaper than the best one elsewhere, of costs (K, H, W).

    Not of the aggregated costs: those of a pattern that repeats are settled by what stands beside it. A label elsewhere
    counts where it is better than those beside it, and matches well; where there is none the margin is 1.
    """
    labels = torch.arange(len(costs), device=costs.device)[:, None, None]
    ends = costs.new_full((1, *costs.shape[1:]), float("inf"))
    beside = torch.minimum(torch.cat([ends, costs[:-1]]), torch.cat([costs[1:], ends]))
    candidate = (costs <= beside) & ((labels - label).abs() > _NEIGHBOURING)
    elsewhere = torch.where(candidate, costs, torch.full_like(costs, float("inf"))).amin(dim=0)
    margin = elsewhere - costs.gather(0, label[None])[0]
    return torch.where(elsewhere < _WELL_MATCHED, margin, torch.ones_like(margin))


def _sweep(config: StereoConfig, view: StereoView, sources: List[StereoView]) -> _Surface:
    """Tries planes between near and far."""
    first, last = 1.0 / view.far, 1.0 / view.near
    pixels = (last - first) * largest_speed(view, sources, first, last)
    count = min(max(int(pixels) + 2, _FEWEST_PLANES), config.num_planes)
    planes = torch.linspace(first, last, count, device=view.image.device)
    step = (last - first) / (count - 1)
    costs = _costs(config, view, sources, planes[:, None, None], config.sweep_radii)
    inverse, cost, label = _best(config, view, costs, planes[0], step)
    margin = _margin(window_mean(costs, _MARGIN_RADIUS), label)
    smooth = median(inverse, config.median_radius)
    return _Surface(smooth.clamp(min=_farthest(view)), step, cost, margin)


def _refined(config: StereoConfig, view: StereoView, sources: List[StereoView], swept: _Surface) -> _Surface:
    """Matches a surface again at small offsets, at the size of `view`, until they are small enough."""
    inverse, margin = (
        torch.nn.functional.interpolate(values[None, None], size=view.size, mode="nearest-exact")[0, 0]
        for values in (swept.inverse, swept.margin)
    )
    speed = largest_speed(view, sources, 1.0 / view.far, 1.0 / view.near)
    step, cost = swept.step, torch.zeros_like(inverse)
    offsets = torch.arange(-_OFFSETS, _OFFSETS + 1, device=inverse.device)[:, None, None]
    for _ in range(_MOST_ROUNDS):
        step = 0.5 * step
        labels = (inverse + step * offsets).clamp(min=_farthest(view))
        costs = _costs(config, view, sources, labels, config.refine_radii)
        moved, cost, _ = _best(config, view, costs, inverse - _OFFSETS * step, step)
        inverse = median(moved, config.median_radius).clamp(min=_farthest(view))
        if step * speed <= _FINEST_STEP:
            break
    return _Surface(inverse, step, cost, margin)


def _farthest(view: StereoView) -> float:
    """Smallest inverse depth that still is a depth."""
    return 1e-4 / view.near


def _view_depth(
    config: StereoConfig, view: StereoView, sources: List[StereoView], surface: _Surface, pairs: List[Reprojection]
) -> ViewDepth:
    """What the other views confirm of a surface, and how well it is known."""
    agree = [
        (pair.pixel_error < config.max_pixel_error) | (pair.depth_error < config.max_depth_error) for pair in pairs
    ]
    valid = torch.stack(agree).sum(dim=0) >= config.min_views
    valid &= (surface.cost < config.max_cost) & (surface.margin >= config.min_margin) & view.mask
    speeds = torch.stack([parallax_speed(view, source, surface.inverse) for source in sources])
    if (surface.cost[valid] < 0.75 * config.doubtful_cost).sum() < config.doubtful_share * valid.sum():
        valid &= surface.cost < config.doubtful_cost
    z_depth = surface.z_depth
    sigma = config.sigma_pixels * z_depth**2 / speeds.amax(dim=0).clamp(min=1e-6)
    # The smallest disagreement: a view from which the point is hidden says nothing.
    apart = torch.stack([pair.depth_error for pair in pairs]).amin(dim=0)
    sigma = torch.maximum(sigma, 0.5 * torch.where(apart.isfinite(), apart, torch.zeros_like(apart)) * z_depth)
    if config.doubling_cost is not None:
        sigma = sigma * (1.0 + (surface.cost.clamp(min=0.0) / config.doubling_cost) ** 3)
    return ViewDepth(z_depth, sigma.clamp(max=1e6), valid)


def _resized(depth: ViewDepth, view: StereoView) -> ViewDepth:
    """The depth at the size of a view; by nearest neighbours, since between pixels there may be an edge."""
    if tuple(depth.valid.shape) == view.size:
        return depth
    maps = torch.stack([depth.z_depth, depth.sigma, depth.valid.to(depth.z_depth)])[None]
    z_depth, sigma, valid = torch.nn.functional.interpolate(maps, size=view.size, mode="nearest-exact")[0]
    return ViewDepth(z_depth, sigma, (valid > 0) & view.mask.to(valid.device))


def median(values: Tensor, radius: int) -> Tensor:
    """(H, W) medians over square windows of 2 radius + 1 pixels; beyond the border the border's values."""
    if radius == 0:
        return values
    side = 2 * radius + 1
    padded = torch.nn.functional.pad(values[None, None], (radius,) * 4, mode="replicate")
    windows = padded[0, 0].unfold(0, side, 1).unfold(1, side, 1)
    return windows.reshape(*values.shape, side * side).median(dim=-1).values
