"""Importer of pixelNeRF's released checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from torch import Tensor, nn

from fewshot_ns.pretrained.weights import load_weights

_PARTS = ("encoder.model.", "mlp_coarse.", "mlp_fine.")
"""Prefixes of the parameter names, which equal ours."""
_CONSTANTS = "code."
"""Prefix of frequencies and phases of the position encoding, which are constant."""


def released_state(path: Path, model: nn.Module) -> Optional[Dict[str, Tensor]]:
    """Parameters and statistics of `pixel_nerf_latest`, a bare state dict of the original's network.

    Args:
        path: the file.
        model: our model; encoder stages and a fine network that it lacks are left out.

    Returns:
        None for a training checkpoint of ours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, or a damaged one.
    """
    state: Dict[str, Any] = load_weights(path)
    if {"step", "pipeline"} <= state.keys():
        return None
    state = {name.removeprefix("module."): value for name, value in state.items()}
    foreign = sorted(name for name in state if not name.startswith((*_PARTS, _CONSTANTS)))
    if foreign or not any(name.startswith(_PARTS) for name in state):
        raise ValueError(
            f"{path}: expected pixelNeRF's weights (encoder.model.*, mlp_coarse.*, mlp_fine.*), found "
            f"{', '.join(foreign[:5] or sorted(state)[:5]) or 'nothing'}"
        )
    own = model.state_dict()
    unused = [f"encoder.model.layer{index}." for index in range(1, 5)] + ["mlp_fine."]
    unused = tuple(prefix for prefix in unused if not any(name.startswith(prefix) for name in own))
    return {name: value for name, value in state.items() if not name.startswith((_CONSTANTS, *unused))}
