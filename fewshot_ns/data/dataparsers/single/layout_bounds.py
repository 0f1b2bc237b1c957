"""Near and far of Blender scenes, the layout's 2 and 6 or the file's, held against where a scene's cameras stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import AXES_HINT, focus_depths, in_one_place, look_away

NEAR, FAR = 2.0, 6.0
"""What NeRF's synthetic scenes are sampled between, whose cameras are about 4 from the object."""
_CLOSE, _DISTANT = 0.75, 1.25
"""The bounds should leave as much room before and behind the point that cameras look at, as fractions of its depth."""


@dataclass(frozen=True)
class LayoutBounds:
    """Near and far of a scene in the Blender layout."""

    near: float
    """First ray parameter sampled."""
    far: float
    """Last ray parameter sampled."""
    guessed: bool = False
    """Whether they are a guess from the cameras."""
    remarks: Tuple[str, ...] = ()
    """What is to be said of them."""


def stated_layout_bounds(near: float, far: float, poses: npt.NDArray[np.floating]) -> LayoutBounds:
    """Bounds that the file states, which are kept, and what puts them in doubt.

    Args:
        near: First ray parameter.
        far: Last ray parameter.
        poses: (N, 3, 4) OpenGL poses of the training cameras.
    """
    depths = None if in_one_place(poses) else focus_depths(poses)
    if depths is None:
        return LayoutBounds(near, far)
    stated = f"near {near:g} and far {far:g} of the file"
    if look_away(poses):
        return LayoutBounds(near, far, remarks=(f"{AXES_HINT}; what {stated} bound lies behind such cameras",))
    low, high = float(depths.min()), float(depths.max())
    # Cameras that look at no common point, as in rooms, say nothing of where the scene is.
    if low <= 1e-3 * high or (near < low and high < far):
        return LayoutBounds(near, far)
    remark = (
        f"the cameras look at a point {low:.3g} to {high:.3g} before them, which {stated} leave out; give --near and "
        "--far if the scene is cut off"
    )
    return LayoutBounds(near, far, remarks=(remark,))


def layout_bounds(poses: npt.NDArray[np.floating]) -> LayoutBounds:
    """The layout's bounds, or others where they cannot hold.

    Args:
        poses: (N, 3, 4) OpenGL poses of the training cameras.

    Returns:
        2 and 6 where the point that all cameras look at lies between them, or where nothing can be told; else half and
        one and a half times its depth, which are the layout's proportions.
    """
    depths = None if in_one_place(poses) else focus_depths(poses)
    if depths is None:
        return LayoutBounds(NEAR, FAR)
    advice = "give --near and --far"
    if look_away(poses):
        return LayoutBounds(NEAR, FAR, remarks=(f"{AXES_HINT}; near {NEAR:g} and far {FAR:g} are unchecked, {advice}",))
    low, high = float(depths.min()), float(depths.max())
    if low <= 1e-3 * high:
        remark = f"the cameras do not look at a common point, so near {NEAR:g} and far {FAR:g} are unchecked; {advice}"
        return LayoutBounds(NEAR, FAR, remarks=(remark,))
    where = f"the cameras look at a point {low:.3g} to {high:.3g} before them"
    if NEAR < low and high < FAR:
        if NEAR <= _CLOSE * low and FAR >= _DISTANT * high:
            return LayoutBounds(NEAR, FAR)
        remark = f"{where}; near {NEAR:g} and far {FAR:g} leave little room around it, {advice} if the scene is cut off"
        return LayoutBounds(NEAR, FAR, remarks=(remark,))
    near, far = 0.5 * low, 1.5 * high
    remark = (
        f"{where}, where near {NEAR:g} and far {FAR:g} of NeRF's synthetic scenes cannot hold; {near:.3g} and "
        f"{far:.3g} are taken, {advice} for others"
    )
    return LayoutBounds(near, far, guessed=True, remarks=(remark,))
