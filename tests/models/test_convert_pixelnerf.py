"""Released checkpoints of pixelNeRF, from files with the original's keys and shapes, and a start from a run of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor
from torchvision.models import resnet34

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.encoders.resnet import ResNetEncoderConfig
from fewshot_ns.models.pixelnerf import PixelNeRFModel, PixelNeRFModelConfig
from fewshot_ns.utils.checkpoints import CheckpointMismatchError


def build(config: Any = None, **fields: Any) -> PixelNeRFModel:
    config = PixelNeRFModelConfig(encoder=ResNetEncoderConfig(pretrained=False), **fields) if config is None else config
    record = FewShotMetadata(SceneGeometry("metric", 1.0, 3.0), "test", "train", (0,), (0,), (0,), torch.eye(4)[None])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    return config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})


def original_shapes() -> Dict[str, tuple]:
    """Keys and shapes of `pixel_nerf_latest`: ResNet-34 without classifier, both networks, the encoding."""
    encoder = resnet34(weights=None).state_dict()
    shapes = {f"encoder.model.{name}": tuple(v.shape) for name, v in encoder.items() if not name.startswith("fc.")}
    for network in ("mlp_coarse", "mlp_fine"):
        layers = {"lin_in": (512, 42), "lin_out": (4, 512), **{f"lin_z.{i}": (512, 512) for i in range(3)}}
        layers |= {f"blocks.{i}.fc_{j}": (512, 512) for i in range(5) for j in range(2)}
        for name, shape in layers.items():
            shapes[f"{network}.{name}.weight"], shapes[f"{network}.{name}.bias"] = shape, shape[:1]
    return {**shapes, "code._freqs": (1, 12, 1), "code._phases": (1, 12, 1)}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state: Dict[str, Tensor] = {
        name: torch.tensor(7) if name.endswith("num_batches_tracked") else torch.rand(shape)
        for name, shape in original_shapes().items()
    }
    path = tmp_path_factory.mktemp("released") / "pixel_nerf_latest"
    torch.save(state, path)
    return path


def test_sizes():
    model = build()
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.mlp_coarse, model)]
    assert counts == [21284672, 3438596, 28161864]
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    buffers = {"ray_bounds", "focus_point", "scene_radius", "device_indicator_param"}
    assert {name: shape for name, shape in own.items() if name not in buffers} == {
        name: shape for name, shape in original_shapes().items() if not name.startswith("code.")
    }


def test_the_original(released: Path):
    model, state = build(), torch.load(released, weights_only=True)
    model.start_from(released)
    for name, value in model.state_dict().items():
        if name in state:
            assert torch.equal(value, state[name]), name
    assert model.state_dict().keys() & state.keys() == {name for name in state if not name.startswith("code.")}


def test_parts_that_a_model_does_not_have(released: Path):
    encoder = ResNetEncoderConfig(pretrained=False, keep_unused=False)
    model = build(PixelNeRFModelConfig(encoder=encoder, num_importance_samples=0, num_depth_samples=0))
    model.start_from(released)
    state = torch.load(released, weights_only=True)
    assert torch.equal(model.mlp_coarse.lin_out.weight, state["mlp_coarse.lin_out.weight"])
    with pytest.raises(CheckpointMismatchError, match="mlp_coarse.lin_in.weight"):
        build(width=64).start_from(released)


def test_other_files(tmp_path: Path):
    model = build(PixelNeRFModelConfig(encoder=ResNetEncoderConfig("resnet18", 1, keep_unused=False), width=8))
    path = tmp_path / "weights"
    with pytest.raises(FileNotFoundError, match="weights: expected a checkpoint file"):
        model.start_from(path)
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"expected pixelNeRF's weights.*found layer.weight"):
        model.start_from(path)
    own = {f"_model.{name}": value + 1 for name, value in model.state_dict().items()}
    torch.save({"step": 3, "pipeline": own}, path)
    model.start_from(path)
    assert all(torch.equal(value, own[f"_model.{name}"]) for name, value in model.state_dict().items())
