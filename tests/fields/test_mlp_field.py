"""The small mip-NeRF MLP."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewshot_ns.fields.mlp_field import MLPField


def field(**changes: Any) -> MLPField:
    torch.manual_seed(0)
    defaults: dict[str, Any] = dict(
        num_layers=3,
        width=16,
        skip_layer=1,
        num_octaves=4,
        view_octaves=2,
        colour_width=8,
        density_bias=-1.0,
        rgb_padding=0.001,
        compute_dtype="float32",
    )
    return MLPField(**{**defaults, **changes})


def gaussians(rays: int = 5, samples: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(rays, samples, 3, generator=generator)
    cov_diag = 1e-4 * torch.rand(rays, samples, 3, generator=generator)
    viewdirs = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    return means, cov_diag, viewdirs


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shapes_ranges_and_number_format(dtype: str) -> None:
    density, rgb = field(compute_dtype=dtype)(*gaussians())
    assert density.shape == (5, 7) and rgb.shape == (5, 7, 3)
    assert density.dtype == rgb.dtype == torch.float32
    assert (density > 0).all() and (rgb >= -0.001).all() and (rgb <= 1.001).all()


def test_colours_reach_beyond_one_by_the_padding() -> None:
    network = field(rgb_padding=0.25)
    with torch.no_grad():
        network.head.rgb.weight.zero_()
        network.head.rgb.bias.copy_(torch.tensor([50.0, -50.0, 0.0]))
    _, rgb = network(*gaussians())
    assert torch.allclose(rgb, torch.tensor([1.25, -0.25, 0.5]))


def test_density_bias() -> None:
    network = field(density_bias=2.0)
    with torch.no_grad():
        network.head.density.weight.zero_()
    density, _ = network(*gaussians())
    assert torch.allclose(density, torch.nn.functional.softplus(torch.tensor(2.0)))


def test_density_does_not_depend_on_the_direction_but_colour_does() -> None:
    network = field()
    means, cov_diag, viewdirs = gaussians()
    density, rgb = network(means, cov_diag, viewdirs)
    turned_density, turned_rgb = network(means, cov_diag, -viewdirs)
    assert torch.equal(density, turned_density)
    assert not torch.allclose(rgb, turned_rgb)


def test_masked_columns_have_no_influence() -> None:
    network = field()
    means, cov_diag, viewdirs = gaussians()
    # Octave k turns once in 2 pi / 2^k: a step of 2 pi / 2 changes the lowest octave alone.
    moved = means + torch.pi
    columns = torch.ones(2, 4, 3)
    columns[:, 0] = 0.0
    mask = columns.flatten()
    density, _ = network(means, cov_diag, viewdirs, mask)
    assert torch.allclose(density, network(moved, cov_diag, viewdirs, mask)[0], atol=1e-4)
    assert not torch.allclose(network(means, cov_diag, viewdirs)[0], network(moved, cov_diag, viewdirs)[0], atol=1e-2)


def test_wide_gaussians_lose_their_position() -> None:
    network = field()
    means, _, viewdirs = gaussians()
    density, _ = network(means, torch.full_like(means, 1e3), viewdirs)
    assert torch.allclose(density, density[0, 0].expand_as(density), atol=1e-6)


@pytest.mark.parametrize("skip_layer", [0, 1, 2, 9])
def test_skip_layer_widens_one_layer(skip_layer: int) -> None:
    network = field(skip_layer=skip_layer)
    widths = [layer.in_features for layer in network.trunk]  # type: ignore[union-attr]
    assert widths == [24] + [16 + (24 if index == skip_layer else 0) for index in (1, 2)]
    assert network(*gaussians())[0].isfinite().all()


def test_gradients_reach_every_parameter() -> None:
    network = field()
    density, rgb = network(*gaussians())
    (density.sum() + rgb.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("masked", [False, True])
def test_trainable_normals_are_those_of_the_density(masked: bool) -> None:
    network, (means, cov_diag, viewdirs) = field(), gaussians()
    mask = torch.linspace(1.0, 0.0, 24) if masked else None
    points = means.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(points, cov_diag, viewdirs, mask)[0].sum(), points)
    normals = network.trainable_normals(means, cov_diag, mask)
    torch.testing.assert_close(normals, -torch.nn.functional.normalize(gradient, dim=-1), rtol=1e-4, atol=1e-5)
    assert masked == (not torch.allclose(normals, network.trainable_normals(means, cov_diag), atol=1e-3))
    assert not means.requires_grad
    (normals[..., 0] ** 2).sum().backward()
    trained = [*network.trunk.parameters(), network.head.density.weight]
    assert all(value.grad is not None and value.grad.isfinite().all() and value.grad.any() for value in trained[::2])
    # They say nothing of colours.
    assert all(value.grad is None for value in network.head.rgb.parameters())


def test_normals_are_in_full_precision() -> None:
    exact, reduced = field(), field(compute_dtype="bfloat16")
    means, cov_diag, _ = gaussians()
    assert torch.equal(reduced.trainable_normals(means, cov_diag), exact.trainable_normals(means, cov_diag))
