"""The states of the global random generators, as plain data that a checkpoint can hold."""

from __future__ import annotations

import random
from typing import Any, Dict, cast

import numpy as np
import torch


def capture_random_states() -> Dict[str, Any]:
    """Returns the states of Python's, numpy's and torch's generators as ints, floats, lists and tensors only, so that
    they load under `torch.load(weights_only=True)`."""
    version, words, gauss = random.getstate()
    legacy = cast(Dict[str, Any], np.random.get_state(legacy=False))
    return {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "bit_generator": str(legacy["bit_generator"]),
            "key": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Dict[str, Any]) -> None:
    """Puts the generators back to captured states.

    Args:
        states: what `capture_random_states` returned. States of CUDA devices that are not there are passed over.
    """
    python = states["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    captured = states["numpy"]
    np.random.set_state(
        {
            "bit_generator": captured["bit_generator"],
            "state": {"key": captured["key"].numpy().astype(np.uint32), "pos": captured["pos"]},
            "has_gauss": captured["has_gauss"],
            "gauss": captured["gauss"],
        }
    )
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
            torch.cuda.set_rng_state(state.cpu(), device)
