"""Points drawn at random where the training cameras look."""

from __future__ import annotations

import math
from typing import Sequence

import torch

from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.data.stereo.views import StereoView

_FARTHEST = 100.0
"""Largest depth as a multiple of the smallest, where a scene goes on to infinity."""


def frusta_cloud(views: Sequence[StereoView], count: int, seed: int) -> SeedCloud:
    """Points behind random pixels of random photos, uniform in inverse depth between a view's near and far, with the
    colours of these pixels.

    Args:
        views: (V) training photos; masked pixels have no points.
        count: of points.
        seed: of the draw, which leaves the global generators alone.

    Returns:
        Radii are those of points that tile the images as a regular grid of so many would.

    Raises:
        ValueError: fewer than one point, or masks that leave no pixel.
    """
    if count < 1:
        raise ValueError(f"expected at least 1 random point, got {count}")
    allowed = [view.mask.nonzero() for view in views]
    pool = torch.cat([torch.cat([torch.full_like(own[:, :1], index), own], -1) for index, own in enumerate(allowed)])
    if len(pool) == 0:
        raise ValueError(f"the masks of {', '.join(view.name for view in views)} leave no pixel to draw points behind")
    generator = torch.Generator().manual_seed(seed)
    index, row, column = pool[torch.randint(len(pool), (count,), generator=generator)].unbind(-1)
    within, share = torch.rand(count, 2, generator=generator), torch.rand(count, generator=generator)
    apart = max(1.0, math.sqrt(len(pool) / count))
    positions, colours, radii = torch.zeros(count, 3), torch.zeros(count, 3), torch.zeros(count)
    for number, view in enumerate(views):
        mine = index == number
        far = min(view.far, _FARTHEST * view.near)
        z_depth = 1.0 / (1.0 / far + share[mine] * (1.0 / view.near - 1.0 / far))
        fx, fy, cx, cy = view.intrinsics.unbind()
        across = (column[mine] + within[mine, 0] - cx) / fx
        down = (row[mine] + within[mine, 1] - cy) / fy
        local = torch.stack([across, -down, -torch.ones_like(across)], dim=-1) * z_depth[:, None]
        positions[mine] = view.pose[:, 3] + local @ view.pose[:, :3].T
        colours[mine] = view.image[row[mine], column[mine]]
        radii[mine] = z_depth / view.intrinsics[:2].mean() * apart
    confirmed = torch.zeros(count, dtype=torch.bool)
    return SeedCloud(positions, colours, radii, index, confirmed, "random", tuple(view.name for view in views))
