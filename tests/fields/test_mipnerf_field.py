"""mip-NeRF's network: its size, its options, and that it is what the layers say."""

from __future__ import annotations

from typing import Any, Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.field_components.encodings import integrated_positional_encoding, positional_encoding
from fewshot_ns.fields.mipnerf_field import MipNeRFField


def field(**changes: Any) -> MipNeRFField:
    torch.manual_seed(0)
    sizes = dict(num_layers=4, width=16, skip_layer=2, num_octaves=5, view_octaves=2, colour_width=8)
    return MipNeRFField(**{**sizes, **changes})


def gaussians(rays: int = 5, samples: int = 7, dtype: torch.dtype = torch.float32) -> Tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(rays, samples, 3, generator=generator)
    cov_diag = 1e-3 * torch.rand(rays, samples, 3, generator=generator)
    viewdirs = torch.randn(rays, 3, generator=generator)
    return means.to(dtype), cov_diag.to(dtype), viewdirs.to(dtype)


def plainly(network: MipNeRFField, means: Tensor, cov_diag: Tensor, viewdirs: Tensor) -> Tuple[Tensor, Tensor]:
    """The network as the paper draws it."""
    encoded = integrated_positional_encoding(means, cov_diag, network.num_octaves)
    encoded = torch.cat([means, encoded], dim=-1) if network.include_mean else encoded
    view = positional_encoding(viewdirs, network.view_octaves)[:, None].expand(-1, means.shape[1], -1)
    hidden = encoded
    for i, layer in enumerate(network.trunk):
        hidden = torch.relu(layer(torch.cat([hidden, encoded], dim=-1) if i == network.skip_layer else hidden))
    density = torch.nn.functional.softplus(network.density(hidden)[..., 0] + network.density_bias)
    colour = torch.relu(network.colour(torch.cat([network.bottleneck(hidden), view], dim=-1)))
    rgb = torch.sigmoid(network.rgb(colour)) * (1 + 2 * network.rgb_padding) - network.rgb_padding
    return density, rgb


def test_default_has_the_original_size() -> None:
    assert sum(parameter.numel() for parameter in MipNeRFField().parameters()) == 612740


@pytest.mark.parametrize("include_mean", [False, True])
def test_it_is_the_network_of_the_paper(include_mean: bool) -> None:
    network = field(include_mean=include_mean).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    given = gaussians(dtype=torch.float64)
    losses = []
    for function in (network, lambda *inputs: plainly(network, *inputs)):
        density, rgb = function(*given)
        losses.append((density**2).sum() + (rgb * torch.arange(3)).sum())
        torch.testing.assert_close(density, network(*given)[0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(rgb, network(*given)[1], rtol=1e-10, atol=1e-12)
    ours, theirs = (torch.autograd.grad(loss, list(network.parameters())) for loss in losses)
    for actual, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_normals_point_against_the_density() -> None:
    network, given = field().double(), gaussians(dtype=torch.float64)
    normals = network.trainable_normals(*given[:2]).detach()
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones_like(normals[..., 0]))
    step = 1e-5
    means, *rest = given
    ahead, behind = (network(means + sign * step * normals, *rest)[0] for sign in (1, -1))
    assert (ahead < behind).all()


def test_noise_shifts_the_raw_density() -> None:
    network, given = field(), gaussians()
    plain, _ = network(*given)
    raw = torch.log(torch.expm1(plain))
    noisy, _ = network(*given, noise=torch.full_like(plain, 0.5))
    torch.testing.assert_close(torch.log(torch.expm1(noisy)), raw + 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("include_mean", [False, True])
def test_masked_columns_are_not_seen(include_mean: bool) -> None:
    network = field(include_mean=include_mean)
    means, cov_diag, viewdirs = gaussians()
    mask, view_mask = torch.zeros(network.encoded_columns), torch.zeros(network.view_columns)
    density, rgb = network(means, cov_diag, viewdirs, mask, view_mask)
    assert density.std() < 1e-6 and rgb.std((0, 1)).max() < 1e-6
    ones = torch.ones_like(mask), torch.ones_like(view_mask)
    for actual, expected in zip(network(means, cov_diag, viewdirs, *ones), network(*gaussians()), strict=True):
        torch.testing.assert_close(actual, expected)


def test_half_precision_comes_close() -> None:
    given = gaussians()
    for half, single in zip(field(compute_dtype="bfloat16")(*given), field()(*given), strict=True):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, single, rtol=0.05, atol=0.02)


def test_colours_lie_in_the_padded_range() -> None:
    network = field(rgb_padding=0.1)
    with torch.no_grad():
        network.rgb.bias.copy_(torch.tensor([50.0, -50.0, 0.0]))
    _, rgb = network(*gaussians())
    torch.testing.assert_close(rgb[..., 0], torch.full_like(rgb[..., 0], 1.1))
    torch.testing.assert_close(rgb[..., 1], torch.full_like(rgb[..., 1], -0.1))


@pytest.mark.parametrize("skip_layer", [0, 4])
def test_skip_layer_out_of_range_is_named(skip_layer: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 3, got {skip_layer}"):
        field(skip_layer=skip_layer)


def test_normals_of_a_masked_encoding() -> None:
    network, (means, cov_diag, viewdirs) = field().double(), gaussians(dtype=torch.float64)
    mask = torch.linspace(1.0, 0.0, 30, dtype=torch.float64)
    points = means.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(plainly_masked(network, points, cov_diag, mask).sum(), points)
    normals = network.trainable_normals(means, cov_diag, mask)
    torch.testing.assert_close(normals, -torch.nn.functional.normalize(gradient, dim=-1))
    (forward,) = torch.autograd.grad(network(points, cov_diag, viewdirs, mask)[0].sum(), points)
    torch.testing.assert_close(normals, -torch.nn.functional.normalize(forward, dim=-1))
    assert not torch.allclose(normals, network.trainable_normals(means, cov_diag), atol=1e-3)


def plainly_masked(network: MipNeRFField, means: Tensor, cov_diag: Tensor, mask: Tensor) -> Tensor:
    """Density of the network as the paper draws it, on a masked encoding."""
    encoded = integrated_positional_encoding(means, cov_diag, network.num_octaves) * mask
    hidden = encoded
    for i, layer in enumerate(network.trunk):
        hidden = torch.relu(layer(torch.cat([hidden, encoded], dim=-1) if i == network.skip_layer else hidden))
    return torch.nn.functional.softplus(network.density(hidden)[..., 0] + network.density_bias)
