"""Samples at planar depths and their weights, against loops."""

from __future__ import annotations

import math

import torch

from fewshot_ns.model_components.planar_samples import overshooting_depths, sample_weights


def test_depths_start_at_the_samples_of_evaluation():
    near, far = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    jitter = torch.tensor([[0.0, 0.5, 0.25], [0.75, 0.0, 0.5]])
    expected = [[1 + (k + float(u)) / 2 * 2 for k, u in enumerate(row)] for row in jitter]
    expected[1] = [value + 1 for value in expected[1]]
    torch.testing.assert_close(overshooting_depths(near, far, 3, jitter), torch.tensor(expected))
    # The last stratum lies behind far.
    assert overshooting_depths(near, far, 3, torch.full((2, 3), 0.5))[:, -1].gt(far[:, 0]).all()


def test_weights_against_loops():
    density = torch.tensor([[0.0, 0.3, 2.0, 0.1], [5.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    expected = torch.zeros_like(density)
    for ray in range(len(density)):
        light = 1.0
        for sample, value in enumerate(density[ray].tolist()):
            expected[ray, sample] = light * (1 - math.exp(-value))
            light *= math.exp(-value)
    torch.testing.assert_close(sample_weights(density), expected)
    assert (sample_weights(density).sum(-1) <= 1).all()


def test_gradients():
    density = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sample_weights, density)
