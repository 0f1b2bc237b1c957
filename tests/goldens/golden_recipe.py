"""Parameters of the reference networks that are too large to store: drawn again from their recipe."""

from __future__ import annotations

from typing import Dict

import numpy as np
import torch
from golden_arrays import GoldenFile


def recipe_parameters(golden: GoldenFile, prefix: str = "") -> Dict[str, torch.Tensor]:
    """Parameters by the names of the original's state dict, with their sums checked.

    Args:
        golden: file with the arrays `recipe_*`.
        prefix: what stands before `recipe_`.
    """
    base = int(golden[f"{prefix}recipe_base"])
    columns = [golden[f"{prefix}recipe_{name}"] for name in ("name", "shape", "offset", "scale", "abs", "sum")]
    parameters = {}
    for index, (name, shape, offset, scale, absolute, total) in enumerate(zip(*columns, strict=True)):
        sides = tuple(int(side) for side in str(shape).split(",") if side)
        draws = np.random.default_rng(base + index).standard_normal(sides).astype(np.float32)
        value = np.float32(offset) + np.float32(scale) * (np.abs(draws) if absolute else draws)
        np.testing.assert_allclose(value.sum(dtype=np.float64), total, rtol=1e-6, atol=1e-6, err_msg=str(name))
        parameters[str(name)] = torch.from_numpy(value)
    return parameters
