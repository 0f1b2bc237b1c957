"""Distances and colours along rays against sums written out, and the colour terms of the faithful family."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewshot_ns.field_components.encodings import frequency_mask
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.losses import background_coloured, colour_loss, occlusion_loss
from fewshot_ns.model_components.renderers import (
    compositing_weights,
    distance_deviation,
    distance_percentile,
    expected_distance,
    expected_distance_clipped,
    opacity_and_transmittance,
    segment_lengths,
)
from fewshot_ns.model_components.schedules import linear_ramp


@pytest.fixture
def ray() -> tuple[Tensor, Tensor]:
    """Weights (4, 9) and fenceposts (4, 10)."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, 9, generator=generator, dtype=torch.float64)
    t = torch.rand(4, 10, generator=generator, dtype=torch.float64).sort(dim=-1).values
    return weights / weights.sum(-1, keepdim=True) * torch.tensor([[1.0], [0.5], [0.1], [0.9]]), t


def test_opacity_times_transmittance_is_the_weight() -> None:
    torch.manual_seed(0)
    density, t = 5 * torch.rand(3, 6, dtype=torch.float64), torch.rand(3, 7, dtype=torch.float64).cumsum(-1)
    directions = torch.randn(3, 3, dtype=torch.float64)
    lengths = segment_lengths(t, directions)
    opacity, transmittance = opacity_and_transmittance(density, lengths)
    for row in range(3):
        light = 1.0
        for sample in range(6):
            length = float(t[row, sample + 1] - t[row, sample]) * math.sqrt(float((directions[row] ** 2).sum()))
            assert float(lengths[row, sample]) == pytest.approx(length)
            assert float(transmittance[row, sample]) == pytest.approx(light)
            passed = math.exp(-float(density[row, sample]) * length)
            assert float(opacity[row, sample]) == pytest.approx(1 - passed)
            light *= passed
    torch.testing.assert_close(compositing_weights(density, t, directions), opacity * transmittance)


def test_deviation_is_that_of_the_weighted_mid_points(ray: tuple[Tensor, Tensor]) -> None:
    weights, t = ray
    for row in range(len(t)):
        middle = [(float(a) + float(b)) / 2 for a, b in zip(t[row], t[row, 1:], strict=False)]
        share = [float(w) / float(weights[row].sum()) for w in weights[row]]
        mean = sum(s * m for s, m in zip(share, middle, strict=True))
        variance = sum(s * (m - mean) ** 2 for s, m in zip(share, middle, strict=True))
        assert float(expected_distance(weights, t)[row, 0]) == pytest.approx(mean)
        assert float(expected_distance_clipped(weights, t)[row, 0]) == pytest.approx(mean)
        assert float(distance_deviation(weights, t)[row, 0]) == pytest.approx(math.sqrt(variance))


def test_percentiles_ascend_and_the_median_halves_the_weight(ray: tuple[Tensor, Tensor]) -> None:
    weights, t = ray
    values = torch.cat([distance_percentile(weights, t, share) for share in (0.2, 0.4, 0.5, 0.8, 1.0)], dim=-1)
    assert (values.diff(dim=-1) >= 0).all()
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    torch.testing.assert_close(values[:, -1], middle[:, -1])
    median = values[:, 2:3]
    below = (weights * (middle < median)).sum(-1)
    most = weights.max(-1).values
    assert ((below - 0.5 * weights.sum(-1)).abs() <= most).all()


def test_empty_rays_are_finite_with_finite_gradients() -> None:
    weights, t = torch.zeros(2, 5, requires_grad=True), torch.linspace(1.0, 2.0, 6).expand(2, 6)
    for function in (expected_distance, expected_distance_clipped):
        value = function(weights, t)
        assert torch.equal(value, torch.ones(2, 1))
        (gradient,) = torch.autograd.grad(value.sum(), weights)
        assert gradient.isfinite().all()
    assert (distance_deviation(weights, t) == 0).all()
    assert distance_percentile(weights, t, 0.5).isfinite().all()


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_percentiles_of_one_segment_are_its_middle(fraction: float) -> None:
    weights, t = torch.tensor([[0.7], [0.0]]), torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert distance_percentile(weights, t, fraction).tolist() == [[1.5], [4.0]]


@pytest.mark.parametrize("shape", ["cone", "cylinder"])
def test_diagonal_is_that_of_the_full_covariance(shape: str) -> None:
    torch.manual_seed(0)
    t = torch.rand(3, 5, dtype=torch.float64).cumsum(-1)
    rest = torch.randn(3, 3), torch.randn(3, 3), torch.rand(3, 1)
    inputs = t, *(value.double() for value in rest)
    means, diagonal = cast_rays(*inputs, ray_shape=shape)  # type: ignore[arg-type]
    same, full = cast_rays(*inputs, ray_shape=shape, full_covariance=True)  # type: ignore[arg-type]
    torch.testing.assert_close(means, same)
    torch.testing.assert_close(torch.diagonal(full, dim1=-2, dim2=-1), diagonal)
    assert (torch.linalg.eigvalsh(full) > -1e-12).all()


def test_colour_loss_is_summed_over_channels() -> None:
    torch.manual_seed(0)
    rgb, target = torch.rand(5, 3, dtype=torch.float64, requires_grad=True), torch.rand(5, 3, dtype=torch.float64)
    naive = sum((float(rgb[r, c]) - float(target[r, c])) ** 2 for r in range(5) for c in range(3)) / 5
    assert float(colour_loss(rgb, target)) == pytest.approx(naive)
    assert torch.autograd.gradcheck(lambda x: colour_loss(x, target), rgb)
    weights = torch.tensor([[1.0], [0.0], [0.0], [0.0], [3.0]], dtype=torch.float64)
    single = [float(((rgb[r] - target[r]) ** 2).sum()) for r in (0, 4)]
    assert float(colour_loss(rgb, target, weights)) == pytest.approx((single[0] + 3 * single[1]) / 4)


def test_background_colours_count_among_the_first_samples() -> None:
    rgb = torch.full((1, 6, 3), 0.5)
    rgb[0, 1], rgb[0, 2], rgb[0, 5] = 1.0, 0.0, 1.0
    mask = background_coloured(rgb, 4)
    assert mask.tolist() == [[False, True, True, False, False, False]]
    density = torch.arange(6.0)[None]
    assert float(occlusion_loss(density, 1, mask)) == pytest.approx((0 + 1 + 2) / 6)


def test_ramp() -> None:
    assert [linear_ramp(step, 4.0, 2.0, 4) for step in (-1, 0, 1, 4, 9)] == [4.0, 4.0, 3.5, 2.0, 2.0]
    assert linear_ramp(0, 4.0, 2.0, 0) == 2.0


def test_a_fixed_share_of_columns() -> None:
    mask = frequency_mask(10, step=3, end_step=100, visible_ratio=0.35)
    assert mask.tolist() == [1.0] * 3 + [0.0] * 7
