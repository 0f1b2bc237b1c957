"""`ns-fewshot render-depth`: what other programs read is planar depth in the unit that is stated."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.depth.encoding import read_note
from fewshot_ns.data.depth.metric import read_metric_depth
from fewshot_ns.data.files.depth_formats import read_depth_file
from fewshot_ns.data.files.exr import read_exr_channels
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.presentation.depth_files import (
    FileWorld,
    PlanarDepth,
    advice,
    camera_about,
    map_names,
    planar_depth,
    to_millimetres,
    write_depths,
)
from fewshot_ns.scripts.camera_path import CameraPathCommand
from fewshot_ns.scripts.render_depth import RenderDepthCommand

STILL = FileWorld(np.eye(4)[:3], 1.0)


def rotated_world(scale: float = 0.25) -> FileWorld:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    return FileWorld(np.concatenate([turn, [[0.3], [-2.0], [1.0]]], axis=1), scale)


def test_depth_is_along_the_viewing_axis_and_unknown_where_little_is_seen():
    pose = torch.eye(4)[None, :3]
    camera = Cameras(pose, torch.tensor([30.0]), torch.tensor([20.0]), torch.tensor([3.0]), torch.tensor([9.0]), 16, 12)
    rows, columns = np.mgrid[:12, :16] + 0.5
    distance = 3.0 * np.sqrt(1 + ((columns - 3.0) / 30.0) ** 2 + ((rows - 9.0) / 20.0) ** 2)
    outputs = {"depth": torch.from_numpy(distance)[..., None], "accumulation": torch.ones(12, 16, 1)}
    outputs["accumulation"][:2] = 0.4
    outputs["depth"][2:4] = float("inf")
    depth = planar_depth(outputs, camera, 0.5)
    np.testing.assert_allclose(depth[4:], 3.0, rtol=1e-6)
    assert depth.dtype == np.float32 and (depth[:4] == 0).all()


@pytest.mark.parametrize("metres_per_unit", [1.0, 0.001])
def test_both_formats_come_back_in_the_units_of_the_scene(tmp_path: Path, metres_per_unit: float):
    """World units are a quarter of the files'; a PNG is off by half a millimetre, an EXR by nothing."""
    depth = np.random.default_rng(0).uniform(1.0, 3.0, (8, 9)).astype(np.float32) / metres_per_unit * 0.25
    depth[0, :3] = 0.0
    world = FileWorld(np.eye(4)[:3], 0.25, metres_per_unit)
    for kind in ("png", "exr"):
        written = write_depths(tmp_path / kind, kind, [PlanarDepth("left/0005", depth, {"w": 9})], world)
        note = json.loads((tmp_path / kind / "depth.json").read_text())
        assert note["maps"] == [{"file": f"left/0005.{kind}", "w": 9}]
        assert (note["polarity"], note["meaning"]) == ("distance", "z_depth")
        assert note["stored_unit"] == {"png": "millimetre", "exr": "metre"}[kind]
        assert written.beyond == 0 and advice(written) is None or kind == "exr"
        stored = read_depth_file(tmp_path / kind / "left" / f"0005.{kind}")
        metres = stored / 1000 if kind == "png" else stored
        np.testing.assert_allclose(metres, depth / 0.25 * metres_per_unit, atol=5.1e-4 if kind == "png" else 1e-6)
        # As the package's own dataparsers read a folder of maps: in units of the scene's files.
        encoding = DepthEncoding(**{**read_note(tmp_path / kind), "max_depth": None})
        found = read_metric_depth(tmp_path / kind / "left" / f"0005.{kind}", encoding, np.ones((8, 9), np.float32))
        np.testing.assert_allclose(
            found.z_depth * metres_per_unit, metres, rtol=1e-5, atol=1e-6, err_msg="unit of the note"
        )
        assert not found.valid[0, :3].any() and found.valid.sum() == 69
    assert list(read_exr_channels(tmp_path / "exr" / "left" / "0005.exr")) == ["Y"]


def test_opencv_reads_the_exr_files(tmp_path: Path):
    import subprocess
    import sys

    depth = np.linspace(0.5, 9.0, 12, dtype=np.float32).reshape(3, 4)
    write_depths(tmp_path, "exr", [PlanarDepth("a", depth, {})], STILL)
    code = "import cv2, sys; print(cv2.imread(sys.argv[1], cv2.IMREAD_UNCHANGED).reshape(-1).tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.exr")],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENCV_IO_ENABLE_OPENEXR": "1"},
    )
    if done.returncode:
        pytest.skip("OpenCV was built without OpenEXR")
    np.testing.assert_array_equal(np.array(json.loads(done.stdout), np.float32), depth.ravel())


def test_what_a_png_cannot_hold_is_unknown_and_said(tmp_path: Path):
    steps, lost = to_millimetres(np.array([[0.0, 65.535, 65.536, 1e9, 0.0004]]))
    assert steps.tolist() == [[0, 65535, 0, 0, 0]] and lost == 3
    far = write_depths(tmp_path, "png", [PlanarDepth("a", np.array([[60.0, 70.0]], np.float32), {})], STILL)
    assert far.beyond == 0.5 and "50 % of the pixels are beyond" in (advice(far) or "")
    near = write_depths(tmp_path, "png", [PlanarDepth("a", np.full((2, 2), 0.05, np.float32), {})], STILL)
    assert "below 50 mm" in (advice(near) or "")


def test_cameras_are_those_of_the_files():
    world = rotated_world()
    own = np.concatenate([np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0], [[1.0], [2.0], [3.0]]], axis=1)
    moved = world.transform[:, :3] @ own
    moved[:, 3] = world.scale * (moved[:, 3] + world.transform[:, 3])
    pose = torch.from_numpy(moved).float()[None]
    camera = Cameras(pose, torch.tensor([30.0]), torch.tensor([20.0]), torch.tensor([3.0]), torch.tensor([9.0]), 16, 12)
    about = camera_about(camera, world)
    np.testing.assert_allclose(np.array(about.pop("transform_matrix"))[:3], own, atol=1e-5)
    assert about == {"fl_x": 30.0, "fl_y": 20.0, "cx": 3.0, "cy": 9.0, "w": 16, "h": 12}


def test_names_keep_the_folders_that_tell_images_apart():
    assert map_names([Path("s/left/5.png"), Path("s/right/5.png")]) == ("left/5", "right/5")
    assert map_names([Path("s/5.png"), Path("s/6.jpg")]) == ("5", "6")
    with pytest.raises(ValueError, match="expected one image of each name, found several of 5"):
        map_names([Path("s/5.png"), Path("s/5.jpg")])


def test_of_a_run_with_sensor_depth(make_run, make_nerfstudio_scene, tmp_path: Path, capsys):
    """Millimetre PNGs of the sensor come back as they were, although the run's world is turned and scaled."""
    scene = make_nerfstudio_scene(tmp_path / "scene")
    run = make_run(tmp_path / "runs", FewShotNerfstudioDataParserConfig(data=scene))
    RenderDepthCommand(load_config=run, min_accumulation=0.0).main()
    folder = run / "renders" / "depth"
    frames = {Path(f["file_path"]).stem: f for f in json.loads((scene / "transforms.json").read_text())["frames"]}
    notes = {kind: json.loads((folder / kind / "depth.json").read_text()) for kind in ("png", "exr", "scene-png")}
    assert len(notes["png"]["maps"]) == len(json.loads((run / "views.json").read_text())["test_indices"]) > 0
    for each in notes["scene-png"]["maps"]:
        stem = Path(each["file"]).stem
        np.testing.assert_array_equal(
            read_depth_file(folder / "scene-png" / each["file"]), read_depth_file(scene / "depths" / f"{stem}.png")
        )
    for each in notes["png"]["maps"]:
        np.testing.assert_allclose(
            each["transform_matrix"], frames[Path(each["file"]).stem]["transform_matrix"], atol=1e-4
        )
        millimetres, metres = (
            read_depth_file((folder / kind / each["file"]).with_suffix(f".{kind}")) for kind in ("png", "exr")
        )
        assert millimetres.shape == (24, 32)
        held = (metres > 0) & (metres < 65.5)
        assert held.any() and np.abs(millimetres / 1000 - metres)[held].max() <= 5.1e-4
    # Along a path, also without the photos.
    CameraPathCommand(load_config=run, frames=2, width=8, output=tmp_path / "path.json").main()
    (scene / "images").rename(tmp_path / "away")
    RenderDepthCommand(
        load_config=run, camera_path=tmp_path / "path.json", output=tmp_path / "out", formats=("exr",)
    ).main()
    assert sorted(path.name for path in (tmp_path / "out" / "exr").iterdir()) == [
        "00000.exr",
        "00001.exr",
        "depth.json",
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"metres_per_unit": 0.0}, "--metres-per-unit: expected a positive number"),
        ({"formats": ()}, "--formats: expected png, exr or both"),
        ({"camera_path": Path("p.json"), "views": (1,)}, "leave out --views"),
    ],
)
def test_flags(tmp_path: Path, flags, message: str):
    with pytest.raises(ValueError, match=message):
        RenderDepthCommand(load_config=tmp_path, **flags).main()
