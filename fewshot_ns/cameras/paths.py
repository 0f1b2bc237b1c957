"""Camera paths for videos, and the JSON that `ns-render camera-path` reads.

Every path is (F, 3, 4) OpenGL camera-to-world matrices in float64.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Sequence, Union

import numpy as np

from fewshot_ns.cameras.poses import (
    Poses,
    average_pose,
    flip_camera_axes,
    focus_depth,
    focus_point,
    homogeneous,
    look_at,
    normalize,
    pose_from_axes,
    position_extent,
)
from fewshot_ns.cameras.sphere_views import spherical_poses


def _spiral_positions(average: Poses, extent: Poses, frames: int, rotations: float, z_rate: float) -> Poses:
    theta = np.linspace(0.0, 2.0 * np.pi * rotations, frames, endpoint=False)
    offsets = extent * np.stack([np.cos(theta), -np.sin(theta), -np.sin(theta * z_rate)], axis=1)
    return offsets @ average[:, :3].T + average[:, 3]


def llff_spiral(poses: Poses, bounds: Poses, frames: int = 180, rotations: float = 2.0, z_rate: float = 0.5) -> Poses:
    """Spiral of a forward-facing scene around its average camera, looking at the plane in focus.

    Args:
        poses: (N, 3, 4) cameras of the scene.
        bounds: (N, 2) nearest and farthest depth of each, in world units.
        frames: Number of frames.
        rotations: Turns of the spiral; the radii are the 90th percentile of the cameras' coordinates.
        z_rate: Swings along the viewing direction per turn.

    Returns:
        (frames, 3, 4).
    """
    average, up = average_pose(poses), poses[:, :3, 1].mean(0)
    target = average @ np.array([0.0, 0.0, -focus_depth(bounds), 1.0])
    positions = _spiral_positions(average, position_extent(poses, 90), frames, rotations, z_rate)
    return np.stack([look_at(position, target, up) for position in positions])


def dtu_spiral(
    poses: Poses, frames: int = 180, rotations: float = 2.0, z_rate: float = 0.5, percentile: float = 60.0
) -> Poses:
    """Spiral of an inward-facing scene, looking at the cameras' common focus.

    Args:
        poses: (N, 3, 4) cameras of the scene.
        frames: Number of frames.
        rotations: Turns of the spiral.
        z_rate: Swings along the viewing direction per turn.
        percentile: Which percentile of the cameras' coordinates gives the radii.

    Returns:
        (frames, 3, 4).

    Raises:
        ValueError: the cameras have no common focus.
    """
    # Like the originals, in OpenCV's axes: the signs of the spiral depend on them.
    opencv = flip_camera_axes(poses)
    average, down, target = average_pose(opencv), opencv[:, :3, 1].mean(0), focus_point(poses)
    positions = _spiral_positions(average, position_extent(poses, percentile), frames, rotations, z_rate)
    return flip_camera_axes(np.stack([pose_from_axes(target - position, down, position) for position in positions]))


def spheric(radius: float = 4.0, elevation: float = 36.0, frames: int = 120) -> Poses:
    """Circle of the synthetic scenes: at one height (z up), looking at the origin.

    Args:
        radius: Distance from the origin, in world units.
        elevation: Height above the horizon, degrees.
        frames: Number of frames.

    Returns:
        (frames, 3, 4).

    Raises:
        ValueError: an elevation of 90 degrees or more, where no direction is up.
    """
    if not -90.0 < elevation < 90.0:
        raise ValueError(f"expected an elevation between -90 and 90 degrees, got {elevation}")
    target, up = np.zeros(3), np.array([0.0, 0.0, 1.0])
    height, ring = math.sin(math.radians(elevation)), math.cos(math.radians(elevation))
    theta = np.linspace(-np.pi, np.pi, frames, endpoint=False)
    directions = np.stack([ring * np.cos(theta), ring * np.sin(theta), np.full(frames, height)], axis=1)
    return np.stack([look_at(target + radius * direction, target, up) for direction in directions])


def spin(radius: float = 4.0, elevation: float = 30.0, frames: int = 40) -> Poses:
    """DietNeRF's circle about the origin (z up), in its order: its videos show 40 poses, its JAX version's GIFs 30.

    Args:
        radius: Distance from the origin, in world units.
        elevation: Height above the horizon, degrees; the negative of the angle phi in its code.
        frames: Number of frames.

    Returns:
        (frames, 3, 4).
    """
    same = np.ones(frames)
    azimuth = np.linspace(-np.pi, np.pi, frames, endpoint=False)
    return spherical_poses(azimuth, math.radians(elevation) * same, radius * same)


def orbit(poses: Poses, frames: int = 120, arc: float = 360.0) -> Poses:
    """Circle around the common focus of the cameras, about their mean upward direction, at their mean distance.

    Args:
        poses: (N, 3, 4) cameras of the scene.
        frames: Number of frames.
        arc: Part of the circle, degrees, centred on the cameras; 360 closes it.

    Returns:
        (frames, 3, 4).

    Raises:
        ValueError: the cameras have no common focus, or look straight up or down on it.
    """
    target, up = focus_point(poses), normalize(poses[:, :3, 1].mean(0))
    offsets = poses[:, :3, 3] - target
    height = float((offsets @ up).mean())
    flat = offsets - np.outer(offsets @ up, up)
    ring = float(np.linalg.norm(flat, axis=1).mean())
    start = flat.mean(0)
    if np.linalg.norm(start) < 1e-6 * max(ring, 1e-12):
        start = flat[0]
    if np.linalg.norm(start) == 0:
        raise ValueError(
            "the cameras lie straight above or below the point that they look at, so no orbit goes through"
        )
    start = normalize(start)
    side = np.cross(up, start)
    closed = arc >= 360.0
    theta = np.radians(
        np.linspace(0.0 if closed else -arc / 2, arc if closed else arc / 2, frames, endpoint=not closed)
    )
    positions = target + height * up + ring * (np.outer(np.cos(theta), start) + np.outer(np.sin(theta), side))
    return np.stack([look_at(position, target, up) for position in positions])


def camera_path_dict(
    path: Poses, focal: Union[float, Sequence[float]], height: int, width: int, fps: float = 30.0, is_cycle: bool = True
) -> Dict[str, Any]:
    """Packs a path in the form that `ns-render camera-path` and the viewer read.

    Args:
        path: (F, 3, 4) OpenGL poses.
        focal: Focal length in pixels of an image of `height` rows, of all frames or of each.
        height: Rows of the video.
        width: Columns of the video.
        fps: Frames per second.
        is_cycle: Whether the last frame leads back to the first.

    Returns:
        A dictionary for `json.dump`.
    """
    focals = [focal] * len(path) if isinstance(focal, (int, float)) else focal
    return {
        "camera_type": "perspective",
        "render_height": int(height),
        "render_width": int(width),
        "fps": float(fps),
        "seconds": len(path) / float(fps),
        "smoothness_value": 0.0,
        "is_cycle": is_cycle,
        "keyframes": [],
        "crop": None,
        "camera_path": [
            {
                "camera_to_world": matrix.reshape(-1).tolist(),
                "fov": math.degrees(2.0 * math.atan(0.5 * height / own)),
                "aspect": width / height,
            }
            for matrix, own in zip(homogeneous(path), focals, strict=True)
        ],
    }


def through_views(poses: Poses, frames: int = 60) -> Poses:
    """Goes through all source views in their order and back to the first, as MatchNeRF's and ID-NeRF's videos do.

    There are equal numbers of frames between them. Positions and Euler angles change linearly, as in the originals;
    angles take the short way around.

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
    """MatchNeRF's and ID-NeRF's other video: a spiral around the average source view, looking at a depth between.

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
    focus = 1.0 / (0.25 / near + 0.75 / far)
    side = -1.0 if looks_away else 1.0
    target = average @ np.array([0.0, 0.0, side * focus, 1.0])
    radii = scale * np.percentile(np.abs(opencv[:, :, 3] - average[:, 3]), percentile, axis=0)
    positions = _spiral_positions(average, radii, frames, rotations, z_rate)
    path = [pose_from_axes(side * (target - position), down, position) for position in positions]
    return flip_camera_axes(np.stack(path))
