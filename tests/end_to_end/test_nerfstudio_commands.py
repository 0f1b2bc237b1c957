"""Every command of nerfstudio that a trained run goes through, run for real on CPU."""

import json
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest
import torch
from command_output import HEIGHT, WIDTH, check_video, load_json

pytestmark = pytest.mark.end_to_end


def test_train_leaves_a_complete_run(trained_run: Path):
    (checkpoint,) = (trained_run / "nerfstudio_models").iterdir()
    assert checkpoint.name == "step-000000199.ckpt"
    assert torch.load(checkpoint, weights_only=True)["step"] == 199
    stats = load_json(trained_run / "train_stats.json")
    assert stats["steps"] == 200 and stats["cpu_seconds"] > 0
    views = load_json(trained_run / "views.json")
    assert views["protocol"] == "llff-3" and views["test_indices"] == [0, 8] and len(views["train_indices"]) == 3


@pytest.fixture(scope="module")
def one_view_run(train: Callable[..., Path]) -> Path:
    """A run of 12 steps with one test view, made of 6 steps and a resume."""
    parser_flags = ("--train-indices", 1, 4, 7, "--test-indices", 3)
    half = train("half", 6, parser_flags=parser_flags)
    return train("resumed", 12, "--load-dir", half / "nerfstudio_models", parser_flags=parser_flags)


def test_resume_is_bit_equal(train: Callable[..., Path], one_view_run: Path):
    whole = train("whole", 12, parser_flags=("--train-indices", 1, 4, 7, "--test-indices", 3))
    name = "nerfstudio_models/step-000000011.ckpt"
    expected, actual = (torch.load(run / name, weights_only=True) for run in (whole, one_view_run))
    assert expected["pipeline"].keys() == actual["pipeline"].keys()
    for key, value in expected["pipeline"].items():
        assert torch.equal(value, actual["pipeline"][key]), key
    for group, state in expected["optimizers"].items():
        for index, moments in state["state"].items():
            for key, value in moments.items():
                assert torch.equal(value, actual["optimizers"][group]["state"][index][key]), (group, index, key)
    assert expected["schedulers"] == actual["schedulers"]


def test_explicit_indices_are_saved(one_view_run: Path):
    views = load_json(one_view_run / "views.json")
    assert views["train_indices"] == [1, 4, 7] and views["test_indices"] == [3]


def test_eval_of_one_view_is_valid_json(run_command: Callable[..., str], one_view_run: Path, tmp_path: Path):
    output = run_command(
        "ns-eval", "--load-config", one_view_run / "config.yml", "--output-path", tmp_path / "eval.json"
    )
    results = load_json(tmp_path / "eval.json")["results"]
    assert 0 < results["psnr"] < 60 and -1 <= results["ssim"] <= 1 and -1 <= results["ssim_gaussian"] <= 1
    assert results["psnr_std"] == 0.0
    assert results["lpips"] is None, "no weights are to be had here"
    assert output.count("lpips-weights") == 1, "what is missing is said once"

    (row,) = map(json.loads, (one_view_run / "eval" / "step-000000011.jsonl").read_text().splitlines())
    assert row["view_index"] == 3 and row["file_name"] == "view_03.png"
    assert row["psnr"] == pytest.approx(results["psnr"])


def test_eval_writes_a_row_per_view(run_command: Callable[..., str], trained_run: Path, tmp_path: Path):
    run_command("ns-eval", "--load-config", trained_run / "config.yml", "--output-path", tmp_path / "eval.json")
    results = load_json(tmp_path / "eval.json")["results"]
    rows = [json.loads(line) for line in (trained_run / "eval" / "step-000000199.jsonl").read_text().splitlines()]
    assert [row["view_index"] for row in rows] == [0, 8]
    for metric in ("psnr", "ssim", "ssim_gaussian"):
        assert results[metric] == pytest.approx(np.mean([row[metric] for row in rows]))


def test_render_camera_path(run_command: Callable[..., str], trained_run: Path, tmp_path: Path):
    path, video = tmp_path / "path.json", tmp_path / "video.mp4"
    config = trained_run / "config.yml"
    run_command(
        *("ns-fewshot", "camera-path", "--load-config", config, "--kind", "llff-spiral"),
        *("--frames", 4, "--fps", 4, "--output", path),
    )
    run_command(
        *("ns-render", "camera-path", "--load-config", config, "--camera-path-filename", path),
        *("--output-path", video, "--rendered-output-names", "rgb", "depth"),
    )
    frames = check_video(video, 2 * WIDTH, HEIGHT, at_least=4)
    assert np.abs(frames[0].astype(float) - frames[1]).mean() > 0.5, "the camera does not move"


def test_render_interpolate(run_command: Callable[..., str], trained_run: Path, tmp_path: Path):
    run_command(
        *("ns-render", "interpolate", "--load-config", trained_run / "config.yml", "--pose-source", "train"),
        *("--interpolation-steps", 2, "--output-path", tmp_path / "video.mp4"),
    )
    check_video(tmp_path / "video.mp4", WIDTH, HEIGHT, at_least=3)


def test_render_spiral(run_command: Callable[..., str], trained_run: Path, tmp_path: Path):
    run_command(
        *("ns-render", "spiral", "--load-config", trained_run / "config.yml"),
        *("--seconds", 0.2, "--frame-rate", 15, "--output-path", tmp_path / "video.mp4"),
    )
    check_video(tmp_path / "video.mp4", WIDTH, HEIGHT, at_least=3)


def test_render_dataset(run_command: Callable[..., str], trained_run: Path, tmp_path: Path):
    run_command(
        *("ns-render", "dataset", "--load-config", trained_run / "config.yml"),
        *("--split", "test", "--image-format", "png", "--output-path", tmp_path, "--downscale-factor", 2),
    )
    folder = tmp_path / "test"
    assert {"rgb", "gt-rgb", "depth", "accumulation"} <= {path.name for path in folder.iterdir()}
    images = sorted(folder.glob("rgb/**/*.png"))
    assert [path.name for path in images] == ["view_00.png", "view_08.png"]
    for path in images:
        image = cv2.imread(str(path))
        assert image is not None and image.shape == (HEIGHT // 2, WIDTH // 2, 3)
        assert image.std() > 4.0


def test_export_pointcloud(run_command: Callable[..., str], trained_run: Path, tmp_path: Path):
    # It loads a few system libraries; docs/installation.md names them.
    open3d = pytest.importorskip("open3d", exc_type=ImportError)
    run_command(
        *("ns-export", "pointcloud", "--load-config", trained_run / "config.yml", "--output-dir", tmp_path),
        *("--normal-method", "open3d", "--num-points", 3000, "--num-rays-per-batch", 1024),
    )
    cloud = open3d.io.read_point_cloud(tmp_path / "point_cloud.ply")
    points, colours = np.asarray(cloud.points), np.asarray(cloud.colors)
    assert len(points) >= 2000 and np.isfinite(points).all() and cloud.has_normals()
    assert colours.std(axis=0).max() > 0.05
    # The cameras look along -z of a world whose nearest content lies at 1 / 0.75.
    assert np.median(points[:, 2]) < -1.0
