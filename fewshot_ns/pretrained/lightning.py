"""Reading the weights of PyTorch Lightning checkpoints without Lightning, and without running code of theirs.

Beside the weights such a file holds states of callbacks, schedulers and hyperparameters: objects of foreign classes,
which torch's weights-only rules refuse. Here they are read as empty stand-ins, and only tensors are built.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Optional

import torch
from torch import Tensor

from fewshot_ns.utils.reading import reading

_BUILT = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.nn.parameter", "Parameter"),
}
"""What may be called while a file is read."""


class _StandIn:
    """Takes the place of an object of a foreign class, and keeps nothing of it."""

    def __init__(self, *args: Any, **fields: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """Drops an entry of a foreign list."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The named class where it is one of tensors, else one that keeps nothing."""
        return super().find_class(module, name) if (module, name) in _BUILT else _StandIn


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


_PICKLE: Any = SimpleNamespace(__name__="pickle", Unpickler=_Unpickler, load=_load)


def lightning_weights(path: Path) -> Optional[Dict[str, Tensor]]:
    """The tensors of a Lightning checkpoint's `state_dict`, on the CPU, by their names there.

    Args:
        path: a file of torch.save.

    Returns:
        None for a file of torch.save that is no Lightning checkpoint.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, found none")
    with reading(path, "a checkpoint of torch"):
        content = torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        return None
    return {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}
