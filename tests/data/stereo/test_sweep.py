"""Matching costs, their aggregation and the geometry of matching, against loops over pixels."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest
import torch
from stereo_scenes import WALL, blobs, wall_views
from torch import Tensor

from fewshot_ns.data.stereo.aggregation import semi_global
from fewshot_ns.data.stereo.estimate import median
from fewshot_ns.data.stereo.sources import visible_range
from fewshot_ns.data.stereo.sweep import Matcher, noise_floor, parallax_speed, window_mean
from fewshot_ns.data.stereo.views import StereoView, sample


def path_cost(costs: Tensor, guide: Tensor, small: float, large: float, edge: float) -> Tensor:
    """Path costs of a line: (D, N) costs along increasing N, by their definition."""
    found = costs.clone()
    for place in range(1, costs.shape[1]):
        penalty = max(small, large / (1.0 + edge * abs(float(guide[place] - guide[place - 1]))))
        before = found[:, place - 1]
        for label in range(len(costs)):
            ways = [before[label], before.min() + penalty]
            ways += [before[other] + small for other in (label - 1, label + 1) if 0 <= other < len(costs)]
            found[label, place] = costs[label, place] + min(ways) - before.min()
    return found


def test_aggregation_is_the_mean_of_four_path_costs():
    generator = torch.Generator().manual_seed(0)
    costs, guide = torch.rand(5, 4, 6, generator=generator), torch.rand(4, 6, generator=generator)
    options = {"small": 0.1, "large": 0.9, "edge": 3.0}
    expected = torch.zeros_like(costs)
    for row in range(4):
        expected[:, row] += path_cost(costs[:, row], guide[row], **options)
        expected[:, row] += path_cost(costs[:, row].flip(1), guide[row].flip(0), **options).flip(1)
    for column in range(6):
        expected[:, :, column] += path_cost(costs[:, :, column], guide[:, column], **options)
        expected[:, :, column] += path_cost(costs[:, :, column].flip(1), guide[:, column].flip(0), **options).flip(1)
    found = semi_global(costs, guide, options["small"], options["large"], options["edge"])
    torch.testing.assert_close(found, expected / 4.0)


@pytest.mark.parametrize("radius", [1, 2])
def test_window_means_and_medians(radius: int):
    planes = torch.rand(3, 7, 6, generator=torch.Generator().manual_seed(1))
    padded = np.pad(planes.numpy(), ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    side = 2 * radius + 1
    windows = np.array([[[plane[y : y + side, x : x + side] for x in range(6)] for y in range(7)] for plane in padded])
    np.testing.assert_allclose(window_mean(planes, radius).numpy(), windows.mean((-1, -2)), rtol=1e-5)
    expected = np.median(windows[0].reshape(7, 6, -1), axis=-1)
    np.testing.assert_allclose(median(planes[0], radius).numpy(), expected)
    assert torch.equal(median(planes[0], 0), planes[0])


def naive_cost(reference: StereoView, source: StereoView, inverse: float, radius: int, row: int, column: int) -> float:
    """1 - ZNCC of one window at one depth, sample by sample."""
    points = reference.points(torch.full(reference.size, 1.0 / inverse))
    position, _ = source.project(points)
    grey, other = reference.image.mean(-1), sample(source.image.mean(-1), position)
    rows, columns = slice(row - radius, row + radius + 1), slice(column - radius, column + radius + 1)
    own, there = grey[rows, columns].double().flatten(), other[rows, columns].double().flatten()
    floors = [noise_floor(view.image.mean(-1)[None]) for view in (reference, source)]
    covariance = float((own * there).mean() - own.mean() * there.mean())
    spread = (float(own.var(correction=0)) + floors[0]) * (float(there.var(correction=0)) + floors[1])
    return 1.0 - covariance / spread**0.5


def test_costs_are_those_of_single_windows():
    reference, source = wall_views(blobs)[:2]
    matcher = Matcher(reference, [source], [2])
    depths = torch.tensor([0.2, 0.25, 0.4])
    costs = matcher.costs(0, depths[:, None, None])
    slanted = matcher.costs(0, depths[:, None, None].expand(-1, *reference.size))
    torch.testing.assert_close(costs, slanted)
    for label, inverse in enumerate(depths.tolist()):
        for row, column in ((20, 30), (31, 44), (40, 50)):
            expected = naive_cost(reference, source, inverse, 2, row, column)
            assert float(costs[label, row, column]) == pytest.approx(expected, abs=2e-3)
    assert float(costs[1, 10:-10, 25:-25].mean()) < 0.08 < 0.3 < float(costs[2, 10:-10, 25:-25].mean())


def test_a_point_that_a_photo_does_not_show_matches_nothing():
    reference, source = wall_views(blobs)[::2]
    costs = Matcher(reference, [source], [1]).costs(0, torch.tensor([0.5])[:, None, None])
    position, _ = source.project(reference.points(torch.full(reference.size, 2.0)))
    outside = ~source.contains(position)
    assert outside.any() and (costs[0][outside] == 1.0).all()


def test_parallax_speed_is_the_derivative_of_the_position():
    reference, source = wall_views(blobs)[:2]
    inverse, step = torch.full(reference.size, 1.0 / WALL, dtype=torch.float64), 1e-4
    places = [source.project(reference.points((1.0 / (inverse + sign * step)).float()))[0] for sign in (-1, 1)]
    expected = ((places[1] - places[0]) / (2 * step)).norm(dim=-1)
    found = parallax_speed(reference, source, inverse.float())
    seen = found > 0
    assert 0.5 < seen.float().mean() <= 1.0
    torch.testing.assert_close(found[seen], expected[seen], rtol=2e-2, atol=0.1)


def test_visible_range_ends_where_no_other_photo_shows_anything():
    views = wall_views(blobs, offsets=(0.0, 3.0))
    ends = visible_range(views[0], [views[1]])
    # At a depth of 3 the photos are as wide as the way between them.
    assert ends is not None and 2.5 < ends[0] < 3.3 and ends[1] == views[0].far
    away: List[StereoView] = wall_views(blobs, offsets=(0.0, 50.0))
    assert visible_range(away[0], [away[1]]) is None


def test_noise_is_measured_in_the_flattest_part():
    noise = torch.randn(1, 60, 80, generator=torch.Generator().manual_seed(3))
    quiet, loud = noise_floor(0.5 + 0.002 * noise), noise_floor(0.5 + 0.008 * noise)
    assert 2.5e-5 == quiet < loud < 5e-4
    textured = torch.cat([0.5 + 0.002 * noise, blobs(torch.rand(1, 60, 80, 2) * 3)], dim=2)
    assert noise_floor(textured) == pytest.approx(quiet)
