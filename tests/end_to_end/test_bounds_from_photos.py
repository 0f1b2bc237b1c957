"""A capture that says nothing of near and far, by the real commands: training finds the two, all others use them."""

import json
import re
from pathlib import Path
from typing import Callable, Tuple

import pytest

pytestmark = pytest.mark.end_to_end


def near_and_far(run: Path) -> Tuple[float, float]:
    """Those of a run's config.yml."""
    text = (run / "config.yml").read_text()
    near, far = (re.search(rf"^ +{name}: ([0-9.]+)$", text, re.MULTILINE) for name in ("near", "far"))
    assert near is not None and far is not None
    return float(near.group(1)), float(far.group(1))


def test_bounds_are_found_once(run_command: Callable[..., str], bare_capture: Path, tmp_path: Path) -> None:
    def train(name: str, steps: int, *flags: object) -> Tuple[Path, str]:
        shown = run_command(
            *("ns-train", "stereo-nerf-lite", "--output-dir", tmp_path, "--timestamp", name),
            *("--machine.device-type", "cpu", "--vis", "tensorboard", "--max-num-iterations", steps),
            *("--steps-per-eval-image", 0, "--steps-per-eval-all-images", 0),
            *("--pipeline.datamanager.train-num-rays-per-batch", 64, "--pipeline.model.width", 16),
            *("--pipeline.model.num-samples", 8, "--pipeline.evaluation.metrics", "psnr"),
            *flags,
            *("fewshot-nerfstudio-data", "--data", bare_capture),
        )
        return tmp_path / "bare" / "stereo-nerf-lite" / name, " ".join(shown.split())

    first, shown = train("first", 3)
    near, far = near_and_far(first)
    assert 2.5 < near < 4.5 < 5.5 < far < 7.5, "the cameras alone say 1.2 and 13"
    assert f"near {near:g} and far {far:g} hold what the photos confirm (stereo)" in shown
    of_run = f"near {near:g}, far {far:g} (from the photos)"
    evaluation = ("ns-eval", "--load-config", first / "config.yml", "--output-path", tmp_path / "eval.json")
    evaluated = " ".join(run_command(*evaluation).split())
    assert of_run in evaluated and "hold what the photos confirm" not in evaluated
    assert json.loads((tmp_path / "eval.json").read_text())["results"]["psnr"] > 0
    resumed, shown = train("resumed", 5, "--load-dir", first / "nerfstudio_models")
    assert near_and_far(resumed) == (near, far)
    assert of_run in shown and "hold what the photos confirm" not in shown and "Resuming after step 2" in shown
    run_command(
        *("ns-render", "interpolate", "--load-config", resumed / "config.yml", "--pose-source", "train"),
        *("--interpolation-steps", 2, "--output-path", tmp_path / "video.mp4"),
    )
    assert (tmp_path / "video.mp4").stat().st_size > 0
