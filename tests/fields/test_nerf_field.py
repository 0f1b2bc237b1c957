"""NeRF's network: the fused evaluation against layers one after the other, in value and in gradient."""

from __future__ import annotations

from typing import Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.fields.nerf_field import NeRFField


def encode(x: Tensor, octaves: int) -> Tensor:
    parts = [x]
    for octave in range(octaves):
        parts += [torch.sin(2**octave * x), torch.cos(2**octave * x)]
    return torch.cat(parts, dim=-1)


def layer_by_layer(field: NeRFField, positions: Tensor, viewdirs: Tensor) -> Tuple[Tensor, Tensor]:
    encoded = encode(positions, field.num_octaves)
    x = encoded
    for index, layer in enumerate(field.trunk):
        x = torch.relu(layer(torch.cat([encoded, x], dim=-1) if index == field.skip_layer else x))
    if field.view_octaves is None:
        raw = field.output(x)
        return raw[..., 3], raw[..., :3]
    view = encode(viewdirs, field.view_octaves)[:, None].expand(-1, positions.shape[1], -1)
    hidden = torch.relu(field.colour(torch.cat([field.bottleneck(x), view], dim=-1)))
    return field.density(x)[..., 0], field.rgb(hidden)


def column_mask(columns: int) -> Tensor:
    return torch.linspace(1.0, 0.0, columns, dtype=torch.float64) ** 2


@pytest.mark.parametrize("view_octaves", [2, None])
def test_masks_are_factors_on_the_encodings(view_octaves, monkeypatch):
    """Against the layers one after the other on encodings times the masks."""
    torch.manual_seed(0)
    field = NeRFField(4, 16, 2, 3, view_octaves, 8).double()
    positions, viewdirs = torch.rand(5, 7, 3).double(), torch.nn.functional.normalize(torch.rand(5, 3).double(), dim=-1)
    mask, view_mask = column_mask(21), column_mask(15)
    found = field.raw(positions, viewdirs, mask, view_mask)
    plain = encode

    def masked(x: Tensor, octaves: int) -> Tensor:
        return plain(x, octaves) * (mask if x is positions else view_mask)

    monkeypatch.setitem(globals(), "encode", masked)
    expected = layer_by_layer(field, positions, viewdirs)
    for ours, theirs, unmasked in zip(found, expected, field.raw(positions, viewdirs), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not torch.allclose(ours, unmasked)
    ones = torch.ones_like(mask), torch.ones_like(view_mask)
    for ours, unmasked in zip(field.raw(positions, viewdirs, *ones), field.raw(positions, viewdirs), strict=True):
        torch.testing.assert_close(ours, unmasked)


@pytest.mark.parametrize("view_octaves", [2, None])
@pytest.mark.parametrize("masked", [False, True])
def test_trainable_normals_are_those_of_the_density(view_octaves, masked):
    """Against finite differences of the raw density, and in their own gradient."""
    torch.manual_seed(0)
    field = NeRFField(4, 16, 2, 3, view_octaves, 8).double()
    positions, viewdirs = torch.rand(5, 7, 3).double(), torch.rand(5, 3).double()
    mask = column_mask(21) if masked else None
    step = 1e-6
    with torch.no_grad():
        slopes = [
            field.raw(positions + axis, viewdirs, mask)[0] - field.raw(positions - axis, viewdirs, mask)[0]
            for axis in step * torch.eye(3).double()
        ]
    expected = -torch.nn.functional.normalize(torch.stack(slopes, dim=-1), dim=-1)
    normals = field.trainable_normals(positions, mask)
    torch.testing.assert_close(normals, expected, rtol=1e-5, atol=1e-6)
    assert masked == (not torch.allclose(normals, field.trainable_normals(positions), atol=1e-3))

    def loss() -> Tensor:
        return (field.trainable_normals(positions, mask) * torch.arange(3.0).double()).sum()

    weight: Tensor = field.trunk[1].weight  # type: ignore[assignment,union-attr]
    (gradient,) = torch.autograd.grad(loss(), weight)
    entry = divmod(int(gradient.abs().argmax()), gradient.shape[1])
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[entry] += sign * step
        ends.append(loss().detach())
        with torch.no_grad():
            weight[entry] -= sign * step
    torch.testing.assert_close(gradient[entry], (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("view_octaves", [2, None])
def test_value_and_gradient_of_plain_layers(view_octaves):
    torch.manual_seed(0)
    field = NeRFField(4, 16, 2, 3, view_octaves, 8).double()
    positions, viewdirs = torch.rand(5, 7, 3).double(), torch.nn.functional.normalize(torch.rand(5, 3).double(), dim=-1)
    results = field.raw(positions, viewdirs), layer_by_layer(field, positions, viewdirs)
    gradients = []
    for density, rgb in results:
        field.zero_grad()
        ((density**2).sum() + (rgb**3).sum()).backward()
        gradients.append([parameter.grad.clone() for parameter in field.parameters() if parameter.grad is not None])
    for ours, plain in zip(results[0], results[1], strict=True):
        torch.testing.assert_close(ours, plain)
    assert len(gradients[0]) == len(list(field.parameters()))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


def test_activations():
    torch.manual_seed(0)
    for activation in ("relu", "softplus"):
        field = NeRFField(3, 8, 1, 2, 1, 8, density_activation=activation)  # type: ignore[arg-type]
        inputs = torch.randn(4, 6, 3), torch.nn.functional.normalize(torch.randn(4, 3), dim=-1)
        raw_density, raw_rgb = field.raw(*inputs)
        noise = torch.randn(4, 6)
        density, rgb = field(*inputs, noise=noise)
        torch.testing.assert_close(density, getattr(torch.nn.functional, activation)(raw_density + noise))
        torch.testing.assert_close(rgb, torch.sigmoid(raw_rgb))


@pytest.mark.parametrize("view_octaves", [2, None])
def test_reduced_precision_is_close(view_octaves):
    torch.manual_seed(0)
    exact = NeRFField(3, 16, 1, 2, view_octaves, 8, "softplus")
    reduced = NeRFField(3, 16, 1, 2, view_octaves, 8, "softplus", "bfloat16")
    reduced.load_state_dict(exact.state_dict())
    inputs = torch.rand(4, 6, 3), torch.nn.functional.normalize(torch.rand(4, 3), dim=-1)
    for ours, expected in zip(reduced(*inputs), exact(*inputs), strict=True):
        assert ours.dtype == torch.float32 and not torch.equal(ours, expected)
        torch.testing.assert_close(ours, expected, rtol=0.1, atol=0.05)


def test_start_has_the_spread_that_a_relu_wants():
    torch.manual_seed(0)
    field = NeRFField()
    assert sum(parameter.numel() for parameter in field.parameters()) == 595_844
    weight = field.trunk[1].weight
    limit = 2**0.5 * (6.0 / (256 + 256)) ** 0.5
    assert 0.98 * limit < float(weight.detach().abs().max()) <= limit  # type: ignore[union-attr]
    assert float(field.bottleneck.weight.detach().abs().max()) <= (6.0 / 512) ** 0.5
    assert all((layer.bias == 0).all() for layer in field.modules() if isinstance(layer, torch.nn.Linear))


def test_skip_layer_has_to_be_inside():
    with pytest.raises(ValueError, match="skip layer between 1 and 2, got 3"):
        NeRFField(num_layers=3, skip_layer=3)
