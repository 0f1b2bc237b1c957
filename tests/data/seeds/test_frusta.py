"""Points drawn where the training cameras look."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import List

import pytest
import torch

from fewshot_ns.data.seeds.frusta import frusta_cloud
from fewshot_ns.data.stereo.views import StereoView

HEIGHT, WIDTH = 12, 16


def view_at(x: float, far: float = 8.0) -> StereoView:
    pose = torch.eye(4)[:3].clone()
    pose[0, 3] = x
    angle = torch.tensor(0.3 * x)
    pose[:, :3] = torch.tensor([[angle.cos(), 0.0, angle.sin()], [0.0, 1.0, 0.0], [-angle.sin(), 0.0, angle.cos()]])
    intrinsics = torch.tensor([16.0, 18.0, 7.0, 6.5])
    image = torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    return StereoView(image, pose, intrinsics, 2.0, far, mask, f"{x:g}.png")


@pytest.fixture
def views() -> List[StereoView]:
    """Two cameras of which one sees a masked photo."""
    left, right = view_at(-0.5), view_at(0.5)
    mask = right.mask.clone()
    mask[:, :10] = False
    return [left, replace(right, mask=mask)]


def test_points_lie_behind_the_pixels_whose_colour_they_have(views: List[StereoView]) -> None:
    cloud = frusta_cloud(views, 3000, seed=0)
    assert len(cloud) == 3000 and not cloud.confirmed.any()
    for index, view in enumerate(views):
        mine = cloud.view == index
        place, z_depth = view.project(cloud.positions[mine])
        assert (z_depth > 1.999).all() and (z_depth < 8.001).all() and view.contains(place).all()
        column, row = place.floor().long().unbind(-1)
        column, row = column.clamp(0, WIDTH - 1), row.clamp(0, HEIGHT - 1)
        # Rounding may put a point at a pixel's border into the next one.
        same = (cloud.colours[mine] == view.image[row, column]).all(-1)
        assert same.float().mean() > 0.99 and view.mask[row[same], column[same]].all()
        apart = math.sqrt((HEIGHT * WIDTH + HEIGHT * 6) / 3000)
        torch.testing.assert_close(cloud.radii[mine], z_depth / 17.0 * max(apart, 1.0), rtol=1e-4, atol=1e-5)
        # Uniform in inverse depth: the mean is the middle.
        assert float((1 / z_depth).mean()) == pytest.approx((1 / 2 + 1 / 8) / 2, abs=0.01)
    # By their pixels: 192 of the one, 72 of the other.
    assert float((cloud.view == 1).float().mean()) == pytest.approx(72 / 264, abs=0.03)
    assert cloud.source == "random: 3000 points from views -0.5.png, 0.5.png"


def test_draws_are_repeatable_and_their_own(views: List[StereoView]) -> None:
    state = torch.get_rng_state()
    first, again, other = (frusta_cloud(views, 50, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.positions, again.positions) and not torch.equal(first.positions, other.positions)
    # Few points stand for many pixels each.
    z_depth = views[0].project(first.positions)[1][first.view == 0]
    torch.testing.assert_close(first.radii[first.view == 0], z_depth / 17.0 * math.sqrt(264 / 50), rtol=1e-4, atol=1e-5)


def test_without_end_and_without_pixels(views: List[StereoView]) -> None:
    endless = frusta_cloud([view_at(0.0, far=float("inf"))], 500, seed=0)
    assert endless.positions.isfinite().all() and float(-endless.positions[:, 2].min()) <= 200.1
    with pytest.raises(ValueError, match="expected at least 1 random point, got 0"):
        frusta_cloud(views, 0, seed=0)
    blind = [replace(view, mask=torch.zeros_like(view.mask)) for view in views]
    with pytest.raises(ValueError, match="the masks of -0.5.png, 0.5.png leave no pixel"):
        frusta_cloud(blind, 5, seed=0)
