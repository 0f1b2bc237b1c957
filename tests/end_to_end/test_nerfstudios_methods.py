"""Methods of nerfstudio's own on this package's dataparsers, through `ns-train`."""

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import torch
import torchvision

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

SMALL = (
    *("--machine.device-type", "cpu", "--vis", "tensorboard", "--max-num-iterations", 3),
    *("--steps-per-eval-image", 0, "--steps-per-eval-all-images", 0),
    *("--pipeline.datamanager.train-num-rays-per-batch", 64, "--pipeline.model.num-nerf-samples-per-ray", 8),
    *("--pipeline.model.num-proposal-samples-per-ray", 16, 8),
)


@pytest.fixture
def alexnet(environment: Dict[str, str]) -> None:
    """AlexNet for the LPIPS that nerfstudio's models build, where torchvision looks for it; its weights are zeros."""
    state = torchvision.models.alexnet(weights=None).state_dict()
    folder = Path(environment["XDG_CACHE_HOME"]) / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    name = Path(torchvision.models.AlexNet_Weights.DEFAULT.url).name
    torch.save({key: torch.zeros(1).expand(value.shape) for key, value in state.items()}, folder / name)


@pytest.mark.usefixtures("alexnet")
@pytest.mark.parametrize("method", ["nerfacto", "depth-nerfacto"])
def test_photos_and_depth_at_half_their_size(
    method: str, scene: Path, run_command: Callable[..., str], tmp_path: Path
) -> None:
    depth: List[Any] = []
    if method == "depth-nerfacto":
        depth = ["--depth-dir", scene / "exact_depth", "--depth-polarity", "distance", "--depth-unit", 1]
    places = ("--output-dir", tmp_path / "out", "--experiment-name", "tiny", "--timestamp", "run")
    said = run_command(
        "ns-train", method, *places, *SMALL, "llff-data", "--data", scene, "--downscale-factor", 2, *depth
    )
    run = tmp_path / "out" / "tiny" / method / "run"
    assert (run / "nerfstudio_models" / "step-000000002.ckpt").is_file()
    assert "pixels for nerfstudio's own datasets" in said.replace("\n", " ") or method == "depth-nerfacto"
    assert "pseudodepth" not in said
