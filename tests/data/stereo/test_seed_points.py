"""Points and bounds from depth that photos confirm."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Tuple

import numpy as np
import pytest
import torch

from fewshot_ns.data.stereo.seed_points import depth_points, reliable_range
from fewshot_ns.data.stereo.views import StereoView, ViewDepth

HEIGHT, WIDTH = 12, 16


def scene(*xs: float) -> Tuple[List[StereoView], List[ViewDepth]]:
    """Cameras at (x, 0, 0) that look along -z at the plane z = -4, whose colour says where on it a point lies."""
    views, depths = [], []
    for x in xs:
        pose = torch.eye(4)[:3].clone()
        pose[0, 3] = x
        intrinsics = torch.tensor([16.0, 16.0, WIDTH / 2, HEIGHT / 2])
        mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        view = StereoView(torch.zeros(HEIGHT, WIDTH, 3), pose, intrinsics, 1.0, 9.0, mask)
        z_depth = torch.full((HEIGHT, WIDTH), 4.0)
        image = (view.points(z_depth) * 0.1 + 0.5).clamp(0, 1)
        views.append(replace(view, image=image))
        depths.append(ViewDepth(z_depth, torch.full_like(z_depth, 0.01), mask.clone()))
    return views, depths


def naive_agreement(point: np.ndarray, view: StereoView, depth: ViewDepth) -> bool:
    """Whether a view has a depth of 4 at the pixel that a point falls into."""
    local = (point - view.pose[:, 3].numpy()) @ view.pose[:, :3].numpy()
    column, row = 16.0 * local[0] / -local[2] + WIDTH / 2, -16.0 * local[1] / -local[2] + HEIGHT / 2
    if not (0 <= column <= WIDTH and 0 <= row <= HEIGHT):
        return False
    pixel = min(int(row), HEIGHT - 1), min(int(column), WIDTH - 1)
    return bool(depth.valid[pixel]) and abs(float(depth.z_depth[pixel]) + local[2]) < 0.01


def test_points_lie_on_the_surface_with_the_colour_of_their_photo() -> None:
    views, depths = scene(0.0, 1.0)
    depths[1].valid[:, :5] = False
    found = depth_points(views, depths, thin=False)
    assert len(found.positions) == HEIGHT * (WIDTH + WIDTH - 5)
    np.testing.assert_allclose(found.positions[:, 2], -4.0, rtol=1e-6)
    np.testing.assert_allclose(found.colours, np.round(255 * np.clip(0.1 * found.positions + 0.5, 0, 1)), atol=1)
    assert found.views.tolist() == [0] * HEIGHT * WIDTH + [1] * HEIGHT * (WIDTH - 5)
    expected = [
        1 + naive_agreement(point, views[1 - own], depths[1 - own])
        for point, own in zip(found.positions, found.views, strict=True)
    ]
    assert found.num_views.tolist() == expected and set(expected) == {1, 2}


def test_later_views_add_what_earlier_ones_do_not_show() -> None:
    views, depths = scene(0.0, 1.0, 50.0)
    whole, thinned = depth_points(views, depths, thin=False), depth_points(views, depths)
    covered = (whole.views > 0) & (whole.num_views > 1)
    assert 0 < covered.sum() < HEIGHT * WIDTH
    np.testing.assert_array_equal(thinned.positions, whole.positions[~covered])
    assert (np.bincount(thinned.views)[[0, 2]] == HEIGHT * WIDTH).all()
    # A second surface in the same direction is another point.
    behind = replace(depths[1], z_depth=torch.full((HEIGHT, WIDTH), 4.5))
    assert len(depth_points(views[:2], [depths[0], behind]).positions) == 2 * HEIGHT * WIDTH
    far_off = replace(behind, sigma=torch.full((HEIGHT, WIDTH), 0.2))
    assert len(depth_points(views[:2], [depths[0], far_off]).positions) < 2 * HEIGHT * WIDTH


def test_stride_mask_and_nothing() -> None:
    views, depths = scene(0.0, 50.0)
    assert len(depth_points(views, depths, stride=4).positions) == 2 * 3 * 4
    masked = [replace(view, mask=torch.zeros_like(view.mask)) for view in views]
    assert depth_points(masked, depths).positions.shape == (0, 3)
    assert depth_points([], []).colours.shape == (0, 3)
    with pytest.raises(ValueError, match="expected a stride of at least 1, got 0"):
        depth_points(views, depths, stride=0)
    with pytest.raises(ValueError, match="expected one depth for each of 2 views, got 1"):
        depth_points(views, depths[:1])


def test_the_range_holds_what_is_confirmed() -> None:
    z_depth = torch.linspace(1.0, 2.0, 1001).reshape(7, 143)
    depth = ViewDepth(z_depth, torch.ones_like(z_depth), torch.ones_like(z_depth, dtype=torch.bool))
    wrong = replace(depth, z_depth=100.0 * z_depth, valid=torch.zeros_like(depth.valid))
    assert reliable_range([depth, wrong]) == pytest.approx((0.8 * 1.01, 1.25 * 1.99), rel=1e-4)
    assert reliable_range([depth], (0.0, 1.0), (1.0, 1.0)) == pytest.approx((1.0, 2.0))
    assert reliable_range([wrong]) is None and reliable_range([]) is None
