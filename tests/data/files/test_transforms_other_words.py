"""Cameras that a transforms file describes in words that are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from fewshot_ns.data.files.transforms_camera import StatedCamera, check_lens
from fewshot_ns.data.files.transforms_other_words import other_lens

REFUSED: Dict[str, Dict[str, Any]] = {
    "model": {"model": "OPENCV_FISHEYE"},
    "cameraModel": {"cameraModel": "fisheye"},
    "lens": {"lens": "Canon 8-15mm Fisheye"},
    "type": {"type": "fisheye"},
    "projection_type": {"projection_type": "equirectangular"},
    "isFisheye": {"isFisheye": True},
    "fisheye_params": {"fisheye_params": [0.1, 0, 0, 0]},
    "K1": {"K1": -0.3},
    "radial_k1": {"radial_k1": -0.3},
    "b1": {"b1": 2.0},
    "readout_time": {"readout_time": 0.03},
    "is_rolling_shutter": {"is_rolling_shutter": True},
    "line_delay": {"line_delay": 1e-5},
    "distortion_coeffs": {"distortion_coeffs": [-0.1, 0.01, 0, 0]},
    "D": {"D": [0.1, 0.1, 0, 0, 0]},
    "lens_distortion": {"lens_distortion": {"k1": 0.1}},
    "panoramic": {"panoramic": "yes"},
    "ortho_scale": {"ortho_scale": 3.0},
    "camera_skew": {"camera_skew": 0.5},
    "shift_x": {"shift_x": 0.02},
    "camera.model": {"camera": {"model": "fisheye"}},
    "intrinsics.k1": {"intrinsics": {"k1": 0.3}},
    "cameras[1].camera_model": {"cameras": [{"w": 1}, {"camera_model": "KANNALA_BRANDT4"}]},
}
TAKEN: Dict[str, Dict[str, Any]] = {
    "no": {"is_fisheye": "false", "panoramic": 0, "distortion": {"k1": 0.0}},
    "exposure": {"shutter_speed": 0.01, "shutter_count": 4000, "shutter_type": "GLOBAL"},
    "lens": {"lens": "EF 24-70mm", "cameraModel": "iPhone 14", "lens_model": None},
    "undistorted": {"undistorted": True, "is_distorted": False},
    "paths": {"fisheye_mask_path": "masks/fisheye.png", "skewed_name": "fisheye"},
    "read": {"k1": -0.05, "p2": 0.1, "distortion_params": [0.1, 0, 0, 0, 0, 0], "camera_model": "opencv"},
    "the same again": {"k1": -0.05, "camera": {"k1": -0.05, "model": "OPENCV"}},
    "metadata": {"exif": {"k1": 3.0}},
}


@pytest.mark.parametrize("of_frame", [False, True])
@pytest.mark.parametrize("key", REFUSED)
def test_other_cameras_are_refused_by_the_key(key: str, of_frame: bool) -> None:
    meta: Dict[str, Any] = {"frames": [{}, {}]}
    (meta["frames"][1] if of_frame else meta).update(REFUSED[key])
    with pytest.raises(ValueError) as error:
        check_lens(meta, Path("t.json"))
    assert f"'{key}'" in str(error.value)
    assert str(error.value).startswith("t.json, frame 1: expected" if of_frame else "t.json: expected")


@pytest.mark.parametrize("name", TAKEN)
def test_what_says_nothing_of_the_camera_is_taken(name: str) -> None:
    check_lens({"frames": [TAKEN[name]], **TAKEN[name]}, Path("t.json"))


def test_cameras_of_a_path_may_bend() -> None:
    assert other_lens({"K1": -0.3, "distortion_coeffs": [0.1]}, of_photos=False) is None
    assert other_lens({"model": "fisheye"}, of_photos=False) is not None


SIZE = (64, 48)
STATED = {"fl_x": 60.0, "fl_y": 61.2, "cx": 33.28, "cy": 23.52, "w": 64, "h": 48}
MATRIX = [[60.0, 0.0, 33.28], [0.0, 61.2, 23.52], [0.0, 0.0, 1.0]]


def _fractions(stated: Dict[str, Any], frame: Optional[Dict[str, Any]] = None) -> None:
    StatedCamera.of_frame({**stated, "frames": [frame or {}]}, 0, Path("t.json")).fractions(SIZE)


ALIKE: Dict[str, Dict[str, Any]] = {
    "matrix": {"K": MATRIX},
    "flat": {"camera_matrix": [number for row in MATRIX for number in row]},
    "of other size": {"intrinsics": [[120.0, 0, 66.56], [0, 122.4, 47.04], [0, 0, 1]]},
    "four": {"intrinsics": [60.0, 61.2, 33.28, 23.52]},
    "object": {"camera": {"fx": 60.0, "fy": 61.2, "cx": 33.28, "cy": 23.52}},
    "fractions": {"K": [[60 / 64, 0, 33.28 / 64], [0, 61.2 / 48, 23.52 / 48], [0, 0, 1]]},
    "principal point": {"principal_point": [33.28, 23.52]},
    "something else": {"K": 3, "intrinsics": "in the header", "camera": {"fx": "60"}},
}


@pytest.mark.parametrize("form", ALIKE)
def test_intrinsics_in_other_words(form: str) -> None:
    _fractions(STATED, ALIKE[form])
    if form == "something else":
        return
    # Beside an angle alone, as of NeRF's synthetic scenes, they say more than is read.
    with pytest.raises(ValueError, match="t.json, frame 0: expected intrinsics as fl_x, fl_y, cx, cy"):
        _fractions({"camera_angle_x": 0.98}, ALIKE[form])
    with pytest.raises(ValueError, match="which is not read"):
        _fractions({**STATED, "fl_x": 60.0, "cx": 30.0}, ALIKE[form])


def test_a_principal_point_in_fractions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in pixels of 64x48, found 0\.52, 0\.49, as of fractions"):
        _fractions({**STATED, "cx": 0.52, "cy": 0.49})
    _fractions({**STATED, "cx": 0.52})
