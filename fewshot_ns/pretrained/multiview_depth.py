"""Depth of posed photos from a network that matches them (IterMVS), where other views confirm it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fewshot_ns.data.stereo.consistency import Consistency, consistent_views, fuse
from fewshot_ns.data.stereo.sources import Range, found_range, source_views
from fewshot_ns.data.stereo.views import StereoView, ViewDepth
from fewshot_ns.pretrained.itermvs.features import SIZE_MULTIPLE, Features
from fewshot_ns.pretrained.itermvs.geometry import LEVELS, projections
from fewshot_ns.pretrained.itermvs.network import IterMVS
from fewshot_ns.pretrained.itermvs.search_range import (
    LONGEST_STEP,
    search_range,
    step_length,
    widened,
)
from fewshot_ns.pretrained.itermvs.weights import find_itermvs, load_itermvs
from fewshot_ns.utils.configs import SavedConfig, expect_fields
from fewshot_ns.utils.devices import find_device

VERSION = 1
"""Version of what is computed around the network; a new one makes all kept maps stale."""
NEAREST = 100.0
"""The scene is scaled so that the smallest depth is this, about what the network was trained with."""
_MIN_SIDE = 64
_USUAL_SIDE = 384
"""Smaller photos are enlarged to this, since the network's coarse maps would be tiny."""
_COARSE_ERRORS = (2.0, 0.03)
"""Pixels, and fraction of depth, by which depths may differ that are to say where the scene lies."""
_KEPT_FEATURES = 32
"""Photos whose features are kept, some megabytes each, for the next reference that has them as a source."""

Size = Tuple[int, int]


@dataclass
class MultiViewDepthConfig(SavedConfig):
    """A network that estimates depth from several posed photos: IterMVS with its authors' BlendedMVS weights."""

    weights: Optional[Path] = None
    """File of the weights, or a folder with it. None: the folder that FEWSHOT_WEIGHTS names. There is no download."""
    max_side: int = 512
    """Longer side, in pixels, to which photos are shrunk for the network; sides are rounded to multiples of 32."""
    num_sources: int = 4
    """Other views that a view is matched with, at most; those that look at it from about 5 degrees come first."""
    adapt_range: bool = True
    """Whether the range of depths is fitted to the views: narrowed by a coarse search first where they lie far apart,
    widened where they lie close together."""
    min_consistent_views: int = 1
    """Other views that have to confirm a pixel's depth."""
    max_reprojection_error: float = 1.0
    """A pixel taken to another view and back by both depths misses its place by less, in pixels of the network."""
    max_depth_error: float = 0.01
    """And its depth differs by less than this fraction."""
    min_confidence: float = 0.0
    """Smallest confidence, by the network's own word, of a confirmed pixel; 0.3 is the published one, 0 keeps more."""
    relative_sigma: float = 0.006
    """Standard deviation of confirmed depth as a fraction of the depth."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""

    def check(self) -> None:
        """Refuses values that no depth can come of.

        Raises:
            FieldError: a field out of its range.
        """
        expect_fields(self, f"at least {_MIN_SIDE} pixels", lambda value: value >= _MIN_SIDE, "max_side")
        expect_fields(self, "at least 1 other view", lambda value: value >= 1, "num_sources")
        expect_fields(self, "a positive fraction", lambda value: value > 0, "relative_sigma")


def multiview_depths(config: MultiViewDepthConfig, views: Sequence[StereoView], flag: str) -> List[ViewDepth]:
    """Depth of each view, from the views that look at the same things.

    Args:
        config: network and thresholds.
        views: two or more, of any sizes.
        flag: command line flag of the weights, for the error message.

    Returns:
        One per view, of its photo's size, on its device: depth everywhere, valid where other views confirm it and the
        view's mask has something. Where confirmed it is the mean of the views that agree.

    Raises:
        WeightsNotFoundError: the weights were not found.
        ValueError: fewer than two views, values of the config that make no sense, or other weights.
        CheckpointMismatchError: parameters are missing, unknown, or of another shape.
    """
    _check(config, views)
    device = find_device(config.device)
    network = load_itermvs(find_itermvs(config.weights, flag)).to(device)
    working = [_resized(view, config.max_side).to(device) for view in views]
    neighbours = [source_views(working, index, config.num_sources) for index in range(len(views))]
    ranges = [search_range(view) for view in views]
    if config.adapt_range:
        ranges = _adapted(network, working, neighbours, ranges)
    estimates = _estimates(network, working, neighbours, ranges, "Depth")
    errors = (config.max_reprojection_error, config.max_depth_error)
    found = []
    for index, view in enumerate(views):
        consistency = _consistency(working, estimates, neighbours, index, errors)
        own = estimates[index]
        confirmed = consistency.count >= config.min_consistent_views
        confirmed &= own.confidence >= config.min_confidence
        found.append(_view_depth(fuse(own.z_depth, consistency), confirmed, view, config.relative_sigma))
    return found


def working_size(size: Size, side: float) -> Size:
    """(height, width) that an image of a size has for the network: its longer side about `side`, both multiples of 32
    and at least 64."""
    scale = side / max(size)
    height, width = (max(_MIN_SIDE, SIZE_MULTIPLE * math.floor(scale * each / SIZE_MULTIPLE + 0.5)) for each in size)
    return height, width


class _Estimate(NamedTuple):
    """The network's word on a view, at its working size."""

    z_depth: Tensor
    """(H, W), world units."""
    confidence: Tensor
    """(H, W) in [0, 1]."""


class _Matcher:
    """The network over the views of a scene: features are computed once per view and size."""

    def __init__(self, network: IterMVS, views: Sequence[StereoView]) -> None:
        self.network, self.views = network, views
        self._features = lru_cache(maxsize=_KEPT_FEATURES)(self._encode)

    def _encode(self, index: int, size: Size) -> Features:
        image = self.views[index].resized(size).image
        return self.network.encode((image.permute(2, 0, 1) * 2.0 - 1.0)[None, None])

    @torch.no_grad()
    def __call__(self, index: int, sources: Sequence[int], ends: Range) -> _Estimate:
        """Estimate of a view from others, which are stretched to its size, between two depths."""
        reference = self.views[index]
        device, size, scale = reference.image.device, reference.size, NEAREST / ends[0]
        chosen = [index, *sources]
        resized = [self.views[each].resized(size) for each in chosen]
        # A few numbers, in double precision on the CPU: not every device has it.
        poses = torch.stack([view.pose.cpu().double() for view in resized])
        # The reference's own place is the origin, since coordinates of the world may be large.
        poses[:, :, 3] = scale * (poses[:, :, 3] - poses[:1, :, 3])
        intrinsics = torch.stack([view.intrinsics.cpu() for view in resized])
        cameras = [projections(poses, intrinsics, level)[None] for level in LEVELS]
        depth_min, depth_max = (torch.tensor([scale * end], device=device) for end in ends)
        with torch.autocast(device.type, enabled=False):
            each = [self._features(view, size) for view in chosen]
            features = Features(*(torch.cat(maps, dim=1) for maps in zip(*each, strict=True)))
            depth, confidence = self.network.estimate(features, cameras, depth_min, depth_max)
        return _Estimate(depth[0, 0] / scale, confidence[0, 0])


def _estimates(
    network: IterMVS,
    views: Sequence[StereoView],
    neighbours: Sequence[Sequence[int]],
    ranges: Sequence[Range],
    what: str,
) -> List[_Estimate]:
    """Of each view from its neighbours, with a bar of progress."""
    matcher, device = _Matcher(network, views), views[0].image.device
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found = []
    with Progress(*columns, console=CONSOLE, transient=True) as progress:
        task = progress.add_task(f"[green]{what} by IterMVS on {device}", total=len(views))
        for index, (sources, ends) in enumerate(zip(neighbours, ranges, strict=True)):
            found.append(matcher(index, sources, ends))
            progress.advance(task)
    return found


def _adapted(
    network: IterMVS,
    views: Sequence[StereoView],
    neighbours: Sequence[Sequence[int]],
    ranges: Sequence[Range],
) -> List[Range]:
    """Ranges whose steps are neither too long nor too short for the network.

    Too long ones get shorter by looking at smaller photos first, which show where the scene lies.
    """

    def step_lengths(searched: Sequence[Range]) -> List[float]:
        each = zip(views, neighbours, searched, strict=True)
        return [step_length(view, _of(views, sources), ends) for view, sources, ends in each]

    adapted, lengths = list(ranges), step_lengths(ranges)
    longest = max(lengths)
    if longest > LONGEST_STEP:
        side = max(max(view.size) for view in views) * LONGEST_STEP / longest
        small = [view.resized(working_size(view.size, side)) for view in views]
        estimates = _estimates(network, small, neighbours, ranges, "Range of depth")
        for index, (view, ends) in enumerate(zip(small, ranges, strict=True)):
            if lengths[index] > LONGEST_STEP:
                confirmed = _consistency(small, estimates, neighbours, index, _COARSE_ERRORS).count > 0
                adapted[index] = found_range(estimates[index].z_depth, confirmed & view.mask, ends) or ends
        lengths = step_lengths(adapted)
    return [widened(ends, length) for ends, length in zip(adapted, lengths, strict=True)]


def _of(views: Sequence[StereoView], indices: Sequence[int]) -> List[StereoView]:
    return [views[index] for index in indices]


def _consistency(
    views: Sequence[StereoView],
    estimates: Sequence[_Estimate],
    neighbours: Sequence[Sequence[int]],
    index: int,
    errors: Tuple[float, float],
) -> Consistency:
    """What a view's neighbours confirm of its depth."""
    depths = [estimates[source].z_depth for source in neighbours[index]]
    sources = _of(views, neighbours[index])
    return consistent_views(views[index], estimates[index].z_depth, sources, depths, *errors)


def _resized(view: StereoView, max_side: int) -> StereoView:
    side = min(max(*view.size, _USUAL_SIDE), max_side)
    return view.resized(working_size(view.size, side))


def _view_depth(z_depth: Tensor, confirmed: Tensor, view: StereoView, relative_sigma: float) -> ViewDepth:
    """Depth at the size of the view's photo; by nearest neighbours, since between pixels there may be an edge."""
    maps = torch.stack([z_depth, confirmed.to(z_depth)])[None]
    z_depth, valid = torch.nn.functional.interpolate(maps, size=view.size, mode="nearest-exact")[0].to(view.image)
    return ViewDepth(z_depth, relative_sigma * z_depth, (valid > 0) & view.mask)


def _check(config: MultiViewDepthConfig, views: Sequence[StereoView]) -> None:
    """Refuses views and values that no depth can come of."""
    if len(views) < 2:
        found = f"{views[0].name or 'one'} alone" if views else "none"
        raise ValueError(f"depth by matching photos: expected at least two views, found {found}")
    for view in views:
        if not 0.0 < view.near < view.far:
            raise ValueError(f"{view.name}: expected depths 0 < near < far, found {view.near:g} and {view.far:g}")
    config.check()
    most = min(config.num_sources, len(views) - 1)
    wanted = f"0 to {most}, the other views that a view is matched with"
    expect_fields(config, wanted, lambda value: 0 <= value <= most, "min_consistent_views")
