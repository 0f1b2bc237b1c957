"""The published weights of IterMVS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch

from fewshot_ns.pretrained.itermvs.network import IterMVS
from fewshot_ns.pretrained.weights import WeightsSpec, load_weights, resolve_weights
from fewshot_ns.utils.checkpoints import load_strictly

_PARTS = ("feature_net.", "iter_mvs.")


def find_itermvs(weights: Optional[Path], flag: str) -> Path:
    """File of the weights on this disk.

    Args:
        weights: the user's own file, or a folder with it; None: the folder that FEWSHOT_WEIGHTS names.
        flag: command line flag that takes the path, for the message.

    Raises:
        WeightsNotFoundError: it was not found.
    """
    spec = WeightsSpec(
        name="IterMVS, trained on BlendedMVS",
        filenames=("itermvs_blendedmvs.safetensors", "itermvs_blendedmvs.ckpt", "model_000015.ckpt"),
        flag=flag,
        sha256="8563268624cf203750212a0e0bfa4825a5af05c0005a225ef02f138258b0fc42",
        source="checkpoints/blendedmvs/model_000015.ckpt of https://github.com/FangjinhuaWang/IterMVS (MIT licence)",
    )
    return resolve_weights(spec, weights)


def load_itermvs(path: Path) -> IterMVS:
    """The network with the weights of a file, for evaluation.

    Args:
        path: a file of the authors (parameters below 'model', named `module.*`), or their parameters alone, also as
            safetensors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one of another network.
        CheckpointMismatchError: parameters are missing, unknown, or of another shape.
    """
    content: Dict[str, Any] = load_weights(path)
    inner = content.get("model", content)
    state = {name.removeprefix("module."): value for name, value in (inner if isinstance(inner, dict) else {}).items()}
    if not any(name.startswith(_PARTS) for name in state):
        raise ValueError(
            f"{path}: expected weights of IterMVS ({', '.join(f'{part}*' for part in _PARTS)}), "
            f"found {', '.join(map(str, list(state)[:5])) or 'nothing'}"
        )
    # The random initialisation that the weights replace must not move the random state of a training run.
    with torch.random.fork_rng(devices=[]):
        network = IterMVS()
    load_strictly(network, state, path)
    return network.eval().requires_grad_(False)
