"""A run on one scene whose files have been moved: what ns-eval says, and the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest


def write_unit(scene: Path) -> None:
    path = scene / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "integer_depth_scale": 0.001}))


@pytest.mark.slow
def test_a_run_follows_its_scene(
    run_command: Callable[..., str], make_nerfstudio_scene: Callable[..., Path], tmp_path: Path
):
    scene = make_nerfstudio_scene(tmp_path / "before")
    write_unit(scene)
    run_command(
        *("ns-train", "sparsenerf-lite", "--output-dir", tmp_path / "runs", "--max-num-iterations", 3),
        *("--machine.device-type", "cpu", "--vis", "tensorboard", "--steps-per-eval-image", 0),
        *("--pipeline.model.width", 16, "--pipeline.model.num-samples", 8, "--pipeline.evaluation.metrics", "psnr"),
        *("rgbd-data", "--data", scene),
    )
    (config,) = (tmp_path / "runs").rglob("config.yml")
    record = json.loads((config.parent / "resolved.json").read_text())["depth_maps"]
    assert record == {"unit": 0.001, "unit_from": "transforms.json, integer_depth_scale", "meaning": "z_depth"}
    scene.rename(tmp_path / "after")

    with pytest.raises(AssertionError, match="ns-fewshot retarget --load-config RUN --data DIR --output OUT"):
        run_command("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")

    out = tmp_path / "moved"
    other = make_nerfstudio_scene(tmp_path / "other", 9)
    flags = ("--load-config", config, "--output", out)
    run_command("ns-fewshot", "retarget", *flags, "--data", tmp_path / "after")
    run_command("ns-eval", "--load-config", out / "config.yml", "--output-path", tmp_path / "eval.json")
    assert 0 < json.loads((tmp_path / "eval.json").read_text())["results"]["psnr"] < 60
    with pytest.raises(AssertionError, match="expected the scene that the run was trained on"):
        run_command("ns-fewshot", "retarget", "--load-config", config, "--output", tmp_path / "x", "--data", other)
    assert not (tmp_path / "x").exists()
