"""Depth bounds of photos that are far off those of all others, so that one bad row does not decide about a scene."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import numpy as np
import numpy.typing as npt

MOST_APART = 20.0
"""Factor off the median above which a nearest or farthest depth is believed wrong (at most 1.4 and 2 in the scenes of
LLFF)."""
_FEWEST_ROWS = 3
_SHOWN = 3


class PlainBounds(NamedTuple):
    """Bounds of all photos of a scene."""

    rows: npt.NDArray[np.float64]
    """(N, 2) nearest and farthest depth; those that are not believed are the others' median."""
    remark: Optional[str]
    """Which were replaced; None: none, and `rows` are the given ones."""


def plain_bounds(rows: npt.NDArray[np.float64], names: Sequence[str]) -> PlainBounds:
    """Replaces bounds whose nearest depth is `MOST_APART` times below, or whose farthest is as much above, the median.

    Where half of all or more are like that, or of fewer than three photos, nothing tells which are wrong, and all stay.

    Args:
        rows: (N, 2) positive depths.
        names: (N) photos, for the remark.
    """
    median = np.median(rows, axis=0)
    odd = (rows[:, 0] * MOST_APART < median[0]) | (rows[:, 1] > MOST_APART * median[1])
    if len(rows) < _FEWEST_ROWS or not odd.any() or 2 * odd.sum() >= len(rows):
        return PlainBounds(rows, None)
    usual = np.median(rows[~odd], axis=0)
    found = [f"{names[row]} ({rows[row, 0]:.4g} to {rows[row, 1]:.4g})" for row in np.flatnonzero(odd)]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return PlainBounds(
        np.where(odd[:, None], usual, rows),
        f"the depth bounds of {', '.join(found[:_SHOWN])}{more} are more than {MOST_APART:g} times off those of the "
        f"other photos, {usual[0]:.4g} to {usual[1]:.4g} in the middle, which are taken instead",
    )
