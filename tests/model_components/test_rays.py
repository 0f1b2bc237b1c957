"""Gaussians, fenceposts, compositing and schedules against numerical or naive references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.ray_samplers import (
    blur_pool,
    geometric_fenceposts,
    resample_fenceposts,
    sample_piecewise_constant,
    stratified_fenceposts,
)
from fewshot_ns.model_components.renderers import composite_rgb, compositing_weights, expected_distance
from fewshot_ns.model_components.schedules import anneal_near_far

F64 = torch.float64


@pytest.mark.parametrize("shape", ["cone", "cylinder"])
def test_gaussian_moments_equal_monte_carlo(shape: str) -> None:
    rng = np.random.default_rng(0)
    t0, t1, radius, count = 1.0, 1.6, 0.2, 400_000
    direction = np.array([0.3, -0.2, -1.1])
    side = np.cross(direction, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    other = np.cross(direction / np.linalg.norm(direction), side)
    power = 3 if shape == "cone" else 1
    t = (t0**power + rng.random(count) * (t1**power - t0**power)) ** (1 / power)
    r = radius * np.sqrt(rng.random(count)) * (t if shape == "cone" else 1.0)
    angle = 2 * np.pi * rng.random(count)
    points = t[:, None] * direction + (r * np.cos(angle))[:, None] * side + (r * np.sin(angle))[:, None] * other
    means, cov = cast_rays(
        torch.tensor([[t0, t1]], dtype=F64),
        torch.zeros(1, 3, dtype=F64),
        torch.tensor(direction)[None],
        torch.tensor([[radius]], dtype=F64),
        shape,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(means[0, 0].numpy(), points.mean(0), atol=2e-3)
    np.testing.assert_allclose(cov[0, 0].numpy(), points.var(0), rtol=0.02)


def test_unknown_ray_shape_is_named() -> None:
    one = torch.ones(1, 3)
    with pytest.raises(ValueError, match="'torus'"):
        cast_rays(torch.ones(1, 2), one, one, torch.ones(1, 1), "torus")  # type: ignore[arg-type]


def test_geometric_fenceposts_are_constant_shares_apart() -> None:
    near, far = torch.tensor([[0.1], [2.0]], requires_grad=True), torch.tensor([[100.0], [2.5]])
    even = geometric_fenceposts(near, far, 8)
    expected = torch.tensor([[n * (f / n) ** (i / 8) for i in range(9)] for n, f in ((0.1, 100.0), (2.0, 2.5))])
    torch.testing.assert_close(even, expected)
    # Up to 3 equal steps have no sample but the first, these have half of all.
    assert [int((posts[0] < 3.0).sum()) for posts in (stratified_fenceposts(near, far, 8), even)] == [1, 4]
    jittered = geometric_fenceposts(near, far, 8, torch.rand(2, 9))
    assert (jittered.diff(dim=-1) > 0).all() and not torch.equal(jittered, even)
    assert (jittered >= near - 1e-6).all() and (jittered <= far + 1e-4).all()
    double = near.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda n: geometric_fenceposts(n, far.double(), 8), (double,))


def test_stratified_fenceposts_stay_in_their_strata() -> None:
    near, far = torch.full((3, 1), 0.5), torch.full((3, 1), 2.5)
    even = stratified_fenceposts(near, far, 8)
    assert torch.allclose(even, torch.linspace(0.5, 2.5, 9).expand(3, 9))
    middle = 0.5 * (even[:, 1:] + even[:, :-1])
    jittered = stratified_fenceposts(near, far, 8, torch.rand(3, 9))
    assert (jittered[:, 1:] >= middle - 1e-6).all() and (jittered[:, :-1] <= middle + 1e-6).all()


def test_inverse_cdf_follows_the_histogram() -> None:
    t = torch.tensor([[0.0, 1.0, 2.0, 4.0]], dtype=F64)
    weights = torch.tensor([[1.0, 0.0, 3.0]], dtype=F64)
    u = torch.linspace(0, 1 - 1e-9, 4001, dtype=F64)[None]
    samples = sample_piecewise_constant(t, weights, u)[0]
    assert ((samples > 1.0) & (samples < 2.0)).double().mean() < 1e-3
    assert (samples <= 1.0).double().mean().item() == pytest.approx(0.25, abs=1e-3)
    assert (samples >= 3.0).double().mean().item() == pytest.approx(0.375, abs=1e-3)


def test_empty_rays_are_sampled_evenly() -> None:
    t = torch.linspace(0, 1, 9)[None]
    new = resample_fenceposts(t, torch.zeros(1, 8), 8, 0.0, stratified=False)
    assert torch.allclose(new, t, atol=1e-5)


def test_rays_of_one_segment_are_resampled_within_it() -> None:
    t, u = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.25, 0.75]])
    for weight in (0.0, 0.5):
        samples = sample_piecewise_constant(t, torch.full((1, 1), weight), u)
        assert torch.allclose(samples, torch.tensor([[1.0, 1.5, 2.5]]))


def test_blur_pool_equals_loop() -> None:
    weights = torch.tensor([[0.0, 5.0, 1.0, 2.0]])
    padded = [0.0, 0.0, 5.0, 1.0, 2.0, 2.0]
    highest = [max(padded[i], padded[i + 1]) for i in range(5)]
    expected = [0.5 * (highest[i] + highest[i + 1]) + 0.1 for i in range(4)]
    assert torch.allclose(blur_pool(weights, 0.1), torch.tensor([expected]))


def test_compositing_equals_loop_and_background() -> None:
    torch.manual_seed(0)
    density, rgb = torch.rand(2, 5, dtype=F64) * 3, torch.rand(2, 5, 3, dtype=F64)
    t = torch.rand(2, 6, dtype=F64).sort(-1).values
    directions = torch.tensor([[0.0, 0.0, -2.0], [1.0, 2.0, -2.0]], dtype=F64)
    weights = compositing_weights(density, t, directions)
    for ray in range(2):
        seen, colour = 1.0, torch.zeros(3, dtype=F64)
        for i in range(5):
            length = float(t[ray, i + 1] - t[ray, i]) * float(directions[ray].norm())
            alpha = 1 - np.exp(-float(density[ray, i]) * length)
            assert float(weights[ray, i]) == pytest.approx(seen * alpha, rel=1e-10)
            colour = colour + seen * alpha * rgb[ray, i]
            seen *= 1 - alpha
        assert torch.allclose(composite_rgb(rgb, weights, "black")[ray], colour)
        assert torch.allclose(composite_rgb(rgb, weights, "white")[ray], colour + seen)


def test_expected_distance_of_an_empty_ray_is_near_with_zero_gradient() -> None:
    t = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    weights = torch.tensor([[0.0, 0.0], [0.25, 0.75]], requires_grad=True)
    distance = expected_distance(weights, t)
    distance.sum().backward()
    assert distance[:, 0].tolist() == [1.0, pytest.approx(2.25)]
    assert weights.grad is not None and weights.grad.isfinite().all()
    assert weights.grad[0].abs().max() == 0.0


def test_expected_distance_gradient() -> None:
    t = torch.rand(3, 6, dtype=F64).sort(-1).values
    weights = torch.rand(3, 5, dtype=F64).requires_grad_(True)
    assert gradcheck(lambda w: expected_distance(w, t), (weights,))


def test_near_far_opens_from_its_middle_to_the_whole() -> None:
    near, far = torch.tensor([[0.5], [0.5]]), torch.tensor([[3.5], [3.5]])
    middle = torch.tensor([[2.0], [1.0]])
    first = anneal_near_far(0, near, far, 256, 0.5, middle)
    assert torch.allclose(first[0], torch.tensor([[1.25], [0.75]]))
    assert torch.allclose(first[1], torch.tensor([[2.75], [2.25]]))
    steps = [anneal_near_far(step, near, far, 256, 0.5, middle) for step in range(0, 300, 20)]
    assert all((a[0] >= b[0]).all() and (a[1] <= b[1]).all() for a, b in zip(steps, steps[1:], strict=False))
    for whole in (anneal_near_far(256, near, far, 256, 0.5, middle), anneal_near_far(0, near, far, 0, 0.5, middle)):
        assert torch.equal(whole[0], near) and torch.equal(whole[1], far)
