"""Released checkpoints of DietNeRF, from files of the layout of both codes, and a start from a run of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.fields.nerf_field import NeRFField
from fewshot_ns.models.nerf import NeRFModel, NeRFModelConfig
from fewshot_ns.utils.checkpoints import CheckpointMismatchError

SMALL = {"width": 8, "num_layers": 4, "skip_layer": 3, "num_octaves": 3, "view_octaves": 2, "colour_width": 6}
ORIGINAL = {
    "trunk.": "pts_linears.",
    "colour.": "views_linears.0.",
    "bottleneck.": "feature_linear.",
    "density.": "alpha_linear.",
    "rgb.": "rgb_linear.",
}


def build(seed: int = 0, **fields: Any) -> NeRFModel:
    torch.manual_seed(seed)
    geometry = SceneGeometry("metric", 2.0, 6.0, background="white")
    record = FewShotMetadata(geometry, "test", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    config: Any = NeRFModelConfig(**{**SMALL, "num_samples": 6, "num_importance_samples": 5, **fields})
    return config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})


def networks(model: NeRFModel) -> Dict[str, NeRFField]:
    assert model.fine is not None
    return {"coarse": model.coarse, "fine": model.fine}


def equal(first: NeRFModel, second: NeRFModel) -> bool:
    pairs = zip(first.get_param_groups()["field"], second.get_param_groups()["field"], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def write_tar(path: Path, model: NeRFModel, prefix: str = "module.") -> None:
    """A checkpoint as the original saves it: both networks below DataParallel, the optimizer, the step."""
    states = {}
    for name, network in networks(model).items():
        states[name] = {
            prefix + next(o + key[len(n) :] for n, o in ORIGINAL.items() if key.startswith(n)): value
            for key, value in network.state_dict().items()
        }
    optimizer = torch.optim.Adam(model.get_param_groups()["field"]).state_dict()
    content = {"global_step": 200000, "network_fn_state_dict": states["coarse"]}
    torch.save({**content, "network_fine_state_dict": states["fine"], "optimizer_state_dict": optimizer}, path)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_the_original(prefix, tmp_path):
    released, ours = build(), build(seed=1)
    write_tar(tmp_path / "200000.tar", released, prefix)
    assert not equal(ours, released)
    ours.start_from(tmp_path / "200000.tar")
    assert equal(ours, released)


class JaxNet:
    """A network of jaxnerf: encoding [x, sines, cosines], skip input [activations, encoding], kernels [in, out]."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        encoded, view = 3 + 6 * SMALL["num_octaves"], 3 + 6 * SMALL["view_octaves"]
        width, colour = SMALL["width"], SMALL["colour_width"]
        inputs = [encoded, *[width] * (SMALL["num_layers"] - 1)]
        inputs[SMALL["skip_layer"]] += encoded
        shapes = [*((n, width) for n in inputs), (width, 1), (width, width), (width + view, colour), (colour, 3)]
        self.layers = [(random.normal(size=shape) / 3, random.normal(size=shape[1]) / 3) for shape in shapes]

    def tree(self) -> Dict[str, Any]:
        return {
            f"Dense_{index}": {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
            for index, (kernel, bias) in enumerate(self.layers)
        }

    @staticmethod
    def encode(x: np.ndarray, octaves: int) -> np.ndarray:
        scaled = np.concatenate([2.0**k * x for k in range(octaves)], axis=-1)
        return np.concatenate([x, np.sin(scaled), np.cos(scaled)], axis=-1)

    def __call__(self, points: np.ndarray, dirs: np.ndarray) -> np.ndarray:
        encoded = self.encode(points, SMALL["num_octaves"])
        *trunk, density, bottleneck, colour, rgb = self.layers
        x = encoded
        for index, (kernel, bias) in enumerate(trunk):
            x = np.concatenate([x, encoded], axis=-1) if index == SMALL["skip_layer"] else x
            x = np.maximum(x @ kernel + bias, 0)
        hidden = np.concatenate([x @ bottleneck[0] + bottleneck[1], self.encode(dirs, SMALL["view_octaves"])], axis=-1)
        hidden = np.maximum(hidden @ colour[0] + colour[1], 0)
        return np.concatenate([hidden @ rgb[0] + rgb[1], x @ density[0] + density[1]], axis=-1)


def to_flax(tree: Any, chunked: bool = False) -> bytes:
    """Bytes of a tree in flax's serialization format."""
    msgpack = pytest.importorskip("msgpack")

    def pack(array: np.ndarray) -> Any:
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True))

    def convert(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: convert(value) for name, value in node.items()}
        if not isinstance(node, np.ndarray):
            return node
        if not chunked or node.size < 2:
            return pack(node)
        halves = np.split(node.ravel(), [node.size // 2])
        shape, chunks = ({str(i): part for i, part in enumerate(parts)} for parts in (node.shape, map(pack, halves)))
        return {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks}

    return msgpack.packb(convert(tree), use_bin_type=True)


def flax_state(nets: Dict[str, JaxNet]) -> Dict[str, Any]:
    """A train state as jaxnerf's optimizer of the time keeps it, moments included."""
    params = {name: net.tree() for name, net in nets.items()}
    moments = {name: {"Dense_0": {"kernel": np.zeros((2, 2), np.float32)}} for name in nets}
    return {"optimizer": {"state": {"step": 1, "param_states": moments}, "target": {"params": params}}}


@pytest.mark.parametrize("chunked", [False, True])
def test_the_jax_version(chunked, tmp_path):
    nets = {"MLP_0": JaxNet(0), "MLP_1": JaxNet(1)}
    path = tmp_path / "checkpoint_200000"
    path.write_bytes(to_flax(flax_state(nets), chunked))
    model = build()
    model.start_from(path)
    random = np.random.default_rng(2)
    points, dirs = random.normal(size=(9, 3)), random.normal(size=(9, 3))
    for net, network in zip(nets.values(), networks(model).values(), strict=True):
        ours = network.double().raw(torch.from_numpy(points)[:, None], torch.from_numpy(dirs))
        found = torch.cat([ours[1][:, 0], ours[0]], dim=-1).detach().numpy()
        np.testing.assert_allclose(found, net(points, dirs), rtol=1e-4, atol=1e-5)


def test_weights_in_half_precision(tmp_path):
    msgpack = pytest.importorskip("msgpack")
    nets = {"MLP_0": JaxNet(0), "MLP_1": JaxNet(1)}
    content = to_flax(flax_state(nets))
    path = tmp_path / "checkpoint_1"

    def halve(code: int, data: bytes) -> Any:
        shape, _, raw = msgpack.unpackb(data, raw=True)
        upper = (np.frombuffer(raw, np.uint32) >> 16).astype(np.uint16)
        return msgpack.ExtType(code, msgpack.packb((shape, "bfloat16", upper.tobytes()), use_bin_type=True))

    path.write_bytes(msgpack.packb(msgpack.unpackb(content, ext_hook=halve, raw=False), use_bin_type=True))
    model = build()
    model.start_from(path)
    expected: Tensor = torch.from_numpy(nets["MLP_0"].layers[4][0][:, 0].astype(np.float32))
    torch.testing.assert_close(model.coarse.density.weight.detach()[0], expected, rtol=1e-2, atol=1e-3)


def test_a_run_of_our_own(tmp_path):
    trained, ours = build(), build(seed=1)
    for name, value in (("ray_bounds", 2.0), ("focus_point", 1.0), ("scene_radius", 1.5)):
        trained.get_buffer(name).fill_(value)
    state = {f"_model.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"step": 7, "pipeline": state}, tmp_path / "step-7.ckpt")
    ours.start_from(tmp_path / "step-7.ckpt")
    assert equal(ours, trained)
    assert all(torch.equal(value, ours.get_buffer(name)) for name, value in trained.named_buffers(recurse=False))


def test_files_that_do_not_fit(tmp_path):
    write_tar(tmp_path / "small.tar", build())
    with pytest.raises(CheckpointMismatchError, match=r"small.tar \(coarse network\)(.|\n)*trunk.0.weight"):
        build(width=16).start_from(tmp_path / "small.tar")
    with pytest.raises(CheckpointMismatchError, match="small.tar: expected 1 networks, found 2"):
        build(num_importance_samples=0).start_from(tmp_path / "small.tar")
    torch.save({"weights": {}}, tmp_path / "other.tar")
    with pytest.raises(ValueError, match="other.tar: expected 'network_fn_state_dict' of DietNeRF, found .*weights"):
        build().start_from(tmp_path / "other.tar")
    (tmp_path / "noise").write_bytes(b"\xc1 no checkpoint")
    with pytest.raises(ValueError, match="noise: expected a checkpoint of torch or of flax"):
        build().start_from(tmp_path / "noise")
    (tmp_path / "empty").write_bytes(to_flax({"optimizer": {"target": {"bias": np.zeros(3)}}}))
    with pytest.raises(ValueError, match="empty: expected networks of layers Dense_0"):
        build().start_from(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="nothing.tar"):
        build().start_from(tmp_path / "nothing.tar")
