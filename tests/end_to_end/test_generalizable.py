"""A model trained across scenes, through every command of nerfstudio and of this package that a run goes through."""

import json
from pathlib import Path
from typing import Callable

import cv2
import imageio.v3 as iio
import numpy as np
import pytest
import torch
import yaml

pytestmark = pytest.mark.end_to_end

SIDE = 16


@pytest.fixture(scope="module")
def retargeted(scenes_run: Path, run_command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of that run pointed at a training object, seen from two views."""
    folder = tmp_path_factory.mktemp("retargeted") / "run"
    run_command(
        *("ns-fewshot", "retarget", "--load-config", scenes_run, "--scene", "table_0001"),
        *("--source-views", 0, 3, "--output", folder),
    )
    return folder


def load_json(path: Path) -> dict:
    return json.loads(path.read_text())


def test_training_keeps_checkpoint_record_and_panels(scenes_run: Path):
    (checkpoint,) = (scenes_run / "nerfstudio_models").iterdir()
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 5
    resolved = load_json(scenes_run / "resolved.json")
    assert resolved["scenes"]["train"] == 5 and resolved["batch"] == {"scenes": 2, "sources": [1, 2], "rays": 32}
    assert not (scenes_run / "bad_scenes.json").exists()
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = events.EventAccumulator(str(scenes_run)).Reload()
    assert any("panel" in tag for tag in log.Tags()["images"])


def test_ns_eval_goes_over_the_test_objects(run_command: Callable[..., str], scenes_run: Path, tmp_path: Path):
    run_command("ns-eval", "--load-config", scenes_run / "config.yml", "--output-path", tmp_path / "eval.json")
    results = load_json(tmp_path / "eval.json")["results"]
    assert results["num_scenes"] == 2 and results["num_views"] == 8 and 0 < results["psnr"] < 60
    assert (scenes_run / "eval" / "scenes-step-000000005.jsonl").is_file()


def test_ns_fewshot_eval_by_chosen_views_and_metrics(run_command: Callable[..., str], scenes_run: Path, tmp_path: Path):
    command = ("ns-fewshot", "eval", "--load-config", scenes_run, "--metrics", "psnr", "ssim", "--masks", "none")
    flags = ("--source-views", 0, 2, "--output-path", tmp_path / "eval.json", "--render-dir", tmp_path / "views")
    run_command(*command, *flags, "--max-views", 1)
    run_command(*command, *flags)
    results = load_json(tmp_path / "eval.json")["results"]
    assert results["num_views"] == 6 and set(results) >= {"psnr", "ssim", "baseline_nearest_view_psnr"}
    rows = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    assert {tuple(row["sources"]) for row in rows} == {(0, 2)} and {row["view_index"] for row in rows} == {1, 3, 4}
    pictures = sorted((tmp_path / "views").rglob("0?????.png"))
    assert len(pictures) == 6 and cv2.imread(str(pictures[0])).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("trajectory", ["interpolate", "spiral", "camera-path"])
def test_ns_render_makes_videos(
    trajectory: str, run_command: Callable[..., str], retargeted: Path, scenes_run: Path, tmp_path: Path
):
    config = (scenes_run if trajectory == "spiral" else retargeted) / "config.yml"
    flags = {
        "interpolate": ("--pose-source", "eval", "--interpolation-steps", 2),
        "spiral": ("--seconds", 0.2, "--frame-rate", 15),
        "camera-path": ("--camera-path-filename", tmp_path / "path.json"),
    }
    if trajectory == "camera-path":
        command = ("ns-fewshot", "camera-path", "--load-config", config, "--frames", 3, "--fps", 4)
        run_command(*command, "--output", tmp_path / "path.json")
    video = tmp_path / "video.mp4"
    run_command("ns-render", trajectory, "--load-config", config, "--output-path", video, *flags[trajectory])
    frames = iio.imread(video, plugin="FFMPEG")
    assert len(frames) >= 2 and frames.std() > 1.0


def test_ns_render_dataset_of_a_retargeted_run(run_command: Callable[..., str], retargeted: Path, tmp_path: Path):
    run_command(
        *("ns-render", "dataset", "--load-config", retargeted / "config.yml", "--split", "train+test"),
        *("--image-format", "png", "--output-path", tmp_path),
    )
    names = {
        split: sorted(path.name for path in (tmp_path / split / "rgb").glob("*.png")) for split in ("train", "test")
    }
    assert names == {"train": ["000000.png", "000003.png"], "test": ["000001.png", "000002.png", "000004.png"]}
    truth = cv2.imread(str(tmp_path / "test" / "gt-rgb" / "000001.png"))
    assert truth.shape == (SIDE, SIDE, 3) and truth.max() == 255


def test_a_retargeted_run_is_a_link_and_one_scene(run_command: Callable[..., str], retargeted: Path, tmp_path: Path):
    assert sorted(path.name for path in retargeted.iterdir()) == ["config.yml", "nerfstudio_models"]
    (checkpoint,) = (retargeted / "nerfstudio_models").iterdir()
    assert checkpoint.is_symlink() and checkpoint.is_file()
    config = yaml.load((retargeted / "config.yml").read_text(), Loader=yaml.Loader)
    assert config.pipeline.datamanager.scenes == ("table_0001",)
    run_command("ns-eval", "--load-config", retargeted / "config.yml", "--output-path", tmp_path / "eval.json")
    rows = (retargeted / "eval" / "step-000000005.jsonl").read_text().splitlines()
    assert [json.loads(row)["file_name"] for row in rows] == ["000001.png", "000002.png", "000004.png"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--scene", "tble_0001", "--source-views", 0), "such as table_0001"),
        (("--scene", "table_0001", "--source-views", 77), "expected views among 0..4"),
        (("--data", "nowhere", "--source-views", 0), "nowhere"),
        ((), "--data or --scene"),
    ],
)
def test_retarget_says_what_is_wrong_and_leaves_nothing(
    flags: tuple, message: str, scenes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    from fewshot_ns.scripts.cli import main

    arguments = ["retarget", "--load-config", str(scenes_run), "--output", str(tmp_path / "run"), *map(str, flags)]
    assert main(arguments) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_on_one_scene_from_generic_weights(
    train_scenes: Callable[..., Path],
    scenes_run: Path,
    run_command: Callable[..., str],
    make_llff_scene: Callable[..., Path],
    tmp_path: Path,
):
    scene = make_llff_scene(tmp_path / "llff")
    weights = scenes_run / "nerfstudio_models" / "step-000000005.ckpt"
    parser = ("llff-data", "--data", scene, "--ray-space", "metric")
    tuned = train_scenes(
        "tuned", 1, ("--pipeline.initial-weights", weights, "--optimizers.field.optimizer.lr", 0), parser
    )
    before = torch.load(weights, weights_only=True)["pipeline"]
    after = torch.load(tuned / "nerfstudio_models" / "step-000000000.ckpt", weights_only=True)["pipeline"]
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    # Batch statistics, and where the scene lies; no weight, since nothing was learnt.
    assert not [
        name for name in moved if not any(word in name for word in ("running", "batches", "focus", "bounds", "radius"))
    ]
    run_command("ns-eval", "--load-config", tuned / "config.yml", "--output-path", tmp_path / "eval.json")
    assert np.isfinite(load_json(tmp_path / "eval.json")["results"]["psnr"])
