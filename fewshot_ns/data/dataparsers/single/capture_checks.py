"""What the cameras of a capture decide or put in doubt: its ray space, its near and far, what its views share."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.depth_ranges import world_ranges
from fewshot_ns.cameras.overlap import shared_views, widest_angle
from fewshot_ns.cameras.scene_geometry import RaySpace
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.dataparsers.single.seed_points import SeedPoints
from fewshot_ns.data.files.colmap import project

MAX_FORWARD_ANGLE = 45.0
"""Degrees between two viewing axes above which a capture does not face forward (at most 27 in the scenes of LLFF)."""
MIN_SHARED = 0.2
"""Share of a view that others must see; 0.27 and more with three views of each scene of LLFF and DTU, below 0.1 where
three cameras stand all around an object."""
_MOST_VIEWS = 64
"""Training views above which nobody asks whether they overlap."""
_FEWEST_POINTS = 30
_SLACK, _EXCESS = 1.25, 4.0
"""Factors by which bounds may fall short of the points that views see, and by which they may reach beyond them."""


class ResolvedSpace(NamedTuple):
    """The ray space of a capture."""

    space: RaySpace
    """What it is."""
    reason: Optional[str]
    """Why, where the cameras decided; None where the user did."""
    warning: Optional[str]
    """What is wrong with the user's choice."""


def resolve_ray_space(stated: Optional[RaySpace], poses: npt.NDArray[np.floating]) -> ResolvedSpace:
    """Metric where the cameras do not face forward, so that some of them see what NDC cannot hold; else NDC.

    Args:
        stated: What the user says; None leaves it to the cameras.
        poses: (N, 3, 4) of all photos, recentred, in units of the distance to the near plane of NDC.
    """
    angle, beyond = widest_angle(poses), int((poses[:, 2, 3] <= -1.0).sum())
    facing = angle <= MAX_FORWARD_ANGLE and not beyond
    words = f"the cameras look up to {angle:.0f} degrees apart"
    if beyond:
        words += f", {beyond} of {len(poses)} stand beyond the near plane of NDC"
    if stated is None:
        return ResolvedSpace("ndc" if facing else "metric", words, None)
    if stated == "metric" or facing:
        return ResolvedSpace(stated, None, None)
    warning = f"{words}: NDC is for captures that face forward (below {MAX_FORWARD_ANGLE:.0f} degrees) and cannot hold "
    return ResolvedSpace(stated, None, warning + "what such cameras see; leave --ray-space out, or give metric")


class ViewBounds(NamedTuple):
    """Nearest and farthest planar depth of some views, world units."""

    near: float
    """With a margin."""
    far: float
    """With a margin."""
    warning: Optional[str]
    """Why they are not those of the file, or what puts these in doubt."""


def bounds_of_views(scene: SceneFiles, views: Sequence[int], points: Optional[SeedPoints]) -> ViewBounds:
    """Near and far of a scene that states bounds for each view: those of the training views, where they hold.

    Args:
        scene: with `bounds`.
        views: Indices of the training views.
        points: Sparse points of the scene. Where the training views see enough of them, and their depths do not fit the
            stated bounds, near and far are those of the points.
    """
    if scene.bounds is None:
        raise ValueError("expected a scene with bounds of each view, found none")
    rows = scene.bounds[list(views)]
    low, high = float(rows[:, 0].min()), float(rows[:, 1].max())
    stated = ViewBounds(0.9 * low, 1.1 * high, None)
    if points is None:
        return stated
    seen = points.positions if points.train_views is None else points.positions[points.train_views > 0]
    depths = []
    for view in views:
        _, depth, inside = project(seen.astype(np.float64), scene.camera_to_worlds[view], scene.intrinsics[view])
        depths.append(depth[inside])
    found = np.concatenate(depths)
    if len(found) < _FEWEST_POINTS:
        return stated
    first, last = (float(value) for value in np.quantile(found, [0.01, 0.99]))
    holds = low <= _SLACK * first and high * _SLACK >= last
    tight = low * _EXCESS >= first and high <= _EXCESS * last
    if holds and tight:
        return stated
    problem = "do not hold" if not holds else f"reach more than {_EXCESS:g} times beyond"
    return ViewBounds(
        0.8 * first,
        1.25 * last,
        f"the bounds that the file states of the training views, {low:.4g} to {high:.4g}, {problem} the points that "
        f"these views see, {first:.4g} to {last:.4g}: near and far are those of the points",
    )


def overlap_warning(scene: SceneFiles, train: Sequence[int]) -> Optional[str]:
    """What to say of training views that share little with any other one; None where all do, and of many views.

    Args:
        scene: whose near and far, or bounds of each view, say how far views reach.
        train: Indices of the training views.
    """
    if not 2 <= len(train) <= _MOST_VIEWS:
        return None
    views = list(train)
    poses = scene.camera_to_worlds[views]
    shares = shared_views(poses, scene.intrinsics[views], _reaches(scene, views))
    lonely = [(view, share) for view, share in zip(views, shares, strict=True) if share < MIN_SHARED]
    if not lonely:
        return None
    named = ", ".join(f"{view} ({share:.0%})" for view, share in lonely[:6])
    more = f" and {len(lonely) - 6} more" if len(lonely) > 6 else ""
    return (
        f"of what training view{'s' if len(lonely) > 1 else ''} {named}{more} may show, other training views see "
        f"that little from a similar direction (their axes: up to {widest_angle(poses):.0f} degrees apart). Depth of "
        "what one photo alone shows is not known, and new views come out no better than the nearest photo; take "
        "neighbouring photos (--train-indices), or more of them (--num-views)"
    )


def _reaches(scene: SceneFiles, views: Sequence[int]) -> npt.NDArray[np.floating]:
    """(V, 2) planar depths at which what each view may show begins and ends."""
    geometry = scene.geometry
    if scene.bounds is not None:
        return scene.bounds[list(views)]
    near, far = geometry.near, geometry.far
    if geometry.origin_plane_z is not None:
        unit = {view: (100, 100) for view in views}
        near, far = world_ranges(scene.cameras(views, unit), geometry)[1]
    return np.tile([max(near, 1e-3 * far), far], (len(views), 1))
