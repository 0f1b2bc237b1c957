"""States of the global random generators as plain data for checkpoints."""

from __future__ import annotations

import random
from typing import Any, Dict, cast

import numpy as np
import torch


def capture_random_states() -> Dict[str, Any]:
    """States of the generators of Python, numpy and torch, as ints, floats, lists and tensors that load under
    `torch.load(weights_only=True)`."""
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
    """Restores captured states.

    Args:
        states: result of `capture_random_states`; states of absent CUDA devices are ignored.
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
