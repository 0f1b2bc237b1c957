"""Unseen views: cameras between and around those of a scene, whose images are only ever rendered.

All poses are OpenGL camera-to-world matrices (N, 3, 4) in float64, in the recentred world of the dataparsers. The
boxes and jitters are those of RegNeRF's and SparseNeRF's loaders. Random numbers come from the caller, so that a run
(and a reference) can be repeated.
"""

from __future__ import annotations

import numpy as np

from fewshot_ns.cameras.poses import (
    Poses,
    average_pose,
    flip_camera_axes,
    focus_depth,
    focus_point,
    look_at,
    pose_from_axes,
    position_extent,
)

_JITTER = 0.125
"""Standard deviation of the point that cameras of an inward-facing scene look at, in world units."""


def llff_unseen_poses(poses: Poses, bounds: Poses, uniform: Poses) -> Poses:
    """Random cameras of a forward-facing scene: uniform in the box of the cameras, looking at the plane in focus.

    Args:
        poses: (N, 3, 4) cameras of the scene.
        bounds: (N, 2) nearest and farthest depth of each, in world units.
        uniform: (count, 3) random numbers in [0, 1).

    Returns:
        (count, 3, 4).
    """
    average, up = average_pose(poses), poses[:, :3, 1].mean(0)
    target = average @ np.array([0.0, 0.0, -focus_depth(bounds), 1.0])
    offsets = position_extent(poses, 100) * (2.0 * uniform - 1.0)
    positions = offsets @ average[:, :3].T + average[:, 3]
    return np.stack([look_at(position, target, up) for position in positions])


def dtu_unseen_poses(poses: Poses, uniform: Poses, normal: Poses) -> Poses:
    """Random cameras of an inward-facing scene: uniform in the box of the cameras, looking near their common focus.

    Args:
        poses: (N, 3, 4) cameras of the scene.
        uniform: (count, 3) random numbers in [0, 1).
        normal: (count, 3) standard normal random numbers.

    Returns:
        (count, 3, 4).

    Raises:
        ValueError: cameras without a common focus.
    """
    offsets = 2.0 * (uniform - 0.5)
    targets = focus_point(poses) + _JITTER * normal
    # The box lies along the axes of the average camera in OpenCV's convention, in which the originals work.
    opencv = flip_camera_axes(poses)
    average, down = average_pose(opencv), opencv[:, :3, 1].mean(0)
    positions = (offsets * position_extent(poses, 100)) @ average[:, :3].T + average[:, 3]
    unseen = [
        pose_from_axes(target - position, down, position) for position, target in zip(positions, targets, strict=True)
    ]
    return flip_camera_axes(np.stack(unseen))
