"""Lightning checkpoints of mipnerf_pl and its branch depth-mipnerf, from files with their keys, shapes and extras."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Optional

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor
from torch.nn import functional as F

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.field_components.encodings import integrated_positional_encoding, positional_encoding
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModelConfig
from fewshot_ns.models.mipnerf import MipNeRFModelConfig
from fewshot_ns.pretrained.lightning import lightning_weights
from fewshot_ns.scripts.runs import released_method, released_pipeline
from fewshot_ns.utils.checkpoints import CheckpointMismatchError

State = Dict[str, Tensor]


def build(kind: Any, **fields: Any) -> Any:
    torch.manual_seed(7)
    geometry = SceneGeometry("metric", 2.0, 6.0, "cone", "white")
    record = FewShotMetadata(geometry, "test", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    return kind(**fields).setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})


def network(depth: int, skip: int, colour: bool = True) -> State:
    """Parameters of the original's network of 256 columns, by its names below `mip_nerf.mlp`."""
    columns = [96] + [256 + (96 if (index - 1) % skip == 0 and index > 1 else 0) for index in range(1, depth)]
    shapes = {f"layers.{index}.0": (256, count) for index, count in enumerate(columns)}
    shapes |= {"density_layer": (1, 256), "extra_layer": (256, 256), "view_layers.0.0": (128, 283)}
    shapes |= {"color_layer": (3, 128)} if colour else {}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = 0.1 * torch.randn(shape), 0.1 * torch.randn(shape[0])
    return state


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Function (state) -> file as Lightning writes it, with objects of classes that are gone when it is read."""

    def lightning(state: State, **extras: Any) -> Path:
        module = ModuleType("pytorch_lightning")
        callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning"})
        options = type("AttributeDict", (dict,), {"__module__": "pytorch_lightning"})
        vars(module).update(ModelCheckpoint=callback, AttributeDict=options)
        monkeypatch.setitem(sys.modules, "pytorch_lightning", module)
        content = {
            "epoch": 3,
            "global_step": 300000,
            "pytorch-lightning_version": "1.5.2",
            "state_dict": state,
            "callbacks": {callback: {"best_model_score": torch.tensor(35.2)}},
            "optimizer_states": [{"param_groups": [{"lr": np.float64(5e-6)}]}],
            "lr_schedulers": [{"_last_lr": [np.float64(5e-6)]}],
            "hyper_parameters": options(seed=4),
            **extras,
        }
        torch.save(content, tmp_path / "last.ckpt")
        monkeypatch.delitem(sys.modules, "pytorch_lightning")
        return tmp_path / "last.ckpt"

    return lightning


def named(mlp: State, proposal: Optional[State] = None, **more: Tensor) -> State:
    """A system's state dict."""
    parts = {"mlp": mlp, "prop_mlp": proposal or {}}
    state = {f"mip_nerf.{part}.{name}": value for part, network in parts.items() for name, value in network.items()}
    return {**state, **more}


def original(state: State, encoded: Tensor, skip: int = 4) -> Tensor:
    """What the original's trunk gives for encodings, layer by layer."""
    x = encoded
    for index in range(sum(name.startswith("layers.") for name in state) // 2):
        x = torch.relu(F.linear(x, state[f"layers.{index}.0.weight"], state[f"layers.{index}.0.bias"]))
        x = torch.cat([x, encoded], dim=-1) if index > 0 and index % skip == 0 else x
    return x


def test_mipnerf_computes_what_the_original_does(write: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    mlp = network(8, 4)
    path = write(named(mlp))
    model = build(MipNeRFModelConfig)
    assert sum(value.numel() for value in mlp.values()) == sum(value.numel() for value in model.field.parameters())
    model.start_from(path)
    means, variances = torch.randn(4, 3, 3), 0.01 * torch.rand(4, 3, 3)
    directions = F.normalize(torch.randn(4, 3), dim=-1)
    x = original(mlp, integrated_positional_encoding(means, variances, 16))
    density = F.softplus(F.linear(x, mlp["density_layer.weight"], mlp["density_layer.bias"])[..., 0] - 1.0)
    view = positional_encoding(directions, 4)[:, None].expand(-1, 3, -1)
    bottleneck = F.linear(x, mlp["extra_layer.weight"], mlp["extra_layer.bias"])
    hidden = F.linear(torch.cat([bottleneck, view], dim=-1), mlp["view_layers.0.0.weight"], mlp["view_layers.0.0.bias"])
    rgb = torch.sigmoid(F.linear(torch.relu(hidden), mlp["color_layer.weight"], mlp["color_layer.bias"]))
    found_density, found_rgb = model.field(means, variances, directions)
    torch.testing.assert_close(found_density, density, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_rgb, rgb * 1.002 - 0.001, rtol=1e-4, atol=1e-5)
    assert released_method(path) == "mipnerf-fewshot"


def test_depth_mipnerf_takes_the_proposal_network_and_the_spread(write: Callable[..., Path]) -> None:
    torch.manual_seed(1)
    mlp, proposal = network(8, 4), network(4, 8, colour=False)
    path = write(named(mlp, proposal, **{"mip_nerf.depth_network.variance": torch.tensor(2.5)}))
    model = build(DepthMipNeRFModelConfig)
    model.start_from(path)
    assert model.log_depth_spread.item() == -2.5
    means, variances = torch.randn(4, 3, 3), 0.01 * torch.rand(4, 3, 3)
    x = original(proposal, integrated_positional_encoding(means, variances, 16), skip=8)
    density = F.softplus(F.linear(x, proposal["density_layer.weight"], proposal["density_layer.bias"])[..., 0] - 1.0)
    torch.testing.assert_close(model.proposal(means, variances), density, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.field.trunk[5].weight, mlp["layers.5.0.weight"])
    assert released_method(path) == "depth-mipnerf"
    # The branch's last version has no unused layers, and no spread.
    used = {name: value for name, value in proposal.items() if name.startswith(("layers.", "density_layer."))}
    other = build(DepthMipNeRFModelConfig)
    other.start_from(write(named(mlp, used)))
    assert other.log_depth_spread.item() == -3.0
    assert torch.equal(other.proposal.density.weight, proposal["density_layer.weight"])


def test_it_renders_without_the_scene(write: Callable[..., Path]) -> None:
    pipeline: Any = released_pipeline(write(named(network(8, 4))), None)
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    camera.rescale_output_resolution(4 / int(camera.width))
    with torch.no_grad():
        rgb = pipeline.model.get_outputs_for_camera(camera)["rgb"]
    assert rgb.shape == (4, 4, 3) and rgb.isfinite().all()


def test_what_does_not_fit_is_named(write: Callable[..., Path]) -> None:
    mlp, proposal = network(8, 4), network(4, 8)
    with pytest.raises(ValueError, match=r"found plain mip-NeRF, which the method mipnerf-fewshot reads"):
        build(DepthMipNeRFModelConfig).start_from(write(named(mlp)))
    with pytest.raises(ValueError, match=r"prop_mlp.*the method depth-mipnerf has one"):
        build(MipNeRFModelConfig).start_from(write(named(mlp, proposal)))
    with pytest.raises(ValueError, match=r"found mip_nerf.mlp.view_layers.1.0.bias"):
        build(MipNeRFModelConfig).start_from(write(named({**mlp, "view_layers.1.0.bias": torch.zeros(128)})))
    with pytest.raises(ValueError, match=r"expected mipnerf_pl's mip-NeRF \(mip_nerf.mlp.*found encoder.weight"):
        build(MipNeRFModelConfig).start_from(write({"encoder.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointMismatchError, match=r"trunk.0.weight: expected \(16, 96\), found \(256, 96\)"):
        build(MipNeRFModelConfig, width=16).start_from(write(named(mlp)))


class Harmful:
    """Makes a file where it is unpickled in the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_no_code_of_the_file_runs(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(named(network(8, 4)), callbacks=[Harmful(tmp_path / "made")])
    state = lightning_weights(path)
    assert state is not None and "mip_nerf.mlp.density_layer.bias" in state
    assert not (tmp_path / "made").exists()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"last.ckpt: expected a checkpoint of torch, found a damaged file"):
        lightning_weights(path)
