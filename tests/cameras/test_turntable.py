"""The camera of one photo, as pixelNeRF states it, and the circle around the object."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fewshot_ns.cameras.turntable import ObjectCamera, camera_record, turntable


def test_the_camera_is_that_of_pixelnerf():
    camera = ObjectCamera()
    assert (camera.size, camera.radius, camera.focal, camera.near, camera.far) == (128, 1.3, 131.25, 0.8, 1.8)
    # Its code counts pixels from 0 and puts the principal point at 64; here the first pixel's centre is at 0.5.
    assert camera.intrinsics() == (131.25, 131.25, 64.5, 64.5)
    (pose,) = turntable(camera.radius, 0.0)
    np.testing.assert_allclose(pose, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1.3]], atol=1e-12)
    assert camera.reach == pytest.approx(0.5)


@pytest.mark.parametrize("elevation", [-30.0, 0.0, 20.0, 75.0])
def test_a_circle_looks_at_the_origin_and_stands_upright(elevation: float):
    poses = turntable(2.0, elevation, 8)
    for index, pose in enumerate(poses):
        azimuth, height = 2 * math.pi * index / 8, math.radians(elevation)
        position = [
            2 * math.cos(height) * math.sin(azimuth),
            2 * math.sin(height),
            2 * math.cos(height) * math.cos(azimuth),
        ]
        np.testing.assert_allclose(pose[:, 3], position, atol=1e-12)
        np.testing.assert_allclose(pose[:, :3].T @ pose[:, :3], np.eye(3), atol=1e-12)
        np.testing.assert_allclose(pose[:, 2], pose[:, 3] / 2.0, atol=1e-12)
        assert np.linalg.det(pose[:, :3]) == pytest.approx(1.0)
        assert pose[1, 1] > 0 and pose[1, 0] == pytest.approx(0.0, abs=1e-12)
    assert poses[1, :, 3] @ poses[0, :, 0] > 0, "the second camera stands to the right of the first"


def test_the_object_lies_in_the_middle_of_every_frame():
    camera = ObjectCamera(size=64, focal=60.0)
    cameras = camera.cameras(turntable(camera.radius, 15.0, 5))
    rays = cameras.generate_rays(camera_indices=torch.arange(5)[:, None], coords=torch.tensor([[32.5, 32.5]] * 5))
    past = rays.origins + rays.directions * camera.radius
    torch.testing.assert_close(past, torch.zeros_like(past), atol=1e-6, rtol=0)
    assert cameras.width.unique().tolist() == cameras.height.unique().tolist() == [64]


def test_what_a_run_keeps_is_a_camera():
    camera = ObjectCamera(size=32, focal=40.0, radius=2.0, near=1.25, far=2.75)
    record = camera_record(camera.cameras(turntable(2.0, 30.0, 7)), 1.25, 2.75)
    assert record == {"size": 32, "focal": 40.0, "radius": pytest.approx(2.0), "near": 1.25, "far": 2.75}
    assert type(record["size"]) is int


@pytest.mark.parametrize(
    "fields, flag",
    [
        ({"size": 63}, "--size"),
        ({"size": 8}, "--size"),
        ({"focal": 0.0}, "--focal"),
        ({"focal": math.nan}, "--focal"),
        ({"near": 2.0}, "--near and --far"),
        ({"far": math.inf}, "--near and --far"),
        ({"radius": 2.5}, "--radius"),
    ],
)
def test_impossible_cameras_are_refused(fields: dict, flag: str):
    with pytest.raises(ValueError, match=f"^{flag}: expected"):
        ObjectCamera(**fields)


def test_impossible_circles_are_refused():
    with pytest.raises(ValueError, match="between -90 and 90 degrees, got 90"):
        turntable(1.0, 90.0)
    with pytest.raises(ValueError, match="--frames: expected at least 1, got 0"):
        turntable(1.0, 0.0, 0)
