"""Camera paths as JSON: what nerfstudio reads from them, and what is refused."""

from __future__ import annotations

import copy
import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.camera_paths import get_path_from_json

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.scripts.camera_path import CameraPathCommand, PathOptions, build_camera_path
from fewshot_ns.scripts.runs import find_config, load_run_config
from fewshot_ns.scripts.video import path_cameras, read_camera_path
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Folder, training cameras and record of a small demo scene."""
    folder = tmp_path_factory.mktemp("paths") / "scene"
    write_demo_scene(folder, DemoSceneConfig(width=40, height=30, columns=3, rows=3, supersample=1))
    outputs = LLFFDataParserConfig(data=folder).setup().get_dataparser_outputs("train")
    return folder, outputs.cameras, get_fewshot_metadata(outputs.metadata)


@pytest.fixture(scope="module")
def config_file(scene, tmp_path_factory):
    """config.yml of a run on that scene, as ns-train writes it before it trains."""
    from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

    config = copy.deepcopy(sparsenerf_lite)
    config.output_dir = tmp_path_factory.mktemp("runs")
    config.experiment_name, config.timestamp = "scene", "now"
    config.pipeline.datamanager.data = scene[0]
    config.save_config()
    return config.get_base_dir() / "config.yml"


@pytest.mark.parametrize("kind", ["auto", "llff-spiral", "dtu-spiral", "spheric", "spin", "orbit", "interpolate"])
def test_nerfstudio_reads_every_kind(scene, kind):
    _, cameras, record = scene
    path = json.loads(json.dumps(build_camera_path(PathOptions(kind=kind, frames=12, fps=24.0), cameras, record)))
    read = get_path_from_json(path)
    assert len(read) == 12 and path["seconds"] == pytest.approx(0.5)
    rotation = read.camera_to_worlds[:, :, :3]
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(12, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(12))
    # The training images' size and field of view.
    assert (path["render_width"], path["render_height"]) == (40, 30)
    torch.testing.assert_close(read.fy[:, 0].float(), cameras.fy[0].expand(12))


def test_the_spiral_stays_among_the_cameras_and_looks_at_the_table(scene):
    _, cameras, record = scene
    read = get_path_from_json(build_camera_path(PathOptions(frames=40), cameras, record))
    position = read.camera_to_worlds[:, :, 3]
    limit = record.scene_camera_to_worlds[:, :, 3].abs().amax(0)
    assert (position.abs() <= limit + 1e-5).all()
    assert (position[:, 0].max() - position[:, 0].min()) > limit[0]
    assert (read.camera_to_worlds[:, 2, 2] > 0.8).all()  # Looking along -z of the recentred world.


def test_paths_from_the_views(scene):
    """Through all of them, and around their average camera; the latter needs depths from the cameras."""
    _, cameras, record = scene
    each = get_path_from_json(build_camera_path(PathOptions(kind="interpolate", frames=6), cameras, record))
    torch.testing.assert_close(each.camera_to_worlds[::2].float(), cameras.camera_to_worlds, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="--kind spiral needs near and far as depths"):
        build_camera_path(PathOptions(kind="spiral"), cameras, record)
    near = build_camera_path(PathOptions(kind="spiral"), cameras, record, (1.0, 3.0))
    far = build_camera_path(PathOptions(kind="spiral"), cameras, record, (10.0, 30.0))
    paths = [get_path_from_json(path).camera_to_worlds for path in (near, far)]
    assert all(len(path) == 60 for path in paths)
    torch.testing.assert_close(paths[0][..., 3], paths[1][..., 3])
    # What lies nearer is looked at from more directions.
    assert paths[0][:, :, 2].std(0).sum() > paths[1][:, :, 2].std(0).sum()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({}, (40, 30)),
        ({"width": 80}, (80, 60)),
        ({"height": 15}, (20, 15)),
        ({"width": 64, "height": 60}, (64, 60)),
    ],
)
def test_size_of_the_video(scene, size, expected):
    _, cameras, record = scene
    path = build_camera_path(PathOptions(frames=2, **size), cameras, record)
    assert (path["render_width"], path["render_height"]) == expected
    # The vertical field of view is that of the photos at every size.
    assert path["camera_path"][0]["fov"] == pytest.approx(2 * np.degrees(np.arctan(15 / float(cameras.fy[0]))))
    read, fps = path_cameras(path)
    assert (int(read.width[1]), int(read.height[1])) == expected and fps == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "--frames: expected at least 1, got 0"),
        ({"fps": 0.0}, "--fps: expected a positive number"),
        ({"width": -4}, "expected positive sizes"),
        ({"kind": "spheric", "elevation": 90.0}, "elevation"),
    ],
)
def test_impossible_paths_are_refused(scene, options, message):
    _, cameras, record = scene
    with pytest.raises(ValueError, match=message):
        build_camera_path(PathOptions(**options), cameras, record)


def test_spin_is_dietnerfs_circle(scene):
    _, cameras, record = scene
    read = get_path_from_json(build_camera_path(PathOptions(kind="spin"), cameras, record))
    position = read.camera_to_worlds[:, :, 3]
    assert len(read) == 40
    torch.testing.assert_close(position.norm(dim=-1), torch.full((40,), 4.0))
    torch.testing.assert_close(position[:, 2], torch.full((40,), 2.0))  # 4 sin 30 degrees
    torch.testing.assert_close(read.camera_to_worlds[:, :, 2], position / 4.0, atol=1e-6, rtol=0)
    assert len(get_path_from_json(build_camera_path(PathOptions(frames=30, kind="spin"), cameras, record))) == 30


def test_llff_spiral_needs_bounds(scene):
    _, cameras, record = scene
    with pytest.raises(ValueError, match="use --kind dtu-spiral or --kind orbit"):
        build_camera_path(PathOptions(kind="llff-spiral"), cameras, replace(record, scene_bounds=None))


def test_the_command_reads_a_run_without_its_images(scene, config_file, tmp_path, capsys):
    output = tmp_path / "new" / "path.json"
    CameraPathCommand(load_config=config_file.parent.parent, frames=5, output=output).main()
    # nerfstudio's command takes no folder.
    words = ["ns-render", "camera-path", "--load-config", config_file, "--camera-path-filename", output]
    command = shlex.join(map(str, [*words, "--output-path", output.with_suffix(".mp4")]))
    assert f"\n  {command}\n" in capsys.readouterr().out
    content = read_camera_path(output)
    direct = build_camera_path(PathOptions(frames=5), scene[1], scene[2])
    assert content == json.loads(json.dumps(direct))
    assert find_config(config_file.parent.parent) == config_file


def test_config_files_that_are_none(config_file, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_run_config(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="a folder without one"):
        load_run_config(tmp_path)
    (tmp_path / "config.yml").write_text("a: 1\n")
    with pytest.raises(ValueError, match="found dict"):
        load_run_config(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yml").write_text("a: 1\n")
    with pytest.raises(ValueError, match="expected one training run, found 2"):
        find_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "found no camera_path, render_height, render_width"),
        ('{"camera_path": [], "render_height": 3, "render_width": 4}', "without frames"),
        ('{"camera_path": [1], "render_height": 3, "render_width": 4, "camera_type": "fisheye"}', "found 'fisheye'"),
    ],
)
def test_path_files_that_are_none(tmp_path, text, message):
    file = tmp_path / "path.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_camera_path(file)
    with pytest.raises(FileNotFoundError, match="expected the JSON of a camera path"):
        read_camera_path(tmp_path / "none.json")
