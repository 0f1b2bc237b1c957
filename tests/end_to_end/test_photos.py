"""Photos without poses, and scenes of which every photo trains."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

pytestmark = pytest.mark.end_to_end
SHORT = ("--vis", "tensorboard", "--machine.device-type", "cpu", "--pipeline.evaluation.metrics", "psnr")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of the built-in scene, without poses."""
    scene = tmp_path_factory.mktemp("taken") / "scene"
    write_demo_scene(scene, DemoSceneConfig(width=320, height=240, supersample=1, columns=3, rows=1))
    files = sorted(path for path in scene.rglob("*.png") if path.parent.name.startswith("images"))
    taken = tmp_path_factory.mktemp("photos")
    for file in files:
        shutil.copy(file, taken / file.name)
    return taken


@pytest.fixture
def fail_command(environment: Dict[str, str]) -> Callable[..., str]:
    """Runs a command that has to fail, by an error that the user can mend, and returns what it says."""

    def run(*command: object) -> str:
        words = [str(Path(sys.executable).parent / str(command[0])), *map(str, command[1:])]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 1, done.stdout[-6000:] + done.stderr
        return done.stdout + done.stderr

    return run


def test_from_photos_to_a_page(
    photos: Path, run_command: Callable[..., str], fail_command: Callable[..., str], tmp_path: Path
) -> None:
    pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install 'fewshot-ns[photos]'")
    output = tmp_path / "out"
    flags = ("--output-dir", output, "--steps", 20, "--side", 80, "--frames", 3, "--device", "cpu")
    said = run_command("ns-fewshot", "photos", photos, *flags)
    assert "3 of 3 photos have poses" in said
    report = json.loads((output / "scene" / "prepare.json").read_text())
    assert report["left_out"] == {} and report["trust"]["error"] < 1.5
    assert {"video.mp4", "splats.ply", "index.html"} <= {path.name for path in output.iterdir()}
    resolved = json.loads((output / "run" / "resolved.json").read_text())
    assert resolved["held_out"].startswith("nothing")
    # nerfstudio's own parser takes the scene, too.
    outputs = NerfstudioDataParserConfig(data=output / "scene", train_split_fraction=1.0).setup()
    assert len(outputs.get_dataparser_outputs("train").image_filenames) == 3
    again = run_command("ns-fewshot", "photos", photos, *flags)
    assert "done before" in again and "registering photos" not in again and "poses: found before" in again
    # A training that fails leaves what is there, and is told without a traceback.
    before = {path: path.read_bytes() for path in (output / "run").rglob("*") if path.is_file()}
    failing = ("photos", photos, *flags, "--method", "sparsenerf-lite", "--", "--pipeline.model.num-samples", 0)
    said = fail_command("ns-fewshot", *failing)
    assert "training sparsenerf-lite failed" in said and "Traceback" not in said and "stays" in said
    assert "Traceback" in (output / "training" / "train-1.log").read_text()
    assert {path: path.read_bytes() for path in (output / "run").rglob("*") if path.is_file()} == before
    # So does another capture.
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    said = fail_command("ns-fewshot", "photos", other, *flags)
    assert str(other) in said and str(photos) in said and "--force" in said
    assert "done before" in run_command("ns-fewshot", "photos", photos, *flags)


@pytest.mark.slow
def test_a_training_that_was_interrupted_goes_on(
    photos: Path, run_command: Callable[..., str], environment: Dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install 'fewshot-ns[photos]'")
    output = tmp_path / "out"
    words = ["photos", photos, "--output-dir", output, "--steps", 600, "--side", 80, "--frames", 3, "--device", "cpu"]
    words += ["--", "--steps-per-save", 20]
    command = [str(Path(sys.executable).parent / "ns-fewshot"), *map(str, words)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < deadline and not [*output.rglob("step-*.ckpt")]:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "goes on from step" in said and not (output / "run").exists()
    said = run_command("ns-fewshot", *words)
    assert "goes on from step" in said and "registering photos" not in said
    assert [path.name for path in (output / "run" / "nerfstudio_models").iterdir()] == ["step-000000599.ckpt"]
    assert not (output / "training").exists() and (output / "train.log").is_file()


@pytest.mark.slow
def test_nothing_is_held_out(photos: Path, run_command: Callable[..., str], tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    scene.mkdir()
    frames = []
    for index, file in enumerate(sorted(photos.glob("*.png"))):
        (scene / file.name).write_bytes(file.read_bytes())
        angle = 0.15 * (index - 1)
        matrix = np.eye(4)
        matrix[:3, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
        matrix[:3, 3] = [4 * math.sin(angle), 0, 4 * math.cos(angle)]
        frames.append({"file_path": file.name, "transform_matrix": matrix.tolist()})
    size: Dict[str, float] = {"w": 320, "h": 240, "fl_x": 300, "fl_y": 300, "cx": 160, "cy": 120}
    (scene / "transforms.json").write_text(json.dumps({**size, "frames": frames}))
    # No dataparser is named: the folder says it, where the method's own is LLFF's.
    said = run_command(
        "ns-train", "mipnerf-fewshot-lite", "--data", scene, "--output-dir", tmp_path, "--max-num-iterations", 3, *SHORT
    )
    assert "recognised as fewshot-nerfstudio-data by transforms.json" in said and "nothing is held out" in said
    (config,) = tmp_path.rglob("config.yml")
    said = run_command("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")
    results = json.loads((tmp_path / "eval.json").read_text(), parse_constant=pytest.fail)["results"]
    assert results == {"psnr": None, "evaluated_views": "none"} and "Nothing is held out" in said
    said = run_command("ns-fewshot", "eval", "--load-config", config)
    assert "Nothing is held out" in said and "deviation" not in said
    assert json.loads((config.parent / "eval.json").read_text())["results"]["psnr"] is None
    said = run_command("ns-fewshot", "eval", "--load-config", config, "--split", "train")
    assert "deviation" in said
    found = json.loads((config.parent / "eval-train.json").read_text())
    assert found["evaluated_views"] == "train" and found["results"]["psnr"] > 0 and len(found["views"]) == 3
    text = config.read_text()
    config.write_text(text.replace("split: held-out", "split: train"))
    assert config.read_text() != text
    (config.parent / "eval-train.json").unlink()
    run_command("ns-fewshot", "eval", "--load-config", config)
    assert (config.parent / "eval-train.json").is_file()
    assert json.loads((config.parent / "eval.json").read_text())["results"]["psnr"] is None
    run_command("ns-render", "interpolate", "--load-config", config, "--output-path", tmp_path / "i.mp4")
    assert (tmp_path / "i.mp4").stat().st_size > 0
