"""pixelNeRF's samples and weights, against loops over rays and samples."""

from __future__ import annotations

import math

import pytest
import torch

from fewshot_ns.model_components.pixelnerf_draws import Draws, SampleCounts
from fewshot_ns.model_components.point_samples import (
    bounded_point_weights,
    importance_fractions,
    points_around_depth,
    points_in_bins,
    stratum_fractions,
)


def test_weights_are_those_of_the_sum_written_out():
    torch.manual_seed(0)
    z, density = torch.rand(5, 7).sort(dim=-1).values * 3 + 1, torch.rand(5, 7) * 4
    far = torch.full((5, 1), 4.5)
    weights = bounded_point_weights(density, z, far)
    for ray in range(5):
        light = 1.0
        for index in range(7):
            end = float(z[ray, index + 1]) if index < 6 else 4.5
            opacity = 1 - math.exp(-float(density[ray, index]) * (end - float(z[ray, index])))
            assert float(weights[ray, index]) == pytest.approx(light * opacity, abs=1e-6)
            light *= 1 - opacity


def test_gradients_of_the_weights():
    torch.manual_seed(0)
    z = (torch.rand(3, 5, dtype=torch.float64).sort(dim=-1).values + 1).requires_grad_()
    density = torch.rand(3, 5, dtype=torch.float64).requires_grad_()
    far = torch.full((3, 1), 2.5, dtype=torch.float64)
    assert torch.autograd.gradcheck(bounded_point_weights, (density, z, far))


def test_places_of_importance():
    torch.manual_seed(0)
    weights, u, jitter = torch.rand(4, 6) ** 4, torch.rand(4, 50), torch.rand(4, 50)
    u[:, 0], u[:, 1] = 0.0, 1.0
    fractions = importance_fractions(weights, u, jitter)
    for ray in range(4):
        padded = [float(weight) + 1e-5 for weight in weights[ray]]
        for index in range(50):
            reached, chosen = 0.0, -1
            while chosen < 5 and reached <= float(u[ray, index]):
                chosen += 1
                reached += padded[chosen] / sum(padded)
            assert float(fractions[ray, index]) == pytest.approx((chosen + float(jitter[ray, index])) / 6, abs=1e-6)
    assert (fractions <= 1).all()


def test_points_between_near_and_far():
    near, far = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [8.0]])
    fractions = stratum_fractions(torch.tensor([[0.0, 0.5, 0.25, 0.5]] * 2))
    torch.testing.assert_close(fractions[0], torch.tensor([0.0, 0.375, 0.5625, 0.875]))
    torch.testing.assert_close(points_in_bins(near, far, fractions), near + (far - near) * fractions)
    inverse = 1 / points_in_bins(near, far, fractions, in_disparity=True)
    torch.testing.assert_close(inverse, 1 / near + (1 / far - 1 / near) * fractions)


def test_the_depth_learns_through_its_points():
    depth = torch.tensor([[1.5], [2.99]], requires_grad=True)
    noise = torch.tensor([[-1.0, 0.0, 2.0]]).expand(2, 3)
    points = points_around_depth(depth, noise, 0.01, torch.ones(2, 1), torch.full((2, 1), 3.0))
    torch.testing.assert_close(points, torch.tensor([[1.49, 1.5, 1.52], [2.98, 2.99, 3.0]]))
    points.sum().backward()
    assert depth.grad is not None
    assert depth.grad[:, 0].tolist() == [3.0, 2.0]


def test_draws():
    like, counts = torch.zeros(2000, 1), SampleCounts(3, 4, 5)
    even, drawn = Draws.even(like, counts), Draws.random(like, counts)
    for each in (even, drawn):
        assert [part.shape[1] for part in each] == [3, 4, 4, 5] and all(len(part) == 2000 for part in each)
        for part in each[:3]:
            assert (part >= 0).all() and (part < 1).all() and float(part.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(each.noise.mean()) == pytest.approx(0.0, abs=0.05)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(normal.cdf(even.noise[0]), (torch.arange(5) + 0.5) / 5)
    assert float(drawn.noise.std()) == pytest.approx(1.0, abs=0.05)
