"""The voxel grid that proposes where to sample."""

from __future__ import annotations

import pytest
import torch

from fewshot_ns.fields.density_grid import DensityGrid


def softplus(value: float) -> float:
    return torch.nn.functional.softplus(torch.tensor(value)).item()


def test_a_new_grid_is_even() -> None:
    density = DensityGrid(4, bias=-2.0)(torch.rand(3, 5, 3) * 4 - 2)
    assert density.shape == (3, 5)
    assert torch.allclose(density, torch.full((3, 5), softplus(-2.0)))


def test_voxels_lie_at_their_positions_and_between_them_it_is_linear() -> None:
    grid = DensityGrid(3, bias=0.0)
    with torch.no_grad():
        grid.values[0, 0, 2, 1, 0] = 4.0  # z last, y middle, x first
    positions = torch.tensor([[[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0], [-0.5, 0.0, 1.0], [-0.5, 0.5, 0.5]]])
    expected = [softplus(4.0), softplus(0.0), softplus(2.0), softplus(0.5)]
    assert grid(positions)[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_outside_counts_the_nearest_voxel() -> None:
    grid = DensityGrid(2, bias=0.0)
    with torch.no_grad():
        grid.values[0, 0, :, :, 1] = 3.0
    positions = torch.tensor([[[5.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    assert grid(positions)[0].tolist() == pytest.approx([softplus(3.0)] * 2, rel=1e-5)


def test_gradient_reaches_the_voxels_around_a_sample() -> None:
    grid = DensityGrid(4, bias=0.0)
    grid(torch.zeros(1, 1, 3)).sum().backward()
    assert grid.values.grad is not None and int((grid.values.grad != 0).sum()) == 8
