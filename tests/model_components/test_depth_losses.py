"""Losses on depth and its inverse, intervals and normals against sums written out, and their gradients."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.model_components.depth_losses import (
    cdf_bound_losses,
    correlation_loss,
    depth_error,
    ds_nerf_loss,
    inverse_depth_error,
    open_bound_loss,
    urf_losses,
)
from fewshot_ns.model_components.interval_losses import (
    HALF_EPSILON,
    cumulative_around,
    interlevel_loss,
    overlapping_weight,
)
from fewshot_ns.model_components.losses import charbonnier_loss, distortion_per_ray
from fewshot_ns.model_components.normal_losses import normal_alignment_loss, normal_chord_loss, orientation_loss
from fewshot_ns.model_components.schedules import square_root_decay

SIGMA = 0.05


def rays(seed: int = 0, valid: bool = True) -> Tuple[Tensor, Tensor, Tensor]:
    """Weights (5, 12), fenceposts (5, 13) and depths (5, 1), of which every second is missing or all are."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(5, 13, generator=generator, dtype=torch.float64).sort(-1).values + 2.0
    weights = torch.rand(5, 12, generator=generator, dtype=torch.float64) / 8.0
    depth = 2.2 + 0.6 * torch.rand(5, 1, generator=generator, dtype=torch.float64)
    depth[::2] = 0.0
    return weights.requires_grad_(), t, depth if valid else torch.zeros_like(depth)


def middle(t: Tensor) -> Tensor:
    return 0.5 * (t[:, 1:] + t[:, :-1])


def phi(x: float, mean: float, sigma: float) -> float:
    return 0.5 * (1.0 + math.erf((x - mean) / (sigma * math.sqrt(2.0))))


@pytest.mark.parametrize("far_open", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_cdf_bounds_are_the_sums_of_the_text(beta: float, far_open: bool) -> None:
    weights, t, depth = rays()
    sets: Dict[str, list] = {"empty": [], "before": [], "behind": []}
    for ray in range(5):
        measured, total = float(depth[ray]), 0.0
        for weight, x in zip(weights[ray].tolist(), middle(t)[ray].tolist(), strict=True):
            total += weight
            if measured <= 0:
                continue
            if x < measured - 3 * SIGMA:
                sets["empty"].append(weight**2)
            elif x < measured:
                sets["before"].append(max(total - phi(x, measured - beta, SIGMA), 0.0) ** 2)
            elif far_open or x < measured + 3 * SIGMA:
                sets["behind"].append(max(phi(x, measured + beta, SIGMA) - total, 0.0) ** 2)
    bounds = cdf_bound_losses(weights, middle(t), depth, SIGMA, beta, far_open)
    for name, values in sets.items():
        assert values
        assert getattr(bounds, name).item() == pytest.approx(sum(values) / len(values))
    assert bounds.near.item() == pytest.approx((bounds.before + bounds.behind).item())


def test_a_wide_measurement_of_one_ray_changes_that_ray_only() -> None:
    weights, t, depth = rays()
    narrow = torch.full_like(depth, SIGMA)
    wide = narrow.clone()
    wide[1] *= 3
    one = cdf_bound_losses(weights, middle(t), depth, SIGMA).near
    assert torch.equal(one, cdf_bound_losses(weights, middle(t), depth, narrow).near)
    (before,) = torch.autograd.grad(cdf_bound_losses(weights[3:4], middle(t)[3:4], depth[3:4], SIGMA).near, weights)
    per_ray = cdf_bound_losses(weights[3:4], middle(t)[3:4], depth[3:4], wide[3:4]).near
    (after,) = torch.autograd.grad(per_ray, weights)
    assert torch.equal(before, after)
    assert cdf_bound_losses(weights, middle(t), depth, wide).near != one


LOSSES: Dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "cdf": lambda w, t, d: sum(cdf_bound_losses(w, middle(t), d, SIGMA, 0.02)),
    "open": lambda w, t, d: open_bound_loss(w, middle(t), d, SIGMA),
    "urf": lambda w, t, d: sum(urf_losses(w, middle(t), d, 0.3)),
    "urf_twice": lambda w, t, d: sum(urf_losses(w, middle(t), d, 0.3, squared_twice=True)),
    "ds-nerf": lambda w, t, d: ds_nerf_loss(w, t, d, SIGMA),
    "l2": lambda w, t, d: depth_error((w * middle(t)).sum(-1, keepdim=True), d, d > 0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    weights, t, depth = rays()
    assert torch.autograd.gradcheck(lambda w: LOSSES[name](w, t, depth), (weights,))


@pytest.mark.parametrize("name", LOSSES)
def test_rays_without_depth_do_not_count(name: str) -> None:
    weights, t, depth = rays()
    chosen = depth[:, 0] > 0
    loss = LOSSES[name](weights, t, depth)
    assert loss > 0
    torch.testing.assert_close(loss, LOSSES[name](weights[chosen], t[chosen], depth[chosen]))
    (gradient,) = torch.autograd.grad(loss, weights)
    assert not gradient[~chosen].any() and gradient[chosen].any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_depth_costs_nothing(name: str) -> None:
    weights, t, depth = rays(valid=False)
    for count in (5, 0):
        loss = LOSSES[name](weights[:count], t[:count], depth[:count])
        (gradient,) = torch.autograd.grad(loss, weights)
        assert loss == 0 and not gradient.any() and gradient.isfinite().all()


def test_ds_nerf_and_urf_are_sums_over_samples() -> None:
    weights, t, depth = rays()
    per_ray, near = [], []
    for ray in range(5):
        if depth[ray] <= 0:
            continue
        total = 0.0
        for i in range(12):
            length, offset = float(t[ray, i + 1] - t[ray, i]), float(middle(t)[ray, i] - depth[ray])
            total -= math.log(float(weights[ray, i]) + 1e-7) * math.exp(-0.5 * (offset / SIGMA) ** 2) * length
            if abs(offset) < 0.3:
                near.append((float(weights[ray, i]) - math.exp(-0.5 * offset**2 / (0.1**4 + 5e-7))) ** 2)
        per_ray.append(total)
    assert ds_nerf_loss(weights, t, depth, SIGMA).item() == pytest.approx(sum(per_ray) / len(per_ray))
    assert urf_losses(weights, middle(t), depth, 0.3)[1].item() == pytest.approx(sum(near) / len(near))


def test_interlevel_loss_is_that_of_the_overlapping_bins() -> None:
    envelope, t_envelope, _ = rays(1)
    weights, t, _ = rays(2)
    outer = overlapping_weight(t[:, :7], t_envelope, envelope)
    before, beyond = cumulative_around(t[:, :7], t_envelope, envelope)
    loss = interlevel_loss(t[:, :7], weights[:, :6], t_envelope, envelope)
    for ray in range(5):
        for i in range(6):
            low, high = float(t[ray, i]), float(t[ray, i + 1])
            bins = [(float(a), float(b)) for a, b in zip(t_envelope[ray], t_envelope[ray, 1:], strict=False)]
            over = sum(float(w) for (a, b), w in zip(bins, envelope[ray], strict=True) if a <= high and b > low)
            ended = sum(float(w) for (_, b), w in zip(bins, envelope[ray], strict=True) if b <= low)
            begun = sum(float(w) for (a, _), w in zip(bins, envelope[ray], strict=True) if a <= low)
            assert outer[ray, i].item() == pytest.approx(over)
            assert before[ray, i].item() == pytest.approx(ended)
            assert beyond[ray, i].item() == pytest.approx(begun)
            weight = float(weights[ray, i])
            assert loss[ray, i].item() == pytest.approx(max(weight - over, 0.0) ** 2 / (weight + HALF_EPSILON))
    outer = overlapping_weight(t, t_envelope, envelope)
    finer = (weights - outer).clamp(min=0.0) ** 2 / (weights + 1e-5)
    torch.testing.assert_close(interlevel_loss(t, weights, t_envelope, envelope, epsilon=1e-5), finer)
    assert torch.autograd.gradcheck(lambda e: interlevel_loss(t, weights, t_envelope, e), (envelope,))
    assert not interlevel_loss(t, weights.detach().requires_grad_(), t_envelope, envelope.detach()).requires_grad


def test_distortion_is_a_double_sum() -> None:
    weights, t, _ = rays()
    m, length = middle(t), t[:, 1:] - t[:, :-1]
    pairs = (weights[:, :, None] * weights[:, None] * (m[:, :, None] - m[:, None]).abs()).sum((1, 2))
    torch.testing.assert_close(distortion_per_ray(t, weights), pairs + (weights**2 * length).sum(-1) / 3)
    assert torch.autograd.gradcheck(distortion_per_ray, (t.requires_grad_(), weights))


def test_losses_of_normals() -> None:
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(4, 6, 3, generator=generator, dtype=torch.float64), dim=-1)
    target, view = normals[:, 0].clone(), normals[:, 1].clone()
    target[2] = 0.0
    weights = torch.rand(4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    valid = [0, 1, 3]
    align = sum(float(weights[r, i] * (1 - normals[r, i] @ target[r])) for r in valid for i in range(6)) / 3
    away = sum(float(weights[r, i]) * max(float(normals[r, i] @ view[r]), 0) ** 2 for r in valid for i in range(6)) / 3
    assert normal_alignment_loss(weights, normals, target).item() == pytest.approx(align)
    assert normal_chord_loss(weights, normals, target).item() == pytest.approx(align)
    counts = (target != 0).any(-1)
    assert orientation_loss(weights, normals, view, counts).item() == pytest.approx(away)
    normals.requires_grad_()
    assert torch.autograd.gradcheck(lambda w, n: normal_alignment_loss(w, n, target), (weights, normals))
    assert torch.autograd.gradcheck(lambda w, n: orientation_loss(w, n, view, counts), (weights, normals))
    none = torch.zeros_like(target)
    for loss in (
        normal_alignment_loss(weights, normals, none),
        orientation_loss(weights, normals, view, torch.zeros_like(counts)),
    ):
        gradients = torch.autograd.grad(loss, (weights, normals))
        assert loss == 0 and not any(gradient.any() for gradient in gradients)


def test_charbonnier_loss() -> None:
    rgb, target = torch.rand(6, 3, dtype=torch.float64, requires_grad=True), torch.rand(6, 3, dtype=torch.float64)
    expected = sum(
        math.sqrt((a - b) ** 2 + 1e-3) for a, b in zip(rgb.flatten().tolist(), target.flatten().tolist(), strict=True)
    )
    assert charbonnier_loss(rgb, target).item() == pytest.approx(expected / 18)
    assert charbonnier_loss(target, target).item() == pytest.approx(math.sqrt(1e-3))
    assert torch.autograd.gradcheck(lambda x: charbonnier_loss(x, target), (rgb,))
    half = torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]], dtype=torch.float64)
    torch.testing.assert_close(charbonnier_loss(rgb, target, half), charbonnier_loss(rgb[:3], target[:3]))


def test_square_root_decay() -> None:
    assert square_root_decay(0, 0.25, 0.5, 0.09, 1000) == 0.25
    assert square_root_decay(10, 0.25, 0.5, 0.09, 1000) == pytest.approx(0.25 - 0.5 * math.sqrt(0.04))
    assert square_root_decay(1000, 0.25, 0.5, 0.09, 1000) == 0.09


def test_inverse_depth_error_is_a_mean_over_what_is_known_and_shown() -> None:
    generator = torch.Generator().manual_seed(0)
    rendered = (1.0 + 3.0 * torch.rand(12, 1, generator=generator, dtype=torch.float64)).requires_grad_()
    depth = 1.0 + 3.0 * torch.rand(12, 1, generator=generator, dtype=torch.float64)
    depth[::4], shown = 0.0, torch.ones(12, 1, dtype=torch.bool)
    shown[1::4] = False
    known = sorted(float(value) for value in depth if value > 0)
    median = known[(len(known) - 1) // 2]
    errors = [
        median * abs(1.0 / float(a) - 1.0 / float(b))
        for a, b, c in zip(rendered, depth, shown, strict=True)
        if b > 0 and c
    ]
    assert len(errors) == 6
    loss = inverse_depth_error(rendered, depth, shown)
    assert loss.item() == pytest.approx(sum(errors) / len(errors))
    assert torch.autograd.gradcheck(lambda value: inverse_depth_error(value, depth, shown), (rendered,))
    (gradient,) = torch.autograd.grad(loss, rendered)
    assert torch.equal(gradient != 0, (depth > 0) & shown)
    # The unit of the world does not matter.
    torch.testing.assert_close(inverse_depth_error(5.0 * rendered, 5.0 * depth, shown), loss)


@pytest.mark.parametrize("count", [4, 0])
def test_inverse_depth_error_without_depth_and_of_depth_without_bounds(count: int) -> None:
    rendered = torch.zeros(count, 1, requires_grad=True)
    for depth, shown in ((0.0, True), (2.0, False)):
        loss = inverse_depth_error(
            rendered, torch.full((count, 1), depth), torch.full((count, 1), shown, dtype=torch.bool)
        )
        (gradient,) = torch.autograd.grad(loss, rendered)
        assert loss == 0 and not gradient.any()
    if count:
        loss = inverse_depth_error(rendered, torch.full((count, 1), 2.0), torch.ones(count, 1, dtype=torch.bool))
        assert loss.item() == pytest.approx(99.0)


@pytest.mark.parametrize("without_bounds", [torch.inf, torch.nan, -torch.inf])
def test_inverse_depth_error_of_maps_most_of_which_is_no_number(without_bounds: float) -> None:
    """What has no depth neither counts nor makes the unit: an infinite median would."""
    rendered = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]], requires_grad=True)
    depth, shown = torch.full((5, 1), without_bounds), torch.ones(5, 1, dtype=torch.bool)
    depth[:2] = torch.tensor([[2.0], [3.0]])
    loss = inverse_depth_error(rendered, depth, shown)
    torch.testing.assert_close(loss, inverse_depth_error(rendered[:2], depth[:2], shown[:2]))
    (gradient,) = torch.autograd.grad(loss, rendered)
    assert (gradient[:2] != 0).all() and not gradient[2:].any()


def views_of_pixels(dtype: torch.dtype = torch.float64) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rendered values (90,), maps (90,), which count, and views: 40 pixels of 7, 30 of 2 and 20 of 5, mixed."""
    generator = torch.Generator().manual_seed(0)
    views = torch.tensor([7] * 40 + [2] * 30 + [5] * 20)[torch.randperm(90, generator=generator)]
    rendered = 0.2 + torch.rand(90, generator=generator, dtype=dtype)
    nearness = views * (rendered + torch.randn(90, generator=generator, dtype=dtype)) - 3.0
    return rendered.requires_grad_(), nearness, torch.rand(90, generator=generator) > 0.3, views


def naive_correlation(a: list, b: list) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


@pytest.mark.parametrize("least, used", [(2, (2, 5, 7)), (16, (2, 7))])
def test_correlation_is_a_mean_over_views(least: int, used: Tuple[int, ...]) -> None:
    rendered, nearness, counts, views = views_of_pixels()
    values = []
    for view in used:
        mine = [pixel for pixel in range(90) if views[pixel] == view and counts[pixel]]
        assert len(mine) >= least
        values.append(1.0 - naive_correlation(rendered[mine].tolist(), nearness[mine].tolist()))
    loss = correlation_loss(rendered, nearness, counts, views, least)
    assert loss.item() == pytest.approx(sum(values) / len(values))
    assert torch.autograd.gradcheck(lambda x: correlation_loss(x, nearness, counts, views, least), (rendered,))
    (gradient,) = torch.autograd.grad(loss, rendered)
    assert torch.equal(gradient != 0, counts & torch.isin(views, torch.tensor(used)))


def test_correlation_knows_neither_scale_nor_shift_of_a_map() -> None:
    rendered, nearness, counts, views = views_of_pixels(torch.float32)
    loss = correlation_loss(rendered, nearness, counts, views)
    for scale, shift in ((1e-12, 0.0), (1e12, 0.0), (0.01, 3.0)):
        torch.testing.assert_close(correlation_loss(rendered, scale * nearness + shift, counts, views), loss)
        torch.testing.assert_close(correlation_loss(scale * rendered + shift, nearness, counts, views), loss)
    right, wrong = (
        correlation_loss(rendered, sign * (2.0 * rendered.detach()) + 5.0, counts, views) for sign in (1, -1)
    )
    assert right.item() == pytest.approx(0.0, abs=1e-5) and wrong.item() == pytest.approx(2.0)


@pytest.mark.parametrize("case", ["rendered", "map", "nothing counts", "no pixels"])
def test_what_is_constant_has_no_correlation(case: str) -> None:
    rendered, nearness, counts, views = views_of_pixels(torch.float32)
    if case == "rendered":
        # Sums of a third are not exact.
        rendered = torch.full((90,), 1.0 / 3.0, requires_grad=True)
    elif case == "map":
        nearness = torch.full((90,), 1.0 / 3.0)
    elif case == "nothing counts":
        counts = torch.zeros_like(counts)
    else:
        rendered, nearness, counts, views = (value[:0] for value in (rendered, nearness, counts, views))
        rendered = rendered.detach().requires_grad_()
    loss = correlation_loss(rendered, nearness, counts, views)
    (gradient,) = torch.autograd.grad(loss, rendered)
    assert loss == 0 and gradient.isfinite().all() and not gradient.any()
