"""Planes read row by row on a CPU: equal to torch's own look-up, in values and gradients."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from fewshot_ns.fields.fused.planes import AXES, plane_features


def naive(positions: Tensor, visibility: Sequence[float], planes: Sequence[Tensor]) -> Tensor:
    grid = torch.stack([positions[:, axes] for axes in AXES])[:, None]
    read = [
        factor * torch.nn.functional.grid_sample(level, grid, align_corners=True, padding_mode="border")[:, :, 0].sum(0)
        for level, factor in zip(planes, visibility, strict=True)
    ]
    return torch.cat(read).t()


def scene(dtype: torch.dtype = torch.float64, count: int = 400) -> Tuple[Tensor, List[Tensor]]:
    """Positions of which many share a cell, lie outside, or exactly on texels and borders; planes of three sides."""
    torch.manual_seed(0)
    positions = torch.rand(count, 3, dtype=dtype) * 2.6 - 1.3
    positions[:50] = positions[0]
    positions[50:60] = torch.tensor([-1.0, 0.0, 1.0], dtype=dtype)
    planes = [torch.randn(3, 5, side, side, dtype=dtype, requires_grad=True) for side in (2, 3, 9)]
    return positions, planes


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("visibility", [(1.0, 1.0, 1.0), (1.0, 0.25, 0.0)])
def test_equal_to_looking_each_plane_up(visibility: Tuple[float, ...], channels_last: bool) -> None:
    positions, planes = scene()
    if channels_last:
        planes = [level.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for level in planes]
    # Between texels and inside: at the others the slope is one of two.
    positions = positions.requires_grad_()
    positions.data[50:60] += 1e-4
    expected, found = naive(positions, visibility, planes), plane_features(positions, visibility, planes, torch.float64)
    torch.testing.assert_close(found, expected)
    along = torch.randn_like(expected)
    inputs = [positions, *planes]
    for one, other in zip(
        torch.autograd.grad(found, inputs, along), torch.autograd.grad(expected, inputs, along), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_gradient() -> None:
    positions, planes = scene(count=12)
    positions = (positions * 0.9 + 0.01).requires_grad_()
    assert gradcheck(
        lambda moved, *levels: plane_features(moved, (1.0, 0.5, 1.0), levels, torch.float64), [positions, *planes]
    )


def test_half_precision_of_the_result_alone() -> None:
    positions, planes = scene(torch.float32)
    exact, half = (plane_features(positions, (1.0,) * 3, planes, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(exact.to(torch.bfloat16), half)
    (of_half,) = torch.autograd.grad(half.float().sum(), planes[2:])
    (of_exact,) = torch.autograd.grad(exact.sum(), planes[2:])
    assert of_half.dtype == torch.float32 and torch.equal(of_half, of_exact)


def test_the_number_of_threads_changes_nothing() -> None:
    positions, planes = scene(torch.float32, count=40_000)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 4):
            torch.set_num_threads(number)
            features = plane_features(positions, (1.0,) * 3, planes, torch.float32)
            found.append((features, *torch.autograd.grad(features.square().sum(), planes)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_positions_that_are_no_numbers_give_none_and_harm_no_memory() -> None:
    positions, planes = scene(torch.float32)
    positions[3], positions[4] = float("nan"), float("inf")
    features = plane_features(positions, (1.0,) * 3, planes, torch.float32)
    assert features[3].isnan().all() and features[4:].isfinite().all()
    assert all(
        gradient.shape == level.shape
        for gradient, level in zip(torch.autograd.grad(features.sum(), planes), planes, strict=True)
    )
