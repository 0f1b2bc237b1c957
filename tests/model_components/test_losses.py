"""Losses against naive loops, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from fewshot_ns.model_components.losses import (
    depth_continuity_loss,
    depth_gap_slope,
    depth_ranking_loss,
    distortion_loss,
    edge_aware_smoothness,
    occlusion_loss,
    plane_smoothness_loss,
    silhouette_loss,
    structural_dissimilarity,
)


@pytest.fixture
def quads() -> torch.Tensor:
    return torch.rand(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def random_ray(samples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(5, samples + 1, dtype=torch.float64, generator=generator).sort(-1).values
    weights = torch.rand(5, samples, dtype=torch.float64, generator=generator) / samples
    return t, weights


def test_ranking_equals_loop(quads: torch.Tensor) -> None:
    expected = sum(max(float(row[0] - row[1]) + 0.01, 0.0) for row in quads) / len(quads)
    assert float(depth_ranking_loss(quads, 0.01)) == pytest.approx(expected, rel=1e-12)


def test_ranking_takes_a_margin_per_pair(quads: torch.Tensor) -> None:
    margins = torch.linspace(0.0, 0.5, len(quads), dtype=torch.float64)
    expected = sum(max(float(row[0] - row[1] + margin), 0.0) for row, margin in zip(quads, margins, strict=True))
    assert float(depth_ranking_loss(quads, margins)) == pytest.approx(expected / len(quads), rel=1e-12)


def test_continuity_equals_loop(quads: torch.Tensor) -> None:
    expected = 0.0
    for p0, p1, n0, n1 in quads.tolist():
        expected += max(abs(p0 - n0) - 0.01, 0.0) + max(abs(p1 - n1) - 0.01, 0.0)
    assert float(depth_continuity_loss(quads, 0.01)) == pytest.approx(expected / len(quads), rel=1e-12)


def test_satisfied_pairs_cost_nothing() -> None:
    quads = torch.tensor([[1.0, 2.0, 1.0, 2.0]], requires_grad=True)
    loss = depth_ranking_loss(quads) + depth_continuity_loss(quads)
    loss.backward()
    assert loss.item() == 0.0
    assert quads.grad is not None and quads.grad.abs().max() == 0.0


def test_no_quads_give_zero_not_nan() -> None:
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = depth_ranking_loss(empty) + depth_continuity_loss(empty)
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize("loss", [depth_ranking_loss, depth_continuity_loss])
def test_depth_gradients(loss, quads: torch.Tensor) -> None:
    assert gradcheck(loss, (quads.clone().requires_grad_(True),))


@pytest.mark.parametrize("loss", [depth_ranking_loss, depth_continuity_loss])
def test_wrong_shape_is_named(loss) -> None:
    with pytest.raises(ValueError, match=r"\(Q, 4\).*\(6, 3\)"):
        loss(torch.zeros(6, 3))


def test_distortion_equals_double_sum() -> None:
    t, weights = random_ray(7, 1)
    middle, length = 0.5 * (t[:, 1:] + t[:, :-1]), t[:, 1:] - t[:, :-1]
    expected = torch.zeros(5, dtype=torch.float64)
    for i in range(7):
        expected += weights[:, i] ** 2 * length[:, i] / 3
        for j in range(7):
            expected += weights[:, i] * weights[:, j] * (middle[:, i] - middle[:, j]).abs()
    assert torch.allclose(distortion_loss(t, weights), expected.mean(), rtol=1e-12)
    assert gradcheck(lambda w: distortion_loss(t, w), (weights.requires_grad_(True),))


def test_occlusion_counts_the_first_samples_over_all() -> None:
    density = torch.arange(12.0).reshape(2, 6)
    extra = torch.zeros(2, 6, dtype=torch.bool)
    extra[1, 5] = True
    assert occlusion_loss(density, 2).item() == pytest.approx((0 + 1 + 6 + 7) / 12)
    assert occlusion_loss(density, 2, extra).item() == pytest.approx((0 + 1 + 6 + 7 + 11) / 12)


def test_plane_smoothness_equals_loop() -> None:
    planes = [torch.rand(3, 2, side, side, dtype=torch.float64) for side in (2, 4)]
    expected = 0.0
    for plane in planes:
        side = plane.shape[-1]
        across = [(plane[..., i + 1] - plane[..., i]) ** 2 for i in range(side - 1)]
        down = [(plane[..., i + 1, :] - plane[..., i, :]) ** 2 for i in range(side - 1)]
        expected += float(
            torch.cat([x.flatten() for x in across]).mean() + torch.cat([x.flatten() for x in down]).mean()
        )
    assert float(plane_smoothness_loss(planes)) == pytest.approx(expected)


def test_plane_smoothness_of_a_constant_is_zero_and_its_gradient_is_right() -> None:
    assert float(plane_smoothness_loss([torch.full((3, 1, 3, 3), 7.0)])) == 0.0
    plane = torch.rand(3, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda value: plane_smoothness_loss([value]), (plane,))


def test_gap_slope_equals_least_squares_view_by_view() -> None:
    generator = torch.Generator().manual_seed(0)
    distance = torch.rand(30, 4, dtype=torch.float64, generator=generator)
    gaps = torch.rand(30, dtype=torch.float64, generator=generator)
    views = torch.arange(30) % 3
    distance[:, 1] = distance[:, 0] + (1.0 + views) * gaps + 0.1 * distance[:, 2]
    slope = depth_gap_slope(distance, gaps, views)
    for view in range(3):
        of_view = views == view
        difference = (distance[of_view, 1] - distance[of_view, 0])[:, None]
        expected = torch.linalg.lstsq(gaps[of_view, None], difference).solution.item()
        assert torch.allclose(slope[of_view], torch.tensor(expected, dtype=torch.float64))


def test_gap_slope_without_evidence_is_zero() -> None:
    distance = torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    assert depth_gap_slope(distance, torch.tensor([0.0, 0.5]), torch.tensor([0, 1])).tolist() == [0.0, 0.0]
    assert depth_gap_slope(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)).shape == (0,)


def naive_dissimilarity(one: torch.Tensor, other: torch.Tensor, side: int) -> float:
    """1 - SSIM, window by window (Wang et al. 2004, eq. 13, with a Gaussian of 1.5 pixels)."""
    offsets = torch.arange(side, dtype=torch.float64) - side // 2
    line = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    window = (line / line.sum())[:, None] * (line / line.sum())
    values = []
    for channel in range(3):
        for top in range(one.shape[0] - side + 1):
            for left in range(one.shape[1] - side + 1):
                x = one[top : top + side, left : left + side, channel]
                y = other[top : top + side, left : left + side, channel]
                mx, my = float((window * x).sum()), float((window * y).sum())
                vx, vy = float((window * (x - mx) ** 2).sum()), float((window * (y - my) ** 2).sum())
                xy = float((window * (x - mx) * (y - my)).sum())
                c1, c2 = 0.01**2, 0.03**2
                above = (2 * mx * my + c1) * (2 * xy + c2)
                values.append(above / ((mx * mx + my * my + c1) * (vx + vy + c2)))
    return 1.0 - sum(values) / len(values)


@pytest.mark.parametrize("size, side", [((14, 13), 11), ((8, 20), 7), ((5, 6), 5), ((1, 9), 1), ((1, 1), 1)])
def test_dissimilarity_equals_loop(size: tuple[int, int], side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(*size, 3, dtype=torch.float64, generator=generator)
    rendered = (photo + 0.3 * torch.randn(*size, 3, dtype=torch.float64, generator=generator)).requires_grad_()
    found = structural_dissimilarity(rendered, photo)
    assert float(found) == pytest.approx(naive_dissimilarity(rendered.detach(), photo, side), abs=1e-6)
    assert float(structural_dissimilarity(photo, photo)) == pytest.approx(0.0, abs=1e-9)
    if side == 5:
        assert gradcheck(lambda rgb: structural_dissimilarity(rgb, photo), (rendered,), atol=1e-5)


def test_silhouette_equals_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    opacity, alpha = torch.rand(2, 9, 1, dtype=torch.float64, generator=generator)
    expected = sum(abs(float(one) - float(other)) for one, other in zip(opacity, alpha, strict=True)) / 9
    assert float(silhouette_loss(opacity, alpha)) == pytest.approx(expected, rel=1e-12)
    assert gradcheck(lambda value: silhouette_loss(value, alpha), (opacity.requires_grad_(),))


def test_edge_aware_smoothness_equals_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    distance = (0.5 + torch.rand(5, 6, dtype=torch.float64, generator=generator)).requires_grad_()
    image = torch.rand(5, 6, 3, dtype=torch.float64, generator=generator)
    shown = torch.rand(5, 6, generator=generator) > 0.3
    found = edge_aware_smoothness(distance, image, shown, edge=3.0)
    inverse = [[1.0 / float(value) for value in row] for row in distance.detach()]
    seen = [inverse[row][column] for row in range(5) for column in range(6) if shown[row, column]]
    mean, expected = sum(seen) / len(seen), 0.0
    for down, right in ((1, 0), (0, 1)):
        steps = []
        for row in range(5 - down):
            for column in range(6 - right):
                if shown[row, column] and shown[row + down, column + right]:
                    step = abs(inverse[row + down][column + right] - inverse[row][column]) / mean
                    grey = abs(float(image[row + down, column + right].mean() - image[row, column].mean()))
                    steps.append(math.exp(-3.0 * grey) * step)
        expected += sum(steps) / len(steps)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    # The mean is no way to lower the term, so it has no gradient of its own.
    with_mean_fixed = edge_aware_smoothness(distance, image, shown, edge=3.0)
    (gradient,) = torch.autograd.grad(with_mean_fixed, distance)
    assert not gradient[~shown].any() and gradient[shown].any()
    unit = float((1.0 / distance.detach())[shown].mean())

    def of_fixed_mean(value: torch.Tensor) -> torch.Tensor:
        return sum(
            (
                torch.exp(-3.0 * image.mean(-1).diff(dim=axis).abs())
                * (shown.narrow(axis, 1, size - 1) & shown.narrow(axis, 0, size - 1))
                * ((1.0 / value).diff(dim=axis).abs() / unit)
            ).sum()
            / (shown.narrow(axis, 1, size - 1) & shown.narrow(axis, 0, size - 1)).sum()
            for axis, size in ((0, 5), (1, 6))
        )  # type: ignore[return-value]

    assert gradcheck(of_fixed_mean, (distance,))
    torch.testing.assert_close(gradient, torch.autograd.grad(of_fixed_mean(distance), distance)[0])


def test_edge_aware_smoothness_of_nothing_and_of_a_plane_is_zero() -> None:
    distance = torch.full((4, 4), 2.0, requires_grad=True)
    nothing = edge_aware_smoothness(distance, torch.rand(4, 4, 3), torch.zeros(4, 4, dtype=torch.bool))
    nothing.backward()
    assert nothing == 0.0 and distance.grad is not None and not distance.grad.any()
    assert edge_aware_smoothness(distance, torch.rand(4, 4, 3), torch.ones(4, 4, dtype=torch.bool)) == 0.0


def test_edge_aware_smoothness_knows_no_unit_and_nothing_of_what_is_hidden() -> None:
    generator = torch.Generator().manual_seed(0)
    distance = (1.0 + torch.rand(5, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    image = torch.rand(5, 7, 3, dtype=torch.float64, generator=generator)
    shown = torch.rand(5, 7, generator=generator) > 0.3
    other = torch.where(shown, 7.0 * distance, torch.zeros_like(distance))
    found = edge_aware_smoothness(other, image, shown)
    torch.testing.assert_close(found, edge_aware_smoothness(distance, image, shown))
    (gradient,) = torch.autograd.grad(found, distance)
    assert gradient.isfinite().all() and not gradient[~shown].any() and gradient[shown].any()
