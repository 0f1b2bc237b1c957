"""Importer of mipnerf_pl's checkpoints: mip-NeRF in PyTorch Lightning, and depth-mipnerf, which is a branch of it.

The layout is that of hjxwhy/mipnerf_pl and AlexSheldrick/mipnerf_pl: `mip_nerf.mlp.*` is the network of colour and
density, `mip_nerf.prop_mlp.*` the proposal network, whose colour branch is never used, and
`mip_nerf.depth_network.variance` minus the logarithm of the spread of depth-guided samples. Columns of both encodings
are in our order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Optional

from torch import Tensor

from fewshot_ns.pretrained.lightning import lightning_weights

State = Dict[str, Tensor]

_PREFIX = "mip_nerf."
_LAYERS = (
    (re.compile(r"layers\.(\d+)\.0\.(weight|bias)"), r"trunk.\1.\2"),
    (re.compile(r"density_layer\.(weight|bias)"), r"density.\1"),
    (re.compile(r"extra_layer\.(weight|bias)"), r"bottleneck.\1"),
    (re.compile(r"view_layers\.0\.0\.(weight|bias)"), r"colour.\1"),
    (re.compile(r"color_layer\.(weight|bias)"), r"rgb.\1"),
)
"""Names of layers there and here."""
_OF_PROPOSALS = ("trunk.", "density.")
"""What the proposal network uses."""
_SPREAD = "depth_network.variance"


@dataclass(frozen=True)
class ReleasedMipNeRF:
    """Parameters of a released checkpoint by our names."""

    field: State
    """Of `MipNeRFField`."""
    proposal: Optional[State]
    """Of `ProposalField`; None in plain mip-NeRF."""
    log_depth_spread: Optional[Tensor]
    """Scalar; None where the file has none."""


def released_mipnerf(path: Path) -> Optional[ReleasedMipNeRF]:
    """Parameters of a checkpoint of mipnerf_pl.

    Args:
        path: `.ckpt` of Lightning, with `state_dict`.

    Returns:
        None for a file of torch.save that is no Lightning checkpoint, such as a training checkpoint of ours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a Lightning checkpoint of another network, or a damaged file.
    """
    state = lightning_weights(path)
    if state is None:
        return None
    own = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    parts: Dict[str, State] = {"mlp": {}, "prop_mlp": {}}
    spread: Optional[Tensor] = None
    for name, value in own.items():
        part, _, layer = name.partition(".")
        ours = _our_name(layer)
        if name == _SPREAD:
            spread = -value.float()
        elif part in parts and ours is not None:
            parts[part][ours] = value.float()
        else:
            raise ValueError(f"{path}: expected layers of mipnerf_pl's mip-NeRF, found {_PREFIX}{name}")
    if not parts["mlp"]:
        found = ", ".join(sorted(state)[:5]) or "nothing"
        raise ValueError(f"{path}: expected mipnerf_pl's mip-NeRF ({_PREFIX}mlp.*), found {found}")
    proposal = _used(parts["prop_mlp"])
    return ReleasedMipNeRF(parts["mlp"], proposal or None, spread)


def _our_name(layer: str) -> Optional[str]:
    for pattern, ours in _LAYERS:
        found = pattern.fullmatch(layer)
        if found is not None:
            return found.expand(ours)
    return None


def _used(proposal: Mapping[str, Tensor]) -> State:
    return {name: value for name, value in proposal.items() if name.startswith(_OF_PROPOSALS)}
