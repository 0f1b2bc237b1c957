"""ID-NeRF through the commands: trained on a set in MVSNet's layout, measured, pointed at other data, fine-tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import cv2
import imageio.v3 as iio
import numpy as np
import pytest
import torch

from fewshot_ns.data.files.depth_formats import read_depth_file
from fewshot_ns.data.files.mvsnet import read_mvsnet_camera, read_mvsnet_depth
from fewshot_ns.scripts.render_depth import RenderDepthCommand

pytestmark = pytest.mark.end_to_end

SMALL = (
    *("--machine.device-type", "cpu", "--vis", "tensorboard", "--pipeline.evaluation.metrics", "psnr"),
    *("--pipeline.model.width", 16, "--pipeline.model.num-samples", 6, "--pipeline.datamanager.rays-per-scene", 16),
    # The encoder has one size; random weights tell nothing, and need no file.
    *("--pipeline.model.encoder.pretrained", False),
)
SET = ("--num-views", 6, "--train-lights", 2, 3, "--test-targets", 2, 3, "--test-sources", 0, 1, 4, 5)


@pytest.fixture(scope="module")
def train(run_command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Function (name, flags, dataparser) -> folder of a run of `ns-train idnerf-lite` of three steps."""
    outputs = tmp_path_factory.mktemp("idnerf")

    def run(name: str, flags: tuple, parser: tuple) -> Path:
        run_command(
            *("ns-train", "idnerf-lite", "--output-dir", outputs, "--experiment-name", "set", "--timestamp", name),
            *("--max-num-iterations", 3, *SMALL, *flags, *parser),
        )
        return outputs / "set" / "idnerf-lite" / name

    return run


@pytest.fixture(scope="module")
def trained(train: Callable[..., Path], tiny_mvsnet: Path) -> Path:
    """A run on two scans under two lights, source views from the list of pairs, all tests evaluated on the way."""
    flags = ("--pipeline.datamanager.train-source-mode", "pairs", "--steps-per-eval-all-images", 2)
    return train("dtu", ("--data", tiny_mvsnet, "--steps-per-eval-image", 2, *flags), ("mvsnet-dtu-data", *SET))


@pytest.fixture(scope="module")
def fern(
    trained: Path,
    run_command: Callable[..., str],
    make_llff_scene: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """That run pointed at a forward-facing scene, looking at the nearest three views."""
    folder = tmp_path_factory.mktemp("fern")
    scene = make_llff_scene(folder / "scene")
    command = ("ns-fewshot", "retarget", "--load-config", trained, "--data", scene, "--nearest", 3)
    run_command(*command, "--output", folder / "run", "llff-data", "--num-views", 0)
    return folder / "run"


def test_the_tests_are_evaluated_while_training_and_after(
    trained: Path, run_command: Callable[..., str], tmp_path: Path
):
    rows = [json.loads(line) for line in (trained / "eval" / "scenes-step-000000002.jsonl").read_text().splitlines()]
    assert [(row["scene"], row["view_index"]) for row in rows] == [(s, v) for s in ("scan3", "scan4") for v in (2, 3)]
    assert set(rows[0]["sources"]) < {0, 1, 4, 5}
    run_command("ns-eval", "--load-config", trained / "config.yml", "--output-path", tmp_path / "eval.json")
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["num_views"] == 4 and results["true_depth_psnr"] != results["psnr"]


def test_other_data_with_the_nearest_views(fern: Path, run_command: Callable[..., str], tmp_path: Path):
    command = ("ns-fewshot", "eval", "--load-config", fern, "--metrics", "psnr", "--max-views", 1)
    run_command(*command, "--output-path", tmp_path / "eval.json")
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert np.isfinite(results["centre_psnr"]) and "true_depth_psnr" not in results
    (row,) = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row[f"baseline_{name}_psnr"]) for name in ("mean_colour", "nearest_view", "plane_sweep"))


def test_too_few_source_views_are_refused_before_anything_is_written(
    fern: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    from fewshot_ns.scripts.cli import main

    command = ["retarget", "--load-config", str(fern), "--data", str(fern.parent / "scene"), "--nearest", "2"]
    assert main([*command, "--output", str(tmp_path / "run")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "expected 3 source views" in said and "got 2; give as many by --source-views or --nearest" in said
    assert list(tmp_path.iterdir()) == []


def test_nerfstudio_renders_a_path_through_the_views(fern: Path, run_command: Callable[..., str], tmp_path: Path):
    path, video = tmp_path / "path.json", tmp_path / "video.mp4"
    flags = ("--kind", "interpolate", "--frames", 12, "--fps", 12, "--output", path)
    run_command("ns-fewshot", "camera-path", "--load-config", fern, *flags)
    content = json.loads(path.read_text())
    content["camera_path"] = content["camera_path"][::6]
    content["seconds"] /= 6
    path.write_text(json.dumps(content))
    command = ("ns-render", "camera-path", "--load-config", fern / "config.yml", "--camera-path-filename", path)
    run_command(*command, "--output-path", video)
    assert len(iio.imread(video, plugin="FFMPEG")) == 2


@pytest.mark.parametrize("kind", ["interpolate", "spiral"])
def test_videos(kind: str, trained: Path, fern: Path, run_command: Callable[..., str], tmp_path: Path):
    """Of a scan of the set, and of other data; with a strip of three source views."""
    target = tmp_path / "video.mp4"
    run = (fern, "--no-gif") if kind == "spiral" else (trained, "--scene", "scan4", "--target-view", 3, "--save-frames")
    flags = ("--kind", kind, "--frames", 3, "--min-height", 24, "--output", target)
    run_command("ns-fewshot", "video", "--load-config", *run, *flags)
    frames = iio.imread(target, plugin="FFMPEG")
    assert len(frames) == 3 and frames.std() > 1.0
    assert target.with_suffix(".gif").is_file() == (kind == "interpolate")
    if kind == "interpolate":
        pictures = sorted((tmp_path / "video").glob("*.png"))
        # Colour and depth of 40x32, four pixels between, and a strip of three pictures of 10x8.
        assert len(pictures) == 3 and cv2.imread(str(pictures[0])).shape == (32, 10 + 4 + 84, 3)


def test_a_file_as_it_is_is_evaluated_and_shown_other_data(
    trained: Path,
    run_command: Callable[..., str],
    make_llff_scene: Callable[..., Path],
    tmp_path: Path,
):
    """A run of no steps on a scene holds the weights of the file, and nerfstudio's commands and retarget take it."""
    weights = trained / "nerfstudio_models" / "step-000000002.ckpt"
    state = torch.load(weights, weights_only=True)["pipeline"]
    parts = ("_model.feat_enc.", "_model.nerf_dec.", "_model.latent_inference.")
    released = {name.removeprefix("_model."): value for name, value in state.items() if name.startswith(parts)}
    torch.save({"model": released}, tmp_path / "last.pth")
    scene = make_llff_scene(tmp_path / "scene")
    flags = ("--pipeline.initial-weights", tmp_path / "last.pth", "--max-num-iterations", 0, *SMALL[:-2])
    command = ("ns-train", "idnerf-lite", "--output-dir", tmp_path / "runs", "--timestamp", "kept", *flags)
    run_command(*command, "llff-data", "--data", scene, "--ray-space", "metric")
    run = tmp_path / "runs" / "scene" / "idnerf-lite" / "kept"
    (checkpoint,) = (run / "nerfstudio_models").iterdir()
    assert checkpoint.name == "step-000000000.ckpt"
    kept = torch.load(checkpoint, weights_only=True)["pipeline"]
    assert released and all(torch.equal(kept[f"_model.{name}"], value) for name, value in released.items())
    run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "eval.json")
    assert np.isfinite(json.loads((tmp_path / "eval.json").read_text())["results"]["psnr"])
    retarget = ("ns-fewshot", "retarget", "--load-config", run, "--data", scene, "--nearest", 3)
    run_command(*retarget, "--output", tmp_path / "other", "llff-data", "--num-views", 0)
    assert (tmp_path / "other" / "nerfstudio_models" / "step-000000000.ckpt").is_symlink()


def test_fine_tuning_on_some_views_of_a_scene(
    train: Callable[..., Path], trained: Path, tiny_mvsnet: Path, run_command: Callable[..., str], tmp_path: Path
):
    weights = trained / "nerfstudio_models" / "step-000000002.ckpt"
    scene = ("--pipeline.datamanager.scenes", "scan1/light2", "--pipeline.datamanager.train-on-sources-only", True)
    pool = ("--pipeline.datamanager.sources.pool", 0, 1, 4, 5, "--pipeline.initial-weights", weights)
    still = ("--optimizers.field.optimizer.lr", 0, "--optimizers.latent.optimizer.lr", 0)
    tuned = train("tuned", (*scene, *pool, *still, "--data", tiny_mvsnet), ("mvsnet-dtu-data", *SET))
    before, after = (
        torch.load(folder / "nerfstudio_models" / "step-000000002.ckpt", weights_only=True)["pipeline"]
        for folder in (trained, tuned)
    )
    weighted = [name for name, value in before.items() if "feat_enc" in name or name.endswith("weight")]
    assert weighted and all(torch.equal(before[name], after[name]) for name in weighted if "running" not in name)
    run_command("ns-eval", "--load-config", tuned / "config.yml", "--output-path", tmp_path / "eval.json")
    rows = (tuned / "eval" / "step-000000002.jsonl").read_text().splitlines()
    assert [json.loads(row)["view_index"] for row in rows] == [2, 3]


def test_true_depth_lies_beside_what_is_rendered(trained: Path, tiny_mvsnet: Path, tmp_path: Path):
    """Of a test view of a scan, in millimetres as the set's own file, at the size of the photo."""
    RenderDepthCommand(trained, tmp_path / "depth", views=(2,), metres_per_unit=0.001).main()
    note = json.loads((tmp_path / "depth" / "scene-png" / "depth.json").read_text("utf8"))
    (each,) = note["maps"]
    stored = read_depth_file(tmp_path / "depth" / "scene-png" / each["file"])
    truth = read_mvsnet_depth(tiny_mvsnet / "Depths" / "scan3" / "depth_map_0002.pfm", (32, 40), 1.0)
    assert each["image"].startswith("rect_003_3") and (truth > 0).any() and (truth == 0).any()
    np.testing.assert_allclose(stored, truth, atol=0.51)
    # The camera is that of the set's file: world to camera in millimetres, OpenCV axes.
    camera = read_mvsnet_camera(tiny_mvsnet / "Cameras" / "train" / "00000002_cam.txt")
    flipped = camera.camera_to_world * np.array([1.0, -1.0, -1.0, 1.0])
    np.testing.assert_allclose(np.array(each["transform_matrix"])[:3], flipped, atol=1e-2)
    rendered = read_depth_file(tmp_path / "depth" / "png" / each["file"])
    assert rendered.shape == truth.shape
