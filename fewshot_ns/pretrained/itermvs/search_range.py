"""Between which depths the network searches.

It tells 256 steps of inverse depth apart. Where the photos lie far apart a step is several pixels long and the search
passes over the right place; where they lie close together a step is a small part of a pixel, and the photos look the
same at all depths that are compared. It works best where a step moves a point by about half a pixel of the photos.
"""

from __future__ import annotations

import math
from typing import Sequence

from fewshot_ns.data.stereo.sources import NEAR_MARGIN, Range, probes
from fewshot_ns.data.stereo.views import StereoView
from fewshot_ns.pretrained.itermvs.updates import BINS

SHORTEST_STEP, LONGEST_STEP = 0.45, 1.0
"""Pixels of the photo by which a step should move a point, at least and at most."""
FAR_OF_INFINITE = 100.0
"""Largest depth relative to the smallest where the scene has no far end."""
_NEAREST_SHARE = 0.25
"""A range is never widened to less than this share of its near end."""


def search_range(view: StereoView) -> Range:
    """Depths that hold all that a view may show, with a margin at the near end."""
    far = view.far if math.isfinite(view.far) else FAR_OF_INFINITE * view.near
    return NEAR_MARGIN * view.near, far


def step_length(view: StereoView, sources: Sequence[StereoView], ends: Range) -> float:
    """Pixels by which a step of the search in the middle of a range moves a point in the sources, on average.

    The pixels are those of sources that are stretched to the view's size. 0 where no source sees anything of it.
    """
    nearest, farthest = 1.0 / ends[0], 1.0 / ends[1]
    middle = (nearest + farthest) / 2.0
    near, far = (probes(view, 1.0 / inverse) for inverse in (middle + (nearest - farthest) / BINS, middle))
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
