"""Random cameras: where they stand, where they look, and that they can be repeated."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_ns.cameras.poses import average_pose, focus_depth, focus_point, look_at, position_extent, recenter
from fewshot_ns.cameras.unseen_views import dtu_unseen_poses, llff_unseen_poses

UP = np.array([0.0, 1.0, 0.0])
BOUNDS = np.array([[2.0, 9.0]] * 8)


def rig() -> np.ndarray:
    positions = np.random.default_rng(3).uniform(-1, 1, (8, 3)) * [1.0, 0.5, 0.2]
    return recenter(np.stack([look_at(position, np.array([0.0, 0.0, -4.0]), UP) for position in positions]))[0]


def sampled(name: str, count: int) -> np.ndarray:
    random = np.random.default_rng(5)
    uniform, normal = random.random((count, 3)), random.standard_normal((count, 3))
    return llff_unseen_poses(rig(), BOUNDS, uniform) if name == "llff" else dtu_unseen_poses(rig(), uniform, normal)


@pytest.mark.parametrize("name", ["llff", "dtu"])
def test_poses_stand_in_the_box(name):
    unseen = sampled(name, 200)
    assert unseen.shape == (200, 3, 4)
    np.testing.assert_allclose(unseen[:, :, :3].transpose(0, 2, 1) @ unseen[:, :, :3], [np.eye(3)] * 200, atol=1e-12)
    extent = position_extent(rig(), 100)
    assert (np.abs(unseen[:, :, 3]) <= extent + 1e-12).all()
    # The whole box is used, not a corner of it.
    assert (unseen[:, :, 3].max(0) > 0.9 * extent).all() and (unseen[:, :, 3].min(0) < -0.9 * extent).all()
    assert len(np.unique(unseen[:, 0, 3])) == 200


def test_llff_cameras_look_at_the_plane_in_focus():
    poses = rig()
    target = average_pose(poses) @ np.array([0, 0, -focus_depth(BOUNDS), 1.0])
    for pose in llff_unseen_poses(poses, BOUNDS, np.random.default_rng(0).random((5, 3))):
        local = pose[:, :3].T @ (target - pose[:, 3])
        np.testing.assert_allclose(local[:2], 0, atol=1e-9)
        assert local[2] < 0


def test_dtu_cameras_look_near_the_focus():
    poses, zeros, random = rig(), np.zeros((4, 3)), np.random.default_rng(0)
    for pose in dtu_unseen_poses(poses, random.random((4, 3)), zeros):
        local = pose[:, :3].T @ (focus_point(poses) - pose[:, 3])
        np.testing.assert_allclose(local[:2], 0, atol=1e-9)
        assert local[2] < 0 and pose[1, 1] > 0
    middle = np.full((4, 3), 0.5)
    still = dtu_unseen_poses(poses, middle, random.standard_normal((4, 3)))
    np.testing.assert_allclose(still[:, :, 3], 0, atol=1e-12)
    assert np.ptp(still[:, 0, 2]) > 0
    steady = dtu_unseen_poses(poses, middle, zeros)
    np.testing.assert_allclose(steady, np.broadcast_to(steady[:1], steady.shape), atol=1e-12)
