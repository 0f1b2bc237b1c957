"""The tri-plane field: where features are read, how levels open, what reaches the planes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewshot_ns.fields.triplane_field import TriPlaneField


def field(**changes: Any) -> TriPlaneField:
    defaults = dict(
        resolutions=(3, 5),
        channels=2,
        num_layers=2,
        width=8,
        view_octaves=1,
        colour_width=6,
        density_bias=-1.0,
        rgb_padding=0.001,
        compute_dtype="float32",
    )
    torch.manual_seed(0)
    return TriPlaneField(**{**defaults, **changes})


def naive_features(network: TriPlaneField, point: torch.Tensor, level: int) -> torch.Tensor:
    """Bilinear reading of the three planes of a level by hand, for one point inside [-1, 1]."""
    planes = network.planes[level]
    total = torch.zeros(planes.shape[1])
    for plane, (first, second) in zip(planes, ((0, 1), (0, 2), (1, 2)), strict=True):
        side = plane.shape[-1]
        x, y = ((point[axis] + 1) / 2 * (side - 1) for axis in (first, second))
        for row in range(side):
            for column in range(side):
                weight = max(0.0, 1 - abs(float(x) - column)) * max(0.0, 1 - abs(float(y) - row))
                total = total + weight * plane[:, row, column]
    return total


def test_features_are_read_where_they_lie() -> None:
    network = field()
    points = torch.rand(2, 3, 3) * 2 - 1
    features = network.features(points, torch.ones(2))
    assert features.shape == (2, 3, 4)
    for ray in range(2):
        for sample in range(3):
            expected = torch.cat([naive_features(network, points[ray, sample], level) for level in (0, 1)])
            assert torch.allclose(features[ray, sample], expected, atol=1e-5)


def test_poses_get_a_gradient_and_features_stay_the_same() -> None:
    network = field()
    points = (torch.rand(2, 3, 3) * 1.8 - 0.9).requires_grad_()
    moving = network.features(points, torch.ones(2))
    torch.testing.assert_close(moving, network.features(points.detach(), torch.ones(2)))
    (gradient,) = torch.autograd.grad(moving.sum(), points)
    assert gradient.abs().max() > 0


def test_planes_of_one_texel() -> None:
    network = field(resolutions=(1, 3))
    features = network.features(torch.rand(2, 3, 3), torch.ones(2))
    assert torch.allclose(features[..., :2], network.planes[0].sum((0, 2, 3)), atol=1e-6)


def test_visibility_scales_a_level() -> None:
    network, points = field(), torch.rand(4, 2, 3)
    whole, part = (network.features(points, torch.tensor(v)) for v in ((1.0, 1.0), (1.0, 0.25)))
    assert torch.equal(whole[..., :2], part[..., :2])
    assert torch.allclose(0.25 * whole[..., 2:], part[..., 2:])


def test_a_hidden_level_takes_no_gradient() -> None:
    network = field()
    density, rgb = network(torch.rand(4, 2, 3), torch.randn(4, 3), torch.tensor([1.0, 0.0]))
    (density.sum() + rgb.sum()).backward()
    first, second = (plane.grad for plane in network.planes)
    assert first is not None and first.abs().sum() > 0
    assert second is None or second.abs().sum() == 0


def test_outside_the_border_goes_on() -> None:
    network = field()
    inside, outside = torch.tensor([[[1.0, 0.2, -1.0]]]), torch.tensor([[[7.0, 0.2, -3.0]]])
    assert torch.allclose(network.features(inside, torch.ones(2)), network.features(outside, torch.ones(2)))


def test_ranges_and_types() -> None:
    density, rgb = field(compute_dtype="bfloat16")(torch.rand(5, 3, 3), torch.randn(5, 3), torch.ones(2))
    assert density.shape == (5, 3) and rgb.shape == (5, 3, 3)
    assert density.dtype == rgb.dtype == torch.float32
    assert density.min() >= 0 and rgb.min() >= -0.001 - 1e-6 and rgb.max() <= 1.001 + 1e-6


def test_colour_depends_on_the_direction_and_density_does_not() -> None:
    network, points = field(), torch.rand(1, 4, 3)
    results = [network(points, torch.nn.functional.normalize(torch.randn(1, 3), dim=-1), torch.ones(2)) for _ in "ab"]
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.allclose(results[0][1], results[1][1])


def test_colour_without_directions() -> None:
    network, points = field(view_octaves=None), torch.rand(1, 4, 3)
    results = [network(points, torch.nn.functional.normalize(torch.randn(1, 3), dim=-1), torch.ones(2)) for _ in "ab"]
    assert torch.equal(results[0][1], results[1][1])


def test_one_factor_per_level_is_demanded() -> None:
    with pytest.raises(ValueError):
        field()(torch.rand(1, 2, 3), torch.randn(1, 3), torch.ones(3))
