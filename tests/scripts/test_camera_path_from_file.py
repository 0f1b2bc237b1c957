"""`ns-fewshot camera-path --from`: the cameras of a transforms.json, in the world of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from nerfstudio.cameras.camera_paths import get_path_from_json

from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.scripts.camera_path import CameraPathCommand
from fewshot_ns.scripts.cli import main
from fewshot_ns.scripts.runs import load_run_config, scene_of_run
from fewshot_ns.scripts.transforms_path import path_of_transforms

APPLIED = [[0.0, 0.0, 1.0, 0.5], [1.0, 0.0, 0.0, -0.25], [0.0, 1.0, 0.0, 2.0]]


def config_of(scene: Path, folder: Path) -> Path:
    """config.yml of a run on a scene, as ns-train writes it before it trains."""
    from copy import deepcopy

    from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

    config: Any = deepcopy(sparsenerf_lite)
    config.output_dir, config.experiment_name, config.timestamp = folder, "scene", "now"
    config.pipeline.datamanager.dataparser = FewShotNerfstudioDataParserConfig(data=scene)
    config.save_config()
    return config.get_base_dir() / "config.yml"


@pytest.fixture
def scene(make_nerfstudio_scene, tmp_path: Path) -> Path:
    return make_nerfstudio_scene(tmp_path / "scene")


@pytest.fixture
def run(scene: Path, tmp_path: Path) -> Path:
    return config_of(scene, tmp_path / "runs")


def write(folder: Path, content: Dict[str, Any]) -> Path:
    path = folder / "path.json"
    path.write_text(json.dumps(content), encoding="utf8")
    return path


def own_file(scene: Path) -> Dict[str, Any]:
    return json.loads((scene / "transforms.json").read_text())


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_the_scenes_own_file_gives_the_cameras_of_the_run(scene: Path, tmp_path: Path, applied: bool, recorded: bool):
    """Poses are turned and scaled by the run; a file has its applied_transform and scale in its poses."""
    if applied:
        content = own_file(scene)
        content = {**content, "applied_transform": APPLIED, "applied_scale": 0.5}
        (scene / "transforms.json").write_text(json.dumps(content), encoding="utf8")
    run = config_of(scene, tmp_path / "runs")
    outputs, record = scene_of_run(load_run_config(run))
    assert outputs.dataparser_scale != 1.0
    if recorded:
        outputs.save_dataparser_transform(run.parent / "dataparser_transforms.json")
    CameraPathCommand(load_config=run, from_=scene / "transforms.json", output=tmp_path / "out.json", fps=6.0).main()
    path = json.loads((tmp_path / "out.json").read_text())
    read = get_path_from_json(path)
    torch.testing.assert_close(read.camera_to_worlds.float(), record.scene_camera_to_worlds, rtol=1e-5, atol=2e-6)
    assert (path["render_width"], path["render_height"], path["seconds"]) == (32, 24, 2.0)
    torch.testing.assert_close(read.fy[:, 0].float(), outputs.cameras.fy[:1, 0].expand(12))


def test_what_is_recorded_counts_before_the_scene(scene: Path, run: Path):
    record = {"transform": np.eye(4)[:3].tolist(), "scale": 3.0}
    (run.parent / "dataparser_transforms.json").write_text(json.dumps(record))
    path, _ = path_of_transforms(scene / "transforms.json", run, 30.0)
    found = np.array([frame["camera_to_world"] for frame in path["camera_path"]]).reshape(-1, 4, 4)
    stated = np.array([frame["transform_matrix"] for frame in own_file(scene)["frames"]])
    stated[:, :3, 3] *= 3.0
    np.testing.assert_allclose(found, stated, atol=1e-12)
    (run.parent / "dataparser_transforms.json").write_text("{}")
    with pytest.raises(ValueError, match="dataparser_transforms.json: expected a 'transform' and a 'scale'"):
        path_of_transforms(scene / "transforms.json", run, 30.0)


@pytest.mark.parametrize(
    ("shared", "of_frame", "focal_share"),
    [
        # Focal lengths in heights of the image.
        ({"w": 64, "h": 48, "fl_x": 40.0, "fl_y": 36.0}, {}, 36 / 48),
        ({"w": 64, "h": 48, "fl_x": 40.0}, {}, 40 / 48),
        ({"w": 64, "h": 48, "fl_x": 40.0}, {"fl_x": 80.0}, 80 / 48),
        ({"w": 64, "h": 48, "x_fov": math.degrees(1.2)}, {}, 32 / math.tan(0.6) / 48),
        ({"w": 64, "h": 48, "fl_y": 36.0}, {"camera_angle_x": 1.2}, 32 / math.tan(0.6) / 48),
        ({"w": 64, "h": 48, "camera_angle_x": 1.2}, {}, 32 / math.tan(0.6) / 48),
        ({"w": 64, "h": 48, "camera_angle_y": 1.2}, {}, 24 / math.tan(0.6) / 48),
        # Blender's file has no size: that of the run's photos, 32x24.
        ({"camera_angle_x": 1.2}, {}, 16 / math.tan(0.6) / 24),
    ],
)
def test_fields_of_view(run: Path, scene: Path, tmp_path: Path, shared, of_frame, focal_share: float):
    pose = own_file(scene)["frames"][3]["transform_matrix"][:3]  # 3x4, and without a photo
    file = write(tmp_path, {**shared, "frames": [{"transform_matrix": pose, **of_frame}]})
    path, losses = path_of_transforms(file, run, 30.0, height=100)
    assert path["camera_path"][0]["fov"] == pytest.approx(math.degrees(2 * math.atan(0.5 / focal_share)))
    assert (path["render_width"], path["render_height"]) == (133, 100)
    read = get_path_from_json(path)
    assert float(read.fy) == pytest.approx(focal_share * 100, rel=1e-5)
    assert bool(losses) == ({"fl_x", "fl_y"} <= shared.keys())


def test_what_a_path_cannot_hold_is_said(run: Path, scene: Path, tmp_path: Path):
    content = {**own_file(scene), "cx": 20.0, "k1": 0.1}
    _, losses = path_of_transforms(write(tmp_path, content), run, 30.0)
    assert len(losses) == 2 and "4.0 pixels off the centre" in losses[0] and "distortion is left out" in losses[1]
    _, losses = path_of_transforms(scene / "transforms.json", run, 30.0)
    assert losses == []


@pytest.mark.parametrize(
    ("of_file", "of_frame", "is_said"),
    [
        ({"distortion_params": [0.1, 0.0, 0.0, 0.0, 0.0, 0.0]}, {}, True),
        ({"distortion_params": [0.0] * 6}, {}, False),
        ({"camera_model": "FULL_OPENCV", "k5": 0.1}, {}, True),
        ({"distortion": [0.1, 0.0, 0.0, 0.0]}, {}, True),
        ({}, {"p1": 0.01}, True),
        ({"k1": 0.1}, {"k1": 0.0}, True),  # one frame of twelve is straight
    ],
)
def test_distortion_in_any_spelling_is_said(run: Path, scene: Path, tmp_path: Path, of_file, of_frame, is_said: bool):
    content = {**own_file(scene), **of_file}
    content["frames"][3] |= of_frame
    _, losses = path_of_transforms(write(tmp_path, content), run, 30.0)
    assert bool(losses) == is_said
    assert all("distortion is left out" in words for words in losses)


def test_one_frame_may_be_of_another_lens(run: Path, scene: Path, tmp_path: Path):
    content = own_file(scene)
    content["frames"][4]["camera_model"] = "OPENCV_FISHEYE"
    with pytest.raises(ValueError, match="path.json, frame 4: expected a perspective camera model, found fisheye"):
        path_of_transforms(write(tmp_path, content), run, 30.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"camera_model": "OPENCV_FISHEYE"},
            r"path.json: expected a perspective camera model, found fisheye \(camera",
        ),
        ({"is_fisheye": True}, r"found fisheye \('is_fisheye'\)$"),
        ({"latlong": True}, r"path.json: expected a perspective camera model, found equirectangular \('latlong'\)$"),
        ({"camera_model": "EQUIRECTANGULAR"}, r"found equirectangular \(.*FULL_OPENCV\)$"),
        ({"lens_model": "orthographic"}, "found orthographic"),
        ({"rolling_shutter": [0.0, 0.0, 0.01, 0.0]}, "path.json: .*found a rolling shutter"),
        ({"ftheta_p0": 1.0}, "found f-theta"),
        ({"fl_y": -3.0}, "path.json, frame 0: expected a positive number for 'fl_y', found -3"),
        ({"camera_angle_y": 4.0}, "expected 'camera_angle_y' between 0 and pi"),
        ({"fl_x": None, "fl_y": None}, "expected fl_x, fl_y, camera_angle_x or camera_angle_y"),
        ({"applied_transform": [[1, 0], [0, 1]]}, "expected an invertible 3x4 applied_transform"),
        ({"K": [[9.0, 0, 3], [0, 9, 3], [0, 0, 1]]}, "path.json, frame 0: expected intrinsics as .* others in 'K'"),
        ({"frames": []}, "non-empty list 'frames'"),
    ],
)
def test_files_that_give_no_path(run: Path, scene: Path, tmp_path: Path, changes, message: str):
    with pytest.raises(ValueError, match=message):
        path_of_transforms(write(tmp_path, {**own_file(scene), **changes}), run, 30.0)


def test_frames_of_other_shapes_and_poses_that_scale(run: Path, scene: Path, tmp_path: Path):
    content = own_file(scene)
    content["frames"][2] |= {"w": 24, "h": 32}
    with pytest.raises(ValueError, match="expected cameras of one shape.*24x32 pixels of images/frame_00002"):
        path_of_transforms(write(tmp_path, content), run, 30.0)
    content = own_file(scene)
    content["frames"][1]["transform_matrix"] = (1.7 * np.array(content["frames"][1]["transform_matrix"])).tolist()
    with pytest.raises(ValueError, match="expected a rotation"):
        path_of_transforms(write(tmp_path, content), run, 30.0)


def test_the_flag_is_called_from(run: Path, scene: Path, tmp_path: Path, capsys):
    words = ["camera-path", "--load-config", str(run), "--from", str(scene / "transforms.json")]
    assert main([*words, "--output", str(tmp_path / "out.json"), "--width", "64"]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["render_width"] == 64
    assert main([*words, "--kind", "orbit"]) == 1
    assert "leave out all flags of paths but --fps" in " ".join(capsys.readouterr().err.split())
