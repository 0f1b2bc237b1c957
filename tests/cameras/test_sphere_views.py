"""Cameras on spheres and between others."""

from __future__ import annotations

import numpy as np

from fewshot_ns.cameras.sphere_views import interpolated_poses, spherical_poses


def random_poses(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return spherical_poses(random.uniform(-3, 3, count), random.uniform(0, 1.5, count), random.uniform(3, 4, count))


def test_cameras_look_at_the_centre_from_above():
    centre = np.array([1.0, -2.0, 0.5])
    azimuth, elevation = np.array([0.3, -2.0, 1.0]), np.array([0.0, 0.7, np.pi / 2])
    poses = spherical_poses(azimuth, elevation, np.array([2.0, 3.0, 4.0]), centre)
    axes, offset = poses[..., :3], poses[..., 3] - centre
    np.testing.assert_allclose(np.linalg.norm(offset, axis=-1), [2.0, 3.0, 4.0])
    np.testing.assert_allclose(axes[..., 2], offset / np.array([[2.0], [3.0], [4.0]]), atol=1e-12)
    np.testing.assert_allclose(offset[:, 2], [0.0, 3 * np.sin(0.7), 4.0], atol=1e-12)
    np.testing.assert_allclose(np.swapaxes(axes, 1, 2) @ axes, np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(axes), 1.0)
    assert (axes[:2, 2, 1] > 0).all() and abs(axes[:, 2, 0]).max() < 1e-12, "upright"


def test_ends_of_the_interpolation():
    first, second, third = (random_poses(4, seed) for seed in range(3))
    for shares, expected in (((0, 0), first), ((1, 0), second), ((0.3, 1), third)):
        for shortest in (False, True):
            between = interpolated_poses(first, second, third, np.tile(shares, (4, 1)), shortest)
            np.testing.assert_allclose(between, expected, atol=1e-9)


def test_half_way_of_a_turn():
    """Cameras at one height and distance, a quarter of a turn apart: half way stands the camera between them."""
    two = spherical_poses(np.array([0.2, 0.2 + np.pi / 2]), np.zeros(2), np.full(2, 3.0))
    first, second = two[:1], two[1:]
    middle = interpolated_poses(first, second, first, np.array([[0.5, 0.0]]), shortest=True)
    expected = spherical_poses(np.array([0.2 + np.pi / 4]), np.zeros(1), np.full(1, 3.0))
    np.testing.assert_allclose(middle[..., :3], expected[..., :3], atol=1e-9)
    np.testing.assert_allclose(middle[..., 3], 0.5 * (first + second)[..., 3], atol=1e-9)
    same = interpolated_poses(first, first, first, np.array([[0.3, 0.6]]))
    np.testing.assert_allclose(same, first, atol=1e-9)
