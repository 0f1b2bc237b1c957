"""Camera paths of MatchNeRF's and ID-NeRF's videos, made from the source views.

Every path is (F, 3, 4) OpenGL camera-to-world matrices in float64.
"""

from __future__ import annotations

import numpy as np

from fewshot_ns.cameras.poses import Poses, average_pose, flip_camera_axes, pose_from_axes

_FOCUS_BLEND = 0.75


def through_views(poses: Poses, frames: int = 60) -> Poses:
    """Goes through all views in their order and back to the first, with equal numbers of frames between them.

    Positions and Euler angles change linearly, as in the originals; angles take the short way around.

    Args:
        poses: (N, 3, 4) views, at least 2.
        frames: Number of frames; what is left over when N parts are made of it goes to the last.

    Returns:
        (frames, 3, 4).

    Raises:
        ValueError: fewer than 2 views, or fewer frames than views.
    """
    from scipy.spatial.transform import Rotation

    count = len(poses)
    if count < 2 or frames < count:
        raise ValueError(f"expected at least 2 views and a frame for each, got {count} views and {frames} frames")
    # In OpenCV's axes the angles of cameras that look one way are small, so that Euler angles are no worse than others.
    opencv = flip_camera_axes(np.concatenate([poses, poses[:1]]))
    angles = Rotation.from_matrix(opencv[:, :, :3]).as_euler("xyz", degrees=True)
    stations = np.concatenate([np.unwrap(angles, axis=0, period=360.0), opencv[:, :, 3]], axis=1)
    each = frames // count
    lengths = [each] * (count - 1) + [frames - each * (count - 1)]
    parts = [
        first + np.arange(length)[:, None] / length * (last - first)
        for first, last, length in zip(stations, stations[1:], lengths, strict=False)
    ]
    path = np.concatenate(parts)
    turned = Rotation.from_euler("xyz", path[:, :3], degrees=True).as_matrix()
    return flip_camera_axes(np.concatenate([turned, path[:, 3:, None]], axis=2))


def depth_spiral(
    poses: Poses,
    near: float,
    far: float,
    frames: int = 60,
    scale: float = 0.1,
    rotations: float = 2.0,
    z_rate: float = 0.5,
    percentile: float = 70.0,
    looks_away: bool = False,
) -> Poses:
    """Spiral around the average camera, looking at a depth between near and far.

    Args:
        poses: (N, 3, 4) views of the scene.
        near: Nearest planar depth, world units.
        far: Farthest planar depth, world units.
        frames: Number of frames.
        scale: Factor on the radii.
        rotations: Turns of the spiral.
        z_rate: Swings along the viewing direction per turn.
        percentile: Which percentile of the distances from the average position, per world axis, gives the radii.
        looks_away: As in the released code, which applies OpenGL's formula to OpenCV's axes: the point that all
            frames refer to lies behind the cameras.

    Returns:
        (frames, 3, 4).

    Raises:
        ValueError: depths that are not positive.
    """
    if not 0 < near < far:
        raise ValueError(f"expected 0 < near < far, got {near} and {far}")
    opencv = flip_camera_axes(poses)
    average, down = average_pose(opencv), opencv[:, :3, 1].mean(0)
    focus = 1.0 / ((1.0 - _FOCUS_BLEND) / near + _FOCUS_BLEND / far)
    side = -1.0 if looks_away else 1.0
    target = average @ np.array([0.0, 0.0, side * focus, 1.0])
    radii = scale * np.percentile(np.abs(opencv[:, :, 3] - average[:, 3]), percentile, axis=0)
    theta = np.linspace(0.0, 2.0 * np.pi * rotations, frames, endpoint=False)
    offsets = radii * np.stack([np.cos(theta), -np.sin(theta), -np.sin(theta * z_rate)], axis=1)
    positions = offsets @ average[:, :3].T + average[:, 3]
    path = [pose_from_axes(side * (target - position), down, position) for position in positions]
    return flip_camera_axes(np.stack(path))
