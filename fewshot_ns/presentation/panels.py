"""The panel of an evaluated view while training: source views, true image and both levels of the rendering."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fewshot_ns.presentation.pictures import colorize_depth, to_uint8

LEVELS = ("_coarse", "")
"""Suffixes of the outputs of the levels, in the order of the rows."""


def source_panel(
    sources: Sequence[Tensor], truth: Tensor, outputs: Mapping[str, Tensor], near: float, far: float
) -> Tensor:
    """[sources | truth | depth | rgb | alpha], a row for each level, the coarse one first.

    Args:
        sources: source views (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].
        outputs: `rgb` (H, W, 3), `depth` and `accumulation` (H, W, 1), the same with `_coarse` where there is a coarse
            level.
        near: distance of the first colour of the depth.
        far: distance of its last colour.

    Returns:
        (rows * H, (sources + 4) * W, 3) in [0, 1], on the CPU.

    Raises:
        ValueError: images of different sizes.
    """
    sizes = {tuple(image.shape[:2]) for image in (*sources, truth, outputs["rgb"])}
    if len(sizes) > 1:
        raise ValueError(f"panel: expected images of one size, got (height, width) {sorted(sizes)}")
    rows = []
    for level in LEVELS:
        if f"rgb{level}" not in outputs:
            continue
        depth = colorize_depth(outputs[f"depth{level}"], near, far)
        cells = [*sources, truth, depth, outputs[f"rgb{level}"], outputs[f"accumulation{level}"]]
        rows.append(np.concatenate([to_uint8(cell) for cell in cells], axis=1))
    return torch.from_numpy(np.concatenate(rows)).float() / 255.0
