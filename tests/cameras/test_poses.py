"""Pose geometry against its definitions."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_ns.cameras.poses import (
    average_pose,
    check_finite_poses,
    check_rotations,
    flip_camera_axes,
    focus_depth,
    focus_point,
    homogeneous,
    look_at,
    pose_from_axes,
    position_extent,
    recenter,
)

RNG = np.random.default_rng(0)


def rig(count: int = 7, target=(0.2, -0.1, -3.0)) -> np.ndarray:
    positions = RNG.uniform(-1, 1, (count, 3))
    return np.stack([look_at(position, np.array(target), np.array([0.0, 1.0, 0.0])) for position in positions])


def is_rotation(matrix: np.ndarray) -> bool:
    return np.allclose(matrix.T @ matrix, np.eye(3)) and np.isclose(np.linalg.det(matrix), 1.0)


def test_look_at_puts_the_target_on_the_optical_axis():
    position, target = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 0.0])
    pose = look_at(position, target, np.array([0.0, 0.0, 1.0]))
    assert is_rotation(pose[:, :3])
    local = pose[:, :3].T @ (target - position)
    np.testing.assert_allclose(local[:2], 0, atol=1e-12)
    assert local[2] == pytest.approx(-np.linalg.norm(target - position))
    # "up" is upwards in the image and has no sideways part.
    up = pose[:, :3].T @ np.array([0.0, 0.0, 1.0])
    assert up[1] > 0 and up[0] == pytest.approx(0, abs=1e-12)


def test_average_of_equal_poses_is_that_pose():
    pose = rig(1)[0]
    np.testing.assert_allclose(average_pose(np.stack([pose] * 3)), pose, atol=1e-12)
    assert is_rotation(average_pose(rig())[:, :3])


def test_recentring_is_rigid_and_centres():
    poses = rig()
    moved, transform = recenter(poses)
    np.testing.assert_allclose(moved[:, :, 3].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(average_pose(moved), np.eye(4)[:3], atol=1e-12)
    assert is_rotation(transform[:, :3])
    before = np.linalg.norm(poses[:, None, :, 3] - poses[None, :, :, 3], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(moved[:, None, :, 3] - moved[None, :, :, 3], axis=-1), before, atol=1e-12)
    np.testing.assert_allclose(transform @ np.append(poses[2, :, 3], 1.0), moved[2, :, 3], atol=1e-12)


def test_focus_point_minimises_the_distance_to_the_axes():
    target = np.array([0.2, -0.1, -3.0])
    np.testing.assert_allclose(focus_point(rig(target=target)), target, atol=1e-9)
    poses = rig()
    poses[:, :, 3] += 0.1 * RNG.normal(size=(len(poses), 3))
    focus = focus_point(poses)

    def cost(point):
        offsets = point - poses[:, :, 3]
        along = (offsets * poses[:, :, 2]).sum(-1, keepdims=True) * poses[:, :, 2]
        return ((offsets - along) ** 2).sum()

    for step in np.concatenate([np.eye(3), -np.eye(3)]) * 1e-3:
        assert cost(focus + step) > cost(focus)
    np.testing.assert_allclose(focus_point(flip_camera_axes(poses)), focus, atol=1e-12)


def test_parallel_axes_have_no_focus():
    poses = np.stack([np.eye(4)[:3]] * 3)
    poses[:, 0, 3] = [0, 1, 2]
    with pytest.raises(ValueError, match="parallel"):
        focus_point(poses)


def test_flip_is_its_own_inverse_and_keeps_rotations():
    poses = rig()
    flipped = flip_camera_axes(poses)
    assert is_rotation(flipped[0, :, :3])
    np.testing.assert_array_equal(flip_camera_axes(flipped), poses)
    np.testing.assert_array_equal(flipped[:, :, 3], poses[:, :, 3])


def test_small_helpers():
    assert homogeneous(rig()).shape == (7, 4, 4) and (homogeneous(rig())[:, 3] == [0, 0, 0, 1]).all()
    assert is_rotation(pose_from_axes(np.array([0, 0, 2.0]), np.array([0.1, 3.0, 1.0]), np.zeros(3))[:, :3])
    # Three quarters of the far end (5 x 8) and a quarter of the near end (0.9 x 2), in disparity.
    assert focus_depth(np.array([[2.0, 6.0], [3.0, 8.0]])) == pytest.approx(1 / (0.25 / 1.8 + 0.75 / 40))
    poses = np.zeros((3, 3, 4))
    poses[:, 0, 3] = [-4, 1, 2]
    np.testing.assert_array_equal(position_extent(poses, 100), [4, 0, 0])


def test_non_finite_poses_are_named():
    poses = rig()
    check_finite_poses(poses, "file")
    poses[[2, 5], 0, 0] = [np.nan, np.inf]
    with pytest.raises(ValueError, match=r"file: .* views \[2, 5\]"):
        check_finite_poses(poses, "file")


def test_poses_that_are_no_rotations_are_named():
    poses = rig()
    names = [f"{index}.png" for index in range(len(poses))]
    check_rotations(np.round(poses, 3), names, "folder")
    mirrored = poses * np.array([-1.0, 1.0, 1.0, 1.0])
    check_rotations(mirrored, names, "folder", mirrored=True)
    scaled, flat = poses.copy(), poses.copy()
    scaled[1, :, :3] *= 1.5
    flat[[0, 2]] = 0.0
    for wrong, found in (
        (scaled, r"1.png: axes of length 1\.5, .*divide the first three columns of each pose by it$"),
        (flat, "0.png, 2.png$"),
        (mirrored, "0.png, 1.png, 2.png and 4 more$"),
    ):
        with pytest.raises(ValueError, match=f"folder: expected a rotation in the 3x3 part .* none for {found}"):
            check_rotations(wrong, names, "folder")
    with pytest.raises(ValueError, match="none for 0.png, 2.png"):
        check_rotations(flat, names, "folder", mirrored=True)
