"""DietNeRF through nerfstudio's own commands: trained with a tiny encoder, finished on the photos alone, evaluated."""

import json
import re
import shutil
from pathlib import Path
from typing import Callable

import imageio.v2 as imageio
import pytest
import torch
from tiny_clip import save_image_encoder

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny CLIP with random weights, as on the hub."""
    return save_image_encoder(tmp_path_factory.mktemp("encoder") / "clip")


@pytest.fixture(scope="module")
def train_dietnerf(run_command: Callable[..., str], encoder: Path, tmp_path_factory) -> Callable[..., Path]:
    """Function (name, parser and its flags, flags) -> folder of a run of `ns-train dietnerf`, made small."""
    outputs = tmp_path_factory.mktemp("dietnerf")

    def run(name: str, parser: tuple, *flags: object) -> Path:
        run_command(
            *("ns-train", "dietnerf", "--output-dir", outputs, "--experiment-name", "tiny", "--timestamp", name),
            *("--machine.device-type", "cpu", "--vis", "tensorboard", "--steps-per-eval-image", 0),
            *("--pipeline.model.width", 16, "--pipeline.model.num-samples", 8, "--pipeline.model.num-octaves", 4),
            *("--pipeline.model.num-importance-samples", 8, "--pipeline.evaluation.metrics", "psnr"),
            *("--pipeline.datamanager.train-num-rays-per-batch", 32, "--pipeline.datamanager.crop-steps", 2),
            *("--pipeline.semantic.encoder.weights", encoder, "--pipeline.semantic.interval", 2),
            *("--pipeline.semantic.views.grid-size", 8, "--pipeline.semantic.chunk-rays", 20),
            *flags,
            *parser,
        )
        return outputs / "tiny" / "dietnerf" / name

    return run


def test_train_then_finish_on_the_photos(
    train_dietnerf: Callable[..., Path], run_command: Callable[..., str], make_blender_scene: Callable, tmp_path: Path
):
    scene = make_blender_scene(tmp_path / "scene")
    parser = ("fewshot-blender-data", "--data", scene, "--num-views", 4, "--downscale-factor", 1)
    run = train_dietnerf("run", parser, "--max-num-iterations", 4)
    resolved = json.loads((run / "resolved.json").read_text())
    assert resolved["semantic"] == {"poses": "hemisphere", "pool": 10}
    assert resolved["training"]["schedules"] == [500000]
    flags = ("--load-dir", run / "nerfstudio_models", "--max-num-iterations", 6, "--pipeline.semantic.enabled", False)
    finished = train_dietnerf("finished", parser, *flags)
    checkpoint = torch.load(finished / "nerfstudio_models" / "step-000000005.ckpt", weights_only=True)
    assert checkpoint["step"] == 5
    # The encoder is no part of what is saved.
    assert {name.split(".")[1] for name in checkpoint["pipeline"]} >= {"coarse", "fine"}
    assert not any(re.search("encoder|semantic|visual", name) for name in checkpoint["pipeline"])
    run_command("ns-eval", "--load-config", finished / "config.yml", "--output-path", tmp_path / "eval.json")
    assert 0 < json.loads((tmp_path / "eval.json").read_text())["results"]["psnr"] < 60

    # The folder of the run is enough for a film, also where it was moved and the photos are gone.
    shutil.rmtree(scene)
    moved = Path(shutil.move(finished, tmp_path / "moved"))
    output = run_command(
        *("ns-fewshot", "video", "--load-config", moved, "--kind", "spin", "--frames", 3, "--min-height", 40)
    )
    assert "scene.json" in output
    for suffix in (".mp4", ".gif"):
        frames = imageio.mimread(moved / "renders" / f"video{suffix}")
        assert len(frames) == 3 and frames[0].shape[:2] == (40, 84)
    # So does nerfstudio when it searches the run at its old path.
    path = tmp_path / "path.json"
    run_command("ns-fewshot", "camera-path", "--load-config", run, "--kind", "spin", "--frames", 2, "--output", path)
    run_command(
        *("ns-render", "camera-path", "--load-config", run / "config.yml", "--camera-path-filename", path),
        *("--output-path", tmp_path / "nerfstudio.mp4"),
    )
    assert len(imageio.mimread(tmp_path / "nerfstudio.mp4")) == 2
    # A run of an earlier version holds no scene; that of the synthetic scenes is known.
    (moved / "scene.json").unlink()
    film = tmp_path / "assumed.mp4"
    output = run_command(
        *("ns-fewshot", "video", "--load-config", moved, "--kind", "spin", "--frames", 2, "--output", film),
        *("--height", 16, "--min-height", 16, "--no-gif"),
    )
    assert "NeRF's synthetic scenes" in output and len(imageio.mimread(film)) == 2


def test_forward_facing_scene(
    train_dietnerf: Callable[..., Path], run_command: Callable[..., str], scene: Path, encoder: Path, tmp_path: Path
):
    run = train_dietnerf(
        "llff", ("llff-data", "--data", scene), "--max-num-iterations", 3, "--logging.steps-per-log", 1
    )
    resolved = json.loads((run / "resolved.json").read_text())
    assert resolved["semantic"]["poses"] == "box" and resolved["model"]["ray_space"] == "ndc"
    assert resolved["model"]["near"] == 0.0 and resolved["model"]["far"] == 1.0
    checkpoint = torch.load(run / "nerfstudio_models" / "step-000000002.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint["pipeline"].values())
    events = "".join(file.read_bytes().decode("latin1") for file in run.glob("events.*"))
    # Two levels on unseen views in NDC: the term counts at every second step.
    assert "Train Loss Dict/semantic_coarse" in events
    run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "eval.json")
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert 0 < results["psnr"] < 60
    (ledger,) = (run / "eval").glob("*.jsonl")
    assert [json.loads(line)["view_index"] for line in ledger.read_text().splitlines()] == [0, 8]
    output = run_command(
        *("ns-fewshot", "eval", "--load-config", run, "--output-path", tmp_path / "sets.json"),
        *("--metrics", "psnr", "kid", "--fid-encoder", "open_clip/tiny", "--fid-weights", encoder),
    )
    assert "kid_open_clip_tiny" in output
    both = json.loads((tmp_path / "sets.json").read_text())["results"]
    assert both["kid_open_clip_tiny_images"] == 2 and both["psnr"] == pytest.approx(results["psnr"], abs=1e-4)
