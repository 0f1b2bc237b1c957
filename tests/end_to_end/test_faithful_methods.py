"""The faithful methods through nerfstudio's commands: trained, resumed, evaluated, rendered, made small by flags."""

import json
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.end_to_end

SMALL = (
    *("--machine.device-type", "cpu", "--vis", "tensorboard", "--steps-per-eval-image", 0),
    *("--pipeline.model.width", 32, "--pipeline.model.num-samples", 16, "--pipeline.model.num-octaves", 8),
    *("--pipeline.datamanager.train-num-rays-per-batch", 64, "--pipeline.evaluation.download-weights", False),
    *("--pipeline.smoothness.num-patches", 1, "--pipeline.smoothness.num-poses", 20),
)


@pytest.fixture(scope="module")
def train_method(run_command: Callable[..., str], scene: Path, tmp_path_factory) -> Callable[..., Path]:
    """Runs `ns-train METHOD`, made small, and returns the run's folder."""
    outputs = tmp_path_factory.mktemp("faithful")

    def run(method: str, name: str, steps: int, *flags: object, parser_flags: tuple = ()) -> Path:
        run_command(
            *("ns-train", method, "--output-dir", outputs, "--timestamp", name, "--max-num-iterations", steps),
            *(*SMALL, *flags, "llff-data", "--data", scene, *parser_flags),
        )
        return outputs / "tiny" / method / name

    return run


@pytest.mark.parametrize(
    "method, terms",
    [
        ("sparsenerf", {"depth": ("num_quads", 16), "smoothness": ("num_patches", 0)}),
        ("regnerf", {"smoothness": ("num_patches", 1)}),
    ],
)
def test_train_and_evaluate(
    method: str, terms: dict, train_method: Callable[..., Path], run_command: Callable[..., str], tmp_path: Path
):
    run = train_method(method, "run", 12)
    checkpoint = torch.load(run / "nerfstudio_models" / "step-000000011.ckpt", weights_only=True)
    assert checkpoint["step"] == 11 and set(checkpoint["optimizers"]) == {"field"}
    resolved = json.loads((run / "resolved.json").read_text())
    assert resolved["training"]["max_num_iterations"] == 12
    assert resolved["training"]["schedules"] == [90000 if method == "sparsenerf" else 69768]
    assert resolved["model"]["ray_space"] == "ndc" and resolved["model"]["annealing"]["steps"] == 512
    assert {prior: (name, resolved[prior][name]) for prior, (name, _) in terms.items()} == terms
    run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "eval.json")
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert 0 < results["psnr"] < 60


def test_resume_with_unseen_views_is_bit_equal(train_method: Callable[..., Path]):
    half = train_method("regnerf", "half", 4)
    resumed = train_method("regnerf", "resumed", 8, "--load-dir", half / "nerfstudio_models")
    whole = train_method("regnerf", "whole", 8)
    states = [
        torch.load(run / "nerfstudio_models" / "step-000000007.ckpt", weights_only=True)["pipeline"]
        for run in (resumed, whole)
    ]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_render_of_a_faithful_run(train_method: Callable[..., Path], run_command: Callable[..., str], tmp_path: Path):
    run = train_method("free-sparsenerf", "run", 3)
    run_command(
        *("ns-render", "dataset", "--load-config", run / "config.yml", "--split", "test"),
        *("--image-format", "png", "--output-path", tmp_path, "--rendered-output-names", "rgb", "depth"),
    )
    import cv2

    images = sorted((tmp_path / "test").glob("rgb/**/*.png"))
    assert len(images) == 2
    for path in images:
        image = cv2.imread(str(path))
        assert image is not None and np.isfinite(image).all() and image.shape == (36, 48, 3)
