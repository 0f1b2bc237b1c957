"""What numbers a camera can have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.cameras.checks import (
    camera_faults,
    check_bounds,
    check_cameras,
    check_float32_places,
    check_mean_axes,
    check_places,
    check_range,
    check_steps,
    check_world,
    intrinsics_fault,
    lens_fault,
    size_fault,
)

RIGHT = (0.9, 1.2, 0.5, 0.5)
NAN, INF = float("nan"), float("inf")


def _poses(*places: tuple[float, float, float]) -> np.ndarray:
    poses = np.tile(np.eye(4)[:3], (len(places), 1, 1))
    poses[:, :, 3] = places
    return poses


@pytest.mark.parametrize("angle", [0.03, 1.0, 60.0, 178.0])
def test_opening_angles_of_cameras_pass(angle):
    focal = 0.5 / math.tan(math.radians(0.5 * angle))
    assert intrinsics_fault((focal, focal, 0.5, 0.5)) is None


@pytest.mark.parametrize("angle", [0.01, 179.5])
def test_other_angles_are_named(angle):
    focal = 0.5 / math.tan(math.radians(0.5 * angle))
    fault = intrinsics_fault((focal, 1.0, 0.5, 0.5))
    assert fault is not None and f"shows {angle:.3g}" in fault and "fx" in fault


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_named(place, value):
    numbers = list(RIGHT)
    numbers[place] = value
    fault = intrinsics_fault(numbers)
    assert fault is not None and ("fx", "fy", "cx", "cy")[place] in fault


def test_principal_points_may_lie_outside_of_a_crop():
    assert intrinsics_fault((0.9, 0.9, -3.0, 4.0)) is None
    fault = intrinsics_fault((0.9, 0.9, 0.5, 11.0))
    assert fault is not None and "cy at 11" in fault


@pytest.mark.parametrize("size", [(0.0, 5.0), (5.0, -1.0), (NAN, 5.0), (5.0, INF), (0.5, 5.0), (2e6, 5.0)])
def test_sizes(size):
    assert size_fault(*size) is not None
    assert size_fault(1.0, 20000.0) is None


@pytest.mark.parametrize("terms", [(-0.3, 0.1, 0, 0, 0, 0), (0.2, 0, 0, 0, 1e-3, -1e-3), (0, 0, 0, 0, 0, 0)])
def test_lenses_that_are_measured_pass(terms):
    assert lens_fault(RIGHT, terms) is None


@pytest.mark.parametrize(
    "terms, said",
    [
        ((NAN, 0, 0, 0, 0, 0), "finite distortion"),
        ((0, 0, 0, 0, 0, 1e300), "finite distortion"),
        ((0, -1e4, 0, 0, 0, 0), "can be undone"),
        ((-3.0, 0, 0, 0, 0, 0), "can be undone"),
    ],
)
def test_lenses_that_are_none(terms, said):
    fault = lens_fault(RIGHT, terms)
    assert fault is not None and said in fault


def test_faults_by_camera():
    intrinsics = np.array([RIGHT, (0.0, 1.0, 0.5, 0.5), RIGHT, RIGHT])
    distortion = np.zeros((4, 6))
    distortion[2, 0] = NAN
    sizes = np.array([[4, 5], [4, 5], [4, 5], [0, 5]], dtype=float)
    faults = camera_faults(intrinsics, distortion, sizes)
    assert sorted(faults) == [1, 2, 3] and "distortion" in faults[2] and "5x0" in faults[3]


def test_cameras_of_nerfstudio():
    poses = torch.eye(4)[:3].repeat(2, 1, 1)
    inner = {"fx": torch.tensor([[9.0], [0.0]]), "fy": torch.full((2, 1), 9.0), "cx": 5.0, "cy": 4.0}
    good = Cameras(poses, **{**inner, "fx": torch.full((2, 1), 9.0)}, width=10, height=8)
    check_cameras(good, ["a.png", "b.png"], "FILE")
    with pytest.raises(ValueError, match=r"FILE: photo b\.png: expected a positive focal length, found fx 0"):
        check_cameras(Cameras(poses, **inner, width=10, height=8), ["a.png", "b.png"], "FILE")


@pytest.mark.parametrize(
    "near, far",
    [(0.0, NAN), (NAN, 1.0), (1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, INF), (0.0, 1e-30), (1.0, 1 + 1e-9)],
)
def test_ranges_that_are_none(near, far):
    with pytest.raises(ValueError, match=r"FILE: expected .*near"):
        check_range(near, far, "FILE")


@pytest.mark.parametrize("near, far", [(0.0, 1.0), (2.0, 6.0), (0.999, 1.0), (1e-3, 1e5)])
def test_ranges(near, far):
    check_range(near, far, "FILE")


def test_places_far_from_the_origin():
    names = ["a.png", "b.png"]
    check_places(_poses((0, 0, 0), (1e5, 0, 0)), names, "FILE")
    with pytest.raises(ValueError, match=r"FILE: photo b\.png: .*1e\+07 from it \(a unit of the files is 3\)"):
        check_places(_poses((0, 0, 0), (1e7, 0, 0)), names, "FILE", scale=3.0)
    check_steps(_poses((5e5, 0, 0)), names, "FILE", interval=10.0)
    with pytest.raises(ValueError, match=r"photo a\.png: .*steps of 0\.031"):
        check_steps(_poses((5e5, 0, 0)), names, "FILE", interval=1.0)


def test_places_that_float32_can_not_tell_apart():
    names = ["a.png", "b.png", "c.png"]
    check_float32_places(_poses((1e8, 0, 0), (-1e8, 0, 0), (0, 1e8, 0)), names, "FILE")
    # A panorama has its cameras in one place.
    check_float32_places(_poses((3, 0, 0), (3, 0, 0), (3, 1e-9, 0)), names, "FILE")
    with pytest.raises(ValueError, match="subtract a common offset"):
        check_float32_places(_poses((5e6, 0, 0), (5e6 + 2, 0, 0), (5e6 + 1, 0, 0)), names, "FILE")
    with pytest.raises(ValueError, match=r"photo c\.png"):
        check_float32_places(_poses((0, 0, 0), (2, 0, 0), (1e12, 0, 0)), names, "FILE")


@pytest.mark.parametrize("row", [(0.0, 1.0), (2.0, 1.0), (NAN, 1.0), (1.0, INF), (-2.0, 1.0)])
def test_bounds(row):
    check_bounds(np.array([[1.0, 2.0], [1.0, 1.0]]), ["a", "b"], "FILE")
    with pytest.raises(ValueError, match="FILE: photo b: .* in row 1"):
        check_bounds(np.array([(1.0, 2.0), row]), ["a", "b"], "FILE")


@pytest.mark.parametrize("scale", [0.0, -1.0, NAN, INF, 1e-300, 1e300])
def test_worlds(scale):
    check_world(np.eye(4)[:3], 3.0, "FILE")
    with pytest.raises(ValueError, match="FILE: expected a finite transform and a positive scale"):
        check_world(np.eye(4)[:3], scale, "FILE")
    with pytest.raises(ValueError, match="FILE: expected a finite transform"):
        check_world(np.full((3, 4), NAN), 1.0, "FILE")


def test_axes_that_cancel():
    poses = _poses((0, 0, 0), (1, 0, 0))
    check_mean_axes(poses, (1, 2), "FILE", "turn them")
    poses[1, :, 1:3] *= -1.0
    with pytest.raises(ValueError, match="FILE: .*up .*; turn them"):
        check_mean_axes(poses, (1, 2), "FILE", "turn them")
    with pytest.raises(ValueError, match="viewing axes"):
        check_mean_axes(poses, (2,), "FILE", "turn them")
