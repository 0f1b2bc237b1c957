"""Points from depth: on the surfaces of the built-in scene, once per surface; holes filled from around."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Tuple

import numpy as np
import pytest
import torch
from stereo_scenes import still_life
from torch import Tensor

from fewshot_ns.data.seeds.depth import depth_cloud, filled_depth
from fewshot_ns.data.stereo.views import StereoView, ViewDepth

WIDTH, HEIGHT = 48, 36


@pytest.fixture(scope="module")
def exact() -> Tuple[List[StereoView], List[Tensor]]:
    """Three views of the built-in scene, and their exact depth."""
    return still_life(WIDTH, HEIGHT, (0, 6, 12))


def nearest_of(points: Tensor, others: Tensor) -> Tuple[Tensor, Tensor]:
    """(P,) distance to the nearest of other points, and which it is; exactly, not by products as `cdist`."""
    nearest = (points[:, None] - others).norm(dim=-1).min(dim=1)
    return nearest.values, nearest.indices


def depths_of(exact: List[Tensor], sigma: float = 0.01) -> List[ViewDepth]:
    return [ViewDepth(depth.clone(), sigma * depth, torch.ones_like(depth, dtype=torch.bool)) for depth in exact]


def test_points_lie_on_the_surfaces(exact: Tuple[List[StereoView], List[Tensor]]) -> None:
    views, depths = exact
    cloud = depth_cloud("stereo", views, depths_of(depths))
    assert cloud.positions.dtype == cloud.colours.dtype == cloud.radii.dtype == torch.float32
    assert len(cloud) == len(cloud.colours) == len(cloud.view) == len(cloud.radii) and cloud.confirmed.all()
    for index, (view, depth) in enumerate(zip(views, depths, strict=True)):
        place, z_depth = view.project(cloud.positions)
        # No point hangs before what a view shows around it, and its own view shows it.
        nearest = -torch.nn.functional.max_pool2d(-depth[None], 3, 1, 1)[0]
        inside = view.contains(place) & (z_depth > 0)
        column, row = place[inside].floor().long().unbind(-1)
        surface = nearest[row.clamp(0, HEIGHT - 1), column.clamp(0, WIDTH - 1)]
        assert (z_depth[inside] / surface > 0.97).float().mean() > 0.995
        mine = cloud.view == index
        column, row = (place[mine] - 0.5).round().long().unbind(-1)
        torch.testing.assert_close(z_depth[mine], depth[row, column], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(cloud.colours[mine], view.image[row, column])
        torch.testing.assert_close(cloud.radii[mine], z_depth[mine] / view.intrinsics[0], rtol=1e-4, atol=1e-6)
    assert cloud.source == f"stereo: {len(cloud)} points from views view_00.png, view_06.png, view_12.png"


def test_a_surface_is_taken_once(exact: Tuple[List[StereoView], List[Tensor]]) -> None:
    views, depths = exact
    cloud = depth_cloud("stereo", views, depths_of(depths))
    assert len(depth_cloud("stereo", views, depths_of(depths), thin=False)) == 3 * WIDTH * HEIGHT
    per_view = [(cloud.view == index).sum() for index in range(3)]
    assert per_view[0] == WIDTH * HEIGHT and 0 < per_view[2] < 0.6 * WIDTH * HEIGHT
    # Of later views only what no earlier one shows as deep: point by point, for the second view.
    for row in range(0, HEIGHT, 5):
        for column in range(0, WIDTH, 5):
            point = views[1].points(depths[1])[row, column]
            (x, y), z_depth = (value.numpy() for value in views[0].project(point))
            seen = 0 <= x <= WIDTH and 0 <= y <= HEIGHT
            if seen:
                theirs = float(depths[0][min(int(y), HEIGHT - 1), min(int(x), WIDTH - 1)])
                allowed = 3 * np.hypot(0.01 * theirs, 0.01 * float(depths[1][row, column]))
                seen = abs(theirs - float(z_depth)) <= allowed
            there = (cloud.positions - point).norm(dim=-1)[cloud.view == 1].min() < 1e-4
            assert there != seen, (row, column)


def test_stride_takes_larger_points(exact: Tuple[List[StereoView], List[Tensor]]) -> None:
    views, depths = exact
    whole, coarse = (depth_cloud("mvs", views[:1], depths_of(depths[:1]), stride=stride) for stride in (1, 3))
    assert len(coarse) == len(range(0, HEIGHT, 3)) * len(range(0, WIDTH, 3))
    apart, which = nearest_of(coarse.positions, whole.positions)
    assert apart.max() == 0
    torch.testing.assert_close(coarse.radii, 3 * whole.radii[which])
    with pytest.raises(ValueError, match="expected a stride of at least 1, got 0"):
        depth_cloud("mvs", views, depths_of(depths), stride=0)


def naive_fill(depth: ViewDepth, row: int, column: int) -> float:
    step = 1
    while step == 1 or 4 * step < 2 * WIDTH:
        found = []
        for down in range(-4, 5):
            for across in range(-4, 5):
                y, x = row + step * down, column + step * across
                if 0 <= y < HEIGHT and 0 <= x < WIDTH and depth.valid[y, x]:
                    found.append(float(depth.z_depth[y, x]))
        if len(found) >= 5:
            return sorted(found)[(len(found) - 1) // 2]
        step *= 2
    return 0.0


def test_holes_get_the_median_around(exact: Tuple[List[StereoView], List[Tensor]]) -> None:
    views, depths = exact
    (depth,), mask = depths_of(depths[:1]), views[0].mask.clone()
    depth.valid[8:34, 5:40] = False
    depth.valid[20, 20] = True
    mask[:12] = False
    found = filled_depth(depth, mask)
    assert torch.equal(found.valid, mask & ~depth.valid)
    for row, column in [(12, 5), (13, 39), (20, 21), (25, 22), (33, 6), (30, 30)]:
        assert float(found.z_depth[row, column]) == pytest.approx(naive_fill(depth, row, column))
    inside = found.z_depth[found.valid]
    assert depths[0].min() <= inside.min() and inside.max() <= depths[0].max()
    assert (found.sigma[found.valid] > 0).all()
    nothing = replace(depth, valid=torch.zeros_like(mask))
    assert not filled_depth(nothing, mask).valid.any()


def test_filled_points_say_so_and_give_way_to_confirmed_ones(exact: Tuple[List[StereoView], List[Tensor]]) -> None:
    views, depths = exact
    maps = depths_of(depths)
    maps[0].valid[:, : WIDTH // 2] = False
    left, filled = (depth_cloud("stereo", views, maps, unconfirmed=how) for how in ("leave", "fill"))  # type: ignore[arg-type]
    assert left.confirmed.all() and len(left) < len(filled) and filled.confirmed.sum() == len(left)
    assert torch.equal(filled.positions[filled.confirmed], left.positions)
    assert 0 < filled.confirmed_share < 1
    added = filled.chosen(~filled.confirmed)
    assert set(added.view.tolist()) == {0}
    # Where other photos confirm what the median says, nothing is added.
    wall = torch.full_like(depths[0], 4.0)
    flat = depths_of([wall] * 3)
    flat[0].valid[:, : WIDTH // 2] = False
    same = depth_cloud("stereo", [views[0]] * 3, flat, unconfirmed="fill")
    assert len(same) == WIDTH * HEIGHT and same.confirmed.all()


def test_most_points() -> None:
    view = StereoView(
        torch.rand(6, 7, 3), torch.eye(4)[:3], torch.tensor([5.0, 5.0, 3.5, 3.0]), 1.0, 9.0, torch.ones(6, 7) > 0
    )
    cloud = depth_cloud("files", [view], depths_of([torch.rand(6, 7) + 1.0]))
    state = torch.get_rng_state()
    few, same, other = cloud.at_most(10, 1), cloud.at_most(10, 1), cloud.at_most(10, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(few) == 10 and torch.equal(few.positions, same.positions) and not torch.equal(few.radii, other.radii)
    assert nearest_of(few.positions, cloud.positions)[0].max() == 0
    assert cloud.at_most(42, 1) is cloud and few.record()["source"].startswith("files: 10 points from views")
