"""Camera paths that are made from source views."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_ns.cameras.paths import depth_spiral, through_views
from fewshot_ns.cameras.poses import average_pose, flip_camera_axes, look_at

UP = np.array([0.0, 1.0, 0.0])
POSITIONS = np.array([[0.0, 0.0, 0.0], [0.4, 0.1, 0.0], [0.2, -0.3, 0.1], [-0.3, 0.2, 0.0]])


@pytest.fixture
def poses() -> np.ndarray:
    return np.stack([look_at(position, np.array([0.0, 0.0, -3.0]), UP) for position in POSITIONS])


def is_rotation(matrices: np.ndarray) -> bool:
    unit = np.allclose(np.swapaxes(matrices, 1, 2) @ matrices, np.eye(3))
    return bool(unit and np.allclose(np.linalg.det(matrices), 1.0))


@pytest.mark.parametrize("frames", [12, 14])
def test_path_goes_through_the_views_and_back(poses: np.ndarray, frames: int):
    path = through_views(poses, frames)
    assert path.shape == (frames, 3, 4) and is_rotation(path[:, :, :3])
    np.testing.assert_allclose(path[:12:3], poses, atol=1e-12)
    np.testing.assert_allclose(path[1, :, 3], poses[0, :, 3] + (poses[1, :, 3] - poses[0, :, 3]) / 3)
    last = path[9:, :, 3]
    expected = poses[3, :, 3] + np.arange(len(last))[:, None] / len(last) * (poses[0, :, 3] - poses[3, :, 3])
    np.testing.assert_allclose(last, expected)


def test_path_turns_the_short_way():
    """From 170 to -170 degrees about the viewing axis: by 20 degrees, not by 340."""
    poses = []
    for degrees in (170.0, -170.0):
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        opencv = np.array([[cosine, -sine, 0.0, 0.0], [sine, cosine, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
        poses.append(flip_camera_axes(opencv))
    path = flip_camera_axes(through_views(np.stack(poses), 4))
    np.testing.assert_allclose(path[1, :2, :2], -np.eye(2), atol=1e-12)


def test_path_needs_views_and_frames(poses: np.ndarray):
    with pytest.raises(ValueError, match="1 views"):
        through_views(poses[:1], 5)
    with pytest.raises(ValueError, match="4 views and 3 frames"):
        through_views(poses, 3)


def test_spiral_looks_at_a_depth_between_near_and_far(poses: np.ndarray):
    near, far = 2.0, 6.0
    path = depth_spiral(poses, near, far, 40, scale=0.5)
    assert is_rotation(path[:, :, :3])
    average = average_pose(poses)
    depth = 1.0 / (0.25 / near + 0.75 / far)
    target = average[:, 3] - depth * average[:, 2]
    towards = target - path[:, :, 3]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    np.testing.assert_allclose(-path[:, :, 2], towards, atol=1e-9)
    radii = 0.5 * np.percentile(np.abs(POSITIONS - POSITIONS.mean(0)), 70, axis=0)
    offsets = (path[:, :, 3] - average[:, 3]) @ average[:, :3]
    np.testing.assert_allclose(np.abs(offsets).max(0)[:2], radii[:2], rtol=0.05)


def test_released_spiral_turns_away_from_a_point_behind(poses: np.ndarray):
    near, far = 2.0, 6.0
    path = depth_spiral(poses, near, far, 10, looks_away=True)
    average = average_pose(poses)
    behind = average[:, 3] + average[:, 2] / (0.25 / near + 0.75 / far)
    away = path[:, :, 3] - behind
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    np.testing.assert_allclose(-path[:, :, 2], away, atol=1e-9)


def test_depths_have_to_be_in_order(poses: np.ndarray):
    with pytest.raises(ValueError, match="0 < near < far"):
        depth_spiral(poses, 3.0, 2.0)
