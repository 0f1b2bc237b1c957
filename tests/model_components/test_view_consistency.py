"""Consistency of unseen views with photos: against a loop over pixels, its gradients, and what photos do not see."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, List, Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView
from fewshot_ns.model_components.view_consistency import (
    colour_error,
    farthest_visible,
    smallest_error,
    view_consistency_loss,
    warped_colours,
)

SIZES = ((9, 12), (7, 8), (10, 10))
TARGETS = ("depth", "colour", "both")


def photo(size: Tuple[int, int], position: Tuple[float, float, float], yaw: float) -> StereoView:
    """A random photo of a camera that looks along -z, turned about y."""
    turn = torch.tensor([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    pose = torch.cat([turn, torch.tensor(position)[:, None]], dim=-1).double()
    height, width = size
    mask = torch.rand(size) > 0.2
    intrinsics = torch.tensor([1.1 * width, 1.2 * width, 0.45 * width, 0.55 * height]).double()
    return StereoView(torch.rand(*size, 3).double(), pose, intrinsics, 0.1, 10.0, mask)


@pytest.fixture
def photos() -> Tuple[List[StereoView], List[Tensor]]:
    """Three photos of different sizes; depths at about half of their pixels."""
    torch.manual_seed(0)
    views = [photo(SIZES[i], (0.4 * i - 0.4, 0.1 * i, 0.05 * i), 0.1 - 0.1 * i) for i in range(3)]
    limits = []
    for view in views:
        known = (torch.rand(view.size) > 0.5).double()
        depth, sigma = (2.0 + torch.rand(view.size).double()) * known, 0.1 * torch.rand(view.size).double() * known
        limits.append(farthest_visible(view.mask, depth, sigma, 0.05))
    return views, limits


@pytest.fixture
def pixels() -> Tuple[Tensor, Tensor, Tensor]:
    """World points (60, 3) before and behind the cameras, colours, and opacities (60, 1)."""
    torch.manual_seed(1)
    points = torch.rand(60, 3).double() * torch.tensor([3.0, 2.0, 2.0]) - torch.tensor([1.5, 1.0, 3.5])
    points[:5, 2] += 6.0
    return points, torch.rand(60, 3).double(), torch.rand(60, 1).double()


def naive(points: Tensor, rgb: Tensor, opacity: Tensor, views: List[StereoView], limits: List[Tensor]) -> float:
    """The loss pixel by pixel, with a bilinear look-up written out."""
    total, count = 0.0, 0
    for point, colour, weight in zip(points, rgb, opacity, strict=True):
        errors = []
        for view, limit in zip(views, limits, strict=True):
            height, width = view.size
            x, y, z = (view.pose[:, :3].T @ (point - view.pose[:, 3])).tolist()
            if z >= 0:
                continue
            fx, fy, cx, cy = view.intrinsics.tolist()
            column, row = fx * x / -z + cx, fy * -y / -z + cy
            if not (0 <= column <= width and 0 <= row <= height):
                continue
            if -z > float(limit[min(int(row), height - 1), min(int(column), width - 1)]):
                continue
            left, top = math.floor(column - 0.5), math.floor(row - 0.5)
            right_share, low_share = column - 0.5 - left, row - 0.5 - top
            found = torch.zeros(3).double()
            for i, across in ((left, 1 - right_share), (left + 1, right_share)):
                for j, down in ((top, 1 - low_share), (top + 1, low_share)):
                    found += across * down * view.image[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
            difference = (colour - found).tolist()
            errors.append(sum(math.sqrt(d * d + 1e-4) - 0.01 for d in difference) / 3)
        if errors:
            total, count = total + float(weight) * min(errors), count + 1
    return total / max(count, 1)


def test_is_the_naive_one(photos: Any, pixels: Any) -> None:
    (points, rgb, opacity), (views, limits) = pixels, photos
    seen = torch.stack([warped_colours(points, *pair)[1] for pair in zip(*photos, strict=True)])
    # Points that none, some and all photos see.
    assert {0, 1, 2, 3} <= set(seen.sum(0).tolist())
    for target in TARGETS:
        loss = view_consistency_loss(points, rgb, opacity, views, limits, target)
        assert float(loss) == pytest.approx(naive(points, rgb, opacity, *photos), rel=1e-6) and float(loss) > 0.01


def test_equal_colours_cost_nothing(photos: Any, pixels: Any) -> None:
    points = pixels[0]
    colours, visible = warped_colours(points, photos[0][1], photos[1][1])
    assert not colour_error(colours, colours).any()
    loss = view_consistency_loss(points[visible], colours[visible], pixels[2][visible], *photos)
    assert float(loss) == 0.0


@pytest.mark.parametrize("target", TARGETS)
def test_gradient(target: Any, photos: Any, pixels: Any) -> None:
    points, rgb, opacity = (value.clone().requires_grad_() for value in pixels)
    views, limits = photos
    assert torch.autograd.gradcheck(lambda p, c: view_consistency_loss(p, c, opacity, *photos), (points, rgb))
    loss = view_consistency_loss(points, rgb, opacity, views, limits, target)
    loss.backward()
    assert opacity.grad is None
    assert (points.grad is None) == (target == "colour") and (rgb.grad is None) == (target == "depth")
    # What takes the gradient takes the same one as where both do.
    grads = torch.autograd.grad(view_consistency_loss(points, rgb, opacity, *photos), (points, rgb))
    for value, expected in zip((points, rgb), grads, strict=True):
        assert expected.any()
        if value.grad is not None:
            torch.testing.assert_close(value.grad, expected)


def test_gradient_of_one_side_alone(photos: Any, pixels: Any) -> None:
    (points, rgb, opacity), (views, limits) = pixels, photos
    moved, coloured = points.clone().requires_grad_(), rgb.clone().requires_grad_()
    rest = opacity, views, limits
    assert torch.autograd.gradcheck(lambda p: view_consistency_loss(p, rgb, *rest, "depth"), moved)
    assert torch.autograd.gradcheck(lambda c: view_consistency_loss(points, c, *rest, "colour"), coloured)


def plain(size: Tuple[int, int] = (8, 8), grey: float = 0.5) -> StereoView:
    """A grey photo of a camera at the origin that looks along -z."""
    pose = torch.eye(4)[:3]
    ones = torch.ones(size)
    return StereoView(grey * ones[..., None].expand(*size, 3), pose, torch.tensor([8.0, 8, 4, 4]), 0.1, 9.0, ones > 0)


def test_points_behind_the_photos_depth_are_hidden() -> None:
    view = plain()
    depth, sigma = torch.full((8, 8), 2.0), torch.full((8, 8), 0.3)
    depth[:, 4:] = 0.0
    limit = farthest_visible(view.mask, depth, sigma, 0.1)
    left, right = torch.tensor([-0.1, 0.1, 1.0]), torch.tensor([0.1, 0.1, 1.0])
    depths = torch.tensor([0.5, 2.0, 2.49, 2.51, 5.0])[:, None] * torch.tensor([1.0, 1.0, -1.0])
    assert warped_colours(left * depths, view, limit)[1].tolist() == [True, True, True, False, False]
    # Where nothing is measured nothing is hidden.
    assert warped_colours(right * depths, view, limit)[1].all()
    # The hidden ones are left to the photos that see them.
    other = plain(grey=0.9)
    rgb = torch.full((5, 3), 0.5)
    open_limit = torch.full((8, 8), torch.inf)
    error = smallest_error(
        rgb,
        torch.stack([warped_colours(left * depths, v, limit)[0] for v in (view, other)]),
        torch.stack(
            [
                warped_colours(left * depths, view, limit)[1],
                warped_colours(left * depths, other, open_limit)[1],
            ]
        ),
    )[0]
    torch.testing.assert_close(error, torch.tensor([0, 0, 0, 0.3901, 0.3901]), atol=2e-4, rtol=0)


def test_masked_pixels_show_nothing() -> None:
    view = plain()
    mask = view.mask.clone()
    mask[:4] = False
    limit = farthest_visible(mask, torch.zeros(8, 8), torch.zeros(8, 8), 0.1)
    points = torch.tensor([[0.1, 0.1, -1.0], [0.1, -0.1, -1.0]])
    assert warped_colours(points, view, limit)[1].tolist() == [False, True]


@pytest.mark.parametrize("target", TARGETS)
def test_unseen_points_have_no_loss_and_no_gradient(target: Any) -> None:
    """Behind the camera, in its plane, at its centre, beside the image, infinitely far, hidden."""
    view = plain()
    limit = farthest_visible(view.mask, torch.full((8, 8), 2.0), torch.zeros(8, 8), 0.1)
    places = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, -1.0], [1e4, -2e4, -1e5], [0.0, 0.0, -3.0]]
    points, rgb = torch.tensor(places).requires_grad_(), torch.rand(6, 3).requires_grad_()
    loss = view_consistency_loss(points, rgb, torch.ones(6, 1), [view, view], [limit, limit], target)
    assert float(loss) == 0.0
    loss.backward()
    for value in (points, rgb):
        assert value.grad is None or not value.grad.any() and value.grad.isfinite().all()
    # One visible pixel beside them counts alone.
    both = torch.cat([points.detach(), torch.tensor([[0.0, 0.0, -1.0]])]).requires_grad_()
    colours = torch.cat([rgb.detach(), torch.full((1, 3), 0.8)]).requires_grad_()
    loss = view_consistency_loss(both, colours, torch.full((7, 1), 0.5), [view], [limit], target)
    assert float(loss) == pytest.approx(0.5 * (math.sqrt(0.09 + 1e-4) - 0.01), rel=1e-5)
    loss.backward()
    for value in (both, colours):
        assert value.grad is None or value.grad.isfinite().all() and not value.grad[:6].any()


def test_the_photo_that_agrees_best_takes_the_gradient(photos: Any, pixels: Any) -> None:
    points, rgb, opacity = pixels
    first, second = (replace(photos[0][0], image=torch.full((9, 12, 3), grey).double()) for grey in (0.2, 0.7))
    everything = torch.full((9, 12), torch.inf).double()
    dark = torch.full_like(rgb, 0.3)
    one = view_consistency_loss(points, dark, opacity, [first], [everything])
    two = view_consistency_loss(points, dark, opacity, [second, first], [everything, everything])
    assert float(two) == float(one) > 0
