"""Camera paths, and the file for nerfstudio's renderer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nerfstudio.cameras.camera_paths import get_path_from_json

from fewshot_ns.cameras.paths import camera_path_dict, dtu_spiral, llff_spiral, orbit, spheric
from fewshot_ns.cameras.poses import focus_point, look_at, position_extent, recenter

UP = np.array([0.0, 1.0, 0.0])
BOUNDS = np.array([[2.0, 9.0]] * 9)


def rig() -> np.ndarray:
    angles = np.linspace(-0.6, 0.6, 9)
    positions = np.stack([4 * np.sin(angles), 0.3 * np.cos(5 * angles), 4 * np.cos(angles)], axis=1)
    return recenter(np.stack([look_at(position, np.zeros(3), UP) for position in positions]))[0]


def ring(count: int = 12) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    positions = np.stack([3 * np.cos(angles), np.full(count, 1.5), 3 * np.sin(angles)], axis=1)
    return np.stack([look_at(position, np.zeros(3), UP) for position in positions])


PATHS = {
    "llff": lambda frames: llff_spiral(rig(), BOUNDS, frames),
    "dtu": lambda frames: dtu_spiral(rig(), frames),
    "spheric": lambda frames: spheric(frames=frames),
    "orbit": lambda frames: orbit(ring(), frames),
}


@pytest.mark.parametrize("kind", PATHS)
def test_paths_are_smooth_closed_and_upright(kind):
    path = PATHS[kind](120)
    assert path.shape == (120, 3, 4) and np.isfinite(path).all()
    np.testing.assert_allclose(path[:, :, :3].transpose(0, 2, 1) @ path[:, :, :3], [np.eye(3)] * 120, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(path[:, :, :3]), 1.0)
    steps = np.linalg.norm(np.diff(path[:, :, 3], axis=0, append=path[:1, :, 3]), axis=1)
    assert steps.max() < 4 * np.median(steps)


@pytest.mark.parametrize("spiral", [lambda: llff_spiral(rig(), BOUNDS, 64), lambda: dtu_spiral(rig(), 64)])
def test_spirals_stay_among_the_cameras(spiral):
    assert (np.abs(spiral()[:, :, 3]) <= position_extent(rig(), 100) + 1e-9).all()


def test_dtu_spiral_looks_at_the_focus():
    focus = focus_point(rig())
    for pose in dtu_spiral(rig(), 10):
        local = pose[:, :3].T @ (focus - pose[:, 3])
        np.testing.assert_allclose(local[:2], 0, atol=1e-9)
        assert local[2] < 0


def test_spheric_keeps_its_radius_and_height():
    path = spheric(radius=4.0, elevation=30.0, frames=40)
    offsets = path[:, :, 3]
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 4.0)
    np.testing.assert_allclose(offsets[:, 2], 2.0)
    np.testing.assert_allclose(path[:, :, 2], offsets / 4.0, atol=1e-12)
    with pytest.raises(ValueError, match="between -90 and 90"):
        spheric(elevation=90.0)


def test_orbit_goes_through_the_ring_of_cameras():
    path = orbit(ring(), 24)
    np.testing.assert_allclose(np.linalg.norm(path[:, [0, 2], 3], axis=1), 3.0, rtol=1e-6)
    np.testing.assert_allclose(path[:, 1, 3], 1.5, rtol=1e-6)
    assert len(np.unique(np.round(path[:, 0, 3], 6))) > 10


def test_orbit_of_one_side_is_centred_on_the_cameras():
    poses = rig()
    path = orbit(poses, 21, arc=60.0)
    distance = np.linalg.norm(path[10, :, 3] - poses[:, :, 3].mean(0))
    assert distance < 0.5 and distance < np.linalg.norm(path[0, :, 3] - path[-1, :, 3]) / 2


def test_cameras_above_their_target_have_no_orbit():
    above = np.stack([look_at(np.array([0, 2.0, 0]), np.zeros(3), np.array([0, 0, 1.0]))] * 2)
    with pytest.raises(ValueError, match="parallel"):
        orbit(above)


def test_nerfstudio_reads_the_file():
    path = llff_spiral(rig(), BOUNDS, 12)
    written = json.loads(json.dumps(camera_path_dict(path, focal=80.0, height=48, width=64, fps=24)))
    assert written["seconds"] == pytest.approx(0.5) and written["is_cycle"] is True
    cameras = get_path_from_json(written)
    assert cameras.shape == (12,)
    np.testing.assert_allclose(cameras.camera_to_worlds.numpy(), path, atol=1e-6)
    np.testing.assert_allclose(cameras.fx.numpy(), 80.0, rtol=1e-5)
    assert cameras.image_width[0].item() == 64 and cameras.image_height[0].item() == 48
