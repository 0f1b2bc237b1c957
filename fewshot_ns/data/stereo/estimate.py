"""Depth of a few posed photos from each other: plane sweep, semi-global aggregation, agreement of the views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, NamedTuple, Sequence, Tuple

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fewshot_ns.data.stereo.aggregation import semi_global
from fewshot_ns.data.stereo.sweep import Matcher, source_lines
from fewshot_ns.data.stereo.views import StereoView, ViewDepth, sample

VERSION = 1
"""Version of what is computed; a new one makes all kept maps stale."""


class StereoError(ValueError):
    """Photos from which no depth can be found; the message names them."""


@dataclass
class StereoConfig:
    """Depth of the training views from each other."""

    max_side: int = 504
    """Longest side of the photos that are matched, pixels; larger ones are averaged down."""
    num_sources: int = 4
    """Other views that each view is matched with at most."""
    device: str = "auto"
    """Where it runs: auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""


class _Estimate(NamedTuple):
    inverse: Tensor
    cost: Tensor
    step: float


def stereo_depths(config: StereoConfig, views: Sequence[StereoView]) -> List[ViewDepth]:
    """Depth of each view from the others.

    Args:
        config: what is matched and how.
        views: (V) at least two that see the same things.

    Returns:
        One for each view, at the size of its photo, on the CPU.

    Raises:
        StereoError: fewer than two views, or none that sees what another sees.
    """
    if len(views) < 2:
        names = ", ".join(view.name for view in views) or "none"
        raise StereoError(f"expected at least two photos to find depth from, got {names}")
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
    views = [view.to(device) for view in views]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    estimates = []
    with torch.no_grad(), Progress(*columns, console=CONSOLE, transient=True) as progress:
        for index in progress.track(range(len(views)), description=f"[green]Depth from the photos on {device}"):
            sources = [view for other, view in enumerate(views) if other != index]
            estimates.append(_estimate(views[index], sources))
        return [depth.to(torch.device("cpu")) for depth in _checked(views, estimates)]


def _estimate(view: StereoView, sources: List[StereoView]) -> _Estimate:
    inverse, _ = _planes(view, sources)
    matcher = Matcher(view, sources, 3)
    volume = torch.stack([matcher.costs(source, inverse[:, None, None]) for source in range(len(sources))])
    costs = 0.5 * volume.amin(0) + 0.5 * volume.mean(0)
    total = semi_global(costs, view.image.mean(-1), 0.1, 0.8, 20.0)
    best = total.argmin(0)
    middle = best.clamp(1, len(inverse) - 2)
    before, at, after = (total.gather(0, (middle + offset)[None])[0] for offset in (-1, 0, 1))
    offset = ((before - after) / (2.0 * (before - 2.0 * at + after)).clamp(min=1e-6)).clamp(-0.5, 0.5)
    step = float(inverse[1] - inverse[0])
    return _Estimate(inverse[0] + (middle + offset) * step, costs.gather(0, best[None])[0], step)


def _planes(view: StereoView, sources: List[StereoView]) -> Tuple[Tensor, float]:
    first, last = 1.0 / view.far, 1.0 / max(view.near, 1e-2)
    depths = torch.linspace(first, last, 33, device=view.image.device)[:, None, None]
    parallax = 0.0
    for source in sources:
        start, slope = source_lines(view, source)
        position = start[::8, ::8].reshape(-1, 3) + depths * slope
        place = position[..., :2] / position[..., 2:]
        seen = (position[..., 2] > 1e-6) & source.contains(place)
        moved = (place[1:] - place[:-1]).norm(dim=-1)[seen[1:] & seen[:-1]]
        if len(moved):
            parallax = max(parallax, 32.0 * float(moved.max()))
    count = int(min(max(parallax + 1, 32), 256))
    return torch.linspace(first, last, count, device=view.image.device), parallax


def _checked(views: Sequence[StereoView], estimates: Sequence[_Estimate]) -> List[ViewDepth]:
    found = []
    for index, (view, estimate) in enumerate(zip(views, estimates, strict=True)):
        z_depth = 1.0 / estimate.inverse.clamp(min=1e-4)
        points, agree = view.points(z_depth), torch.zeros_like(z_depth)
        for other, source in enumerate(views):
            if other != index:
                position, z = source.project(points)
                seen = source.contains(position) & (z > 0)
                theirs = sample(estimates[other].inverse, position, "nearest")
                agree += seen & ((theirs - 1.0 / z.clamp(min=1e-6)).abs() < 2.0 * estimate.step)
        valid = (agree >= 1) & (estimate.cost < 0.6) & view.mask
        found.append(ViewDepth(z_depth, 0.5 * estimate.step * z_depth**2, valid))
    return found
