"""Importer of DietNeRF's released checkpoints, of the original and the JAX version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_ns.pretrained.weights import load_weights
from fewshot_ns.utils.optional_imports import require
from fewshot_ns.utils.reading import reading

State = Dict[str, Tensor]

_ORIGINAL_NAMES = {
    "pts_linears.": "trunk.",
    "views_linears.0.": "colour.",
    "feature_linear.": "bottleneck.",
    "alpha_linear.": "density.",
    "rgb_linear.": "rgb.",
    "output_linear.": "output.",
}
_NDARRAY, _SCALAR = 1, 3
"""Types of msgpack extensions in flax's format: an array and a scalar, both (shape, dtype, bytes)."""


def released_networks(path: Path, num_octaves: int, view_octaves: int) -> Optional[List[State]]:
    """Parameters of the coarse and, where there is one, the fine network of a released checkpoint.

    Args:
        path: `.tar` of the original (network_fn_state_dict, network_fine_state_dict; `module.` before names is
            dropped), or `checkpoint_N` of the JAX version in flax's msgpack format.
        num_octaves: octaves of the position encoding, whose columns the JAX version orders differently.
        view_octaves: octaves of the direction encoding.

    Returns:
        None for a training checkpoint of ours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, found none")
    if not is_torch_file(path):
        return _from_flax(path, num_octaves, view_octaves)
    state = load_weights(path)
    if "pipeline" in state:
        return None
    networks = [state[name] for name in ("network_fn_state_dict", "network_fine_state_dict") if state.get(name)]
    if not networks:
        raise ValueError(f"{path}: expected 'network_fn_state_dict' of DietNeRF, found {sorted(state)}")
    return [_from_original(each, path) for each in networks]


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as those of torch.save do, and not as one in flax's format."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04")


def _from_original(state: Mapping[str, Tensor], path: Path) -> State:
    renamed = {}
    for full_name, value in state.items():
        name = full_name.removeprefix("module.")
        prefix = next((prefix for prefix in _ORIGINAL_NAMES if name.startswith(prefix)), None)
        if prefix is None:
            raise ValueError(f"{path}: expected layers of DietNeRF's NeRF, found {full_name!r}")
        renamed[_ORIGINAL_NAMES[prefix] + name[len(prefix) :]] = value.float()
    return renamed


def _from_flax(path: Path, num_octaves: int, view_octaves: int) -> List[State]:
    with reading(path, "a checkpoint of torch or of flax"):
        tree = _read_flax(path.read_bytes())
    networks = list(_dense_networks(tree))
    if not networks:
        raise ValueError(f"{path}: expected networks of layers Dense_0, Dense_1, ..., found none")
    return [_from_dense_layers(network, num_octaves, view_octaves, path) for network in networks]


def _read_flax(content: bytes) -> Any:
    """A tree of dictionaries and arrays in flax's serialization format."""
    msgpack = require("msgpack", "priors")

    def decode(code: int, data: bytes) -> Any:
        if code not in (_NDARRAY, _SCALAR):
            return msgpack.ExtType(code, data)
        shape, dtype, raw = msgpack.unpackb(data, raw=True)
        # numpy has no bfloat16: its bits are the upper half of a float32's.
        if dtype == b"bfloat16":
            array = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
        else:
            array = np.frombuffer(raw, np.dtype(dtype.decode())).reshape(shape)
        return array[()] if code == _SCALAR else array

    try:
        return _joined(msgpack.unpackb(content, ext_hook=decode, raw=False, strict_map_key=False))
    except (msgpack.exceptions.UnpackException, msgpack.exceptions.ExtraData, UnicodeDecodeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _joined(tree: Any) -> Any:
    """The tree with the arrays that flax has split into chunks joined again."""
    if not isinstance(tree, dict):
        return tree
    if tree.get("__msgpack_chunked_array__"):
        shape, chunks = ([part[str(i)] for i in range(len(part))] for part in (tree["shape"], tree["chunks"]))
        return np.concatenate([np.ravel(chunk) for chunk in chunks]).reshape([int(side) for side in shape])
    return {name: _joined(value) for name, value in tree.items()}


def _dense_networks(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Networks of dense layers in the order of their names (MLP_0 is the coarse one), without optimizer state."""
    if not isinstance(tree, dict):
        return
    first = tree.get("Dense_0")
    if isinstance(first, dict) and isinstance(first.get("kernel"), np.ndarray):
        yield tree
        return
    for name in sorted(tree):
        if name not in ("state", "opt_state", "param_states"):
            yield from _dense_networks(tree[name])


def _from_dense_layers(network: Mapping[str, Any], num_octaves: int, view_octaves: int, path: Path) -> State:
    """Parameters of a network; jaxnerf's layers are trunk, density, bottleneck, colour branch and colour, in order."""
    count = sum(re.fullmatch(r"Dense_\d+", name) is not None for name in network)
    trunk = [f"trunk.{index}" for index in range(count - 4)]
    names = [*trunk, "density", "bottleneck", "colour", "rgb"]
    if count < 6 or not all(f"Dense_{index}" in network for index in range(count)):
        raise ValueError(f"{path}: expected a trunk and four more layers, found {sorted(network)}")
    order, view_order = _by_octave(num_octaves), _by_octave(view_octaves)
    width = network["Dense_0"]["kernel"].shape[1]
    state: State = {}
    for index, name in enumerate(names):
        kernel = np.asarray(network[f"Dense_{index}"]["kernel"], dtype=np.float32)
        state[f"{name}.weight"] = torch.from_numpy(_rows(kernel, name, width, order, view_order).T.copy())
        state[f"{name}.bias"] = torch.from_numpy(np.array(network[f"Dense_{index}"]["bias"], dtype=np.float32))
    return state


def _rows(
    kernel: npt.NDArray[np.float32],
    name: str,
    width: int,
    order: npt.NDArray[np.int64],
    view_order: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Reorders the rows (inputs) of a layer to ours; rows of unexpected number stay, and loading reports them."""
    if name == "trunk.0" and len(kernel) == len(order):
        return kernel[order]
    if name.startswith("trunk") and len(kernel) == width + len(order):
        return np.concatenate([kernel[width:][order], kernel[:width]])
    if name == "colour" and len(kernel) == width + len(view_order):
        return np.concatenate([kernel[:width], kernel[width:][view_order]])
    return kernel


def _by_octave(octaves: int) -> npt.NDArray[np.int64]:
    """Indices into [x, all sines, all cosines] that give [x, sines and cosines of octave 0, of octave 1, ...]."""
    sines = 3 + np.arange(3 * octaves).reshape(octaves, 1, 3)
    return np.concatenate([np.arange(3), np.concatenate([sines, sines + 3 * octaves], axis=1).ravel()])
