"""pixelNeRF's network: the fused one against its layers, its start, and features looked up before or after."""

from __future__ import annotations

from typing import Any, List

import pytest
import torch
from torch import Tensor

from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.fields import source_features
from fewshot_ns.fields.fused import resnet as fused_resnet
from fewshot_ns.fields.pixelnerf_field import PixelNeRFField
from fewshot_ns.fields.source_features import SourceFeatures, encode_points


def build(dtype: torch.dtype = torch.float64, std: float = 0.3, **fields: Any) -> PixelNeRFField:
    torch.manual_seed(0)
    small = {"in_columns": 12, "latent_columns": 6, "width": 16, "num_blocks": 4, "pool_before": 2}
    field = PixelNeRFField(**{**small, **fields}).to(dtype)
    for parameter in field.parameters():
        # The second layers start at zero, biases too, which would hide their part.
        torch.nn.init.normal_(parameter, std=std)
    return field


def gradients(value: Tensor, of: List[Tensor]) -> List[Tensor]:
    return list(torch.autograd.grad((value * torch.linspace(-1, 2, value.numel()).view_as(value)).sum(), of))


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("pool_before", [1, 2, 4])
def test_fused_values_and_gradients_are_those_of_the_layers(views, pool_before, monkeypatch):
    monkeypatch.setattr(fused_resnet, "BLOCK_ROWS", 9)
    field = build(pool_before=pool_before)
    inputs = torch.randn(views, 10, 12, dtype=torch.float64, requires_grad=True)
    latents = torch.randn(views, 10, 6, dtype=torch.float64, requires_grad=True)
    wanted = [inputs, latents, *field.parameters()]
    fused = field(inputs, field.project(latents))
    plain = field._layers(inputs, field.project(latents))
    assert fused.shape == (10, 4)
    torch.testing.assert_close(fused, plain)
    for ours, theirs in zip(gradients(fused, wanted), gradients(plain, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_bfloat16_is_close_and_gradients_are_of_the_parameters_format():
    exact = build(torch.float32, std=0.1, width=64)
    reduced = build(torch.float32, std=0.1, width=64, compute_dtype="bfloat16")
    inputs, latents = torch.randn(2, 40, 12), torch.randn(2, 40, 6)
    plain, fused = exact(inputs, exact.project(latents)), reduced(inputs, reduced.project(latents))
    autocast = reduced._layers(inputs, reduced.project(latents))
    assert fused.dtype == torch.float32
    assert (plain - fused).norm() < 3.0 * (plain - autocast).norm()
    of = [gradients(v, list(f.parameters())) for v, f in ((plain, exact), (fused, reduced), (autocast, reduced))]
    for ours, theirs, usual in zip(of[0], of[1], of[2], strict=True):
        assert theirs.dtype == torch.float32
        assert (ours - theirs).norm() < 3.0 * (ours - usual).norm() + 1e-3 * ours.norm()


def test_the_order_of_views_does_not_matter():
    field = build()
    inputs, projected = torch.randn(3, 7, 12).double(), field.project(torch.randn(3, 7, 6).double())
    torch.testing.assert_close(field(inputs, projected), field(inputs.flip(0), projected.flip(0)))


@pytest.mark.parametrize("fields", [{"pooling": "max"}, {"spade": True}])
def test_variants(fields):
    field = build(**fields)
    inputs, latents = torch.randn(2, 7, 12).double(), torch.randn(2, 7, 6).double()
    x = field.lin_in(inputs)
    for index, block in enumerate(field.blocks):
        if index == 2:
            x = x.max(0).values if field.pooling == "max" else x.mean(0)
        elif index < 2:
            x = x * field.scale_z[index](latents) if field.spade else x
            x = x + field.lin_z[index](latents)
        x = block(x)
    torch.testing.assert_close(field(inputs, field.project(latents)), field.lin_out(torch.relu(x)))


def test_size_and_start():
    field = PixelNeRFField()
    assert sum(parameter.numel() for parameter in field.parameters()) == 3438596
    x = torch.randn(3, 512)
    for block in field.blocks:
        assert torch.equal(block(x), x)
    for name, parameter in field.named_parameters():
        if name.endswith("bias") or "fc_1" in name:
            assert parameter.abs().max() == 0
        elif name != "lin_out.weight":
            expected = (2.0 / parameter.shape[1]) ** 0.5
            assert float(parameter.std().detach()) == pytest.approx(expected, rel=0.05)
    with pytest.raises(ValueError, match="from 1 to 5, got 6"):
        PixelNeRFField(pool_before=6)


def shown(**fields: Any) -> SourceFeatures:
    torch.manual_seed(1)
    poses = torch.eye(4)[:3].repeat(2, 2, 1, 1)
    poses[..., 3] = torch.randn(2, 2, 3) * 0.2 + torch.tensor([0.0, 0.0, 2.0])
    intrinsics, bounds = torch.tensor([16.0, 16.0, 8.0, 8.0]).expand(2, 2, 4), torch.ones(2)
    conditioning = Conditioning(torch.zeros(2, 2, 16, 16, 3), poses, intrinsics, bounds, bounds)
    return SourceFeatures(conditioning, torch.randn(4, 6, 8, 8, requires_grad=True), num_octaves=1, **fields)


def rays(count: int) -> List[Tensor]:
    torch.manual_seed(2)
    z = 1 + torch.rand(count, 5)
    directions = torch.nn.functional.normalize(torch.randn(count, 3) * 0.2 - torch.tensor([0.0, 0.0, 1.0]), dim=-1)
    return [torch.tensor([0.0, 0.0, 2.0]).expand(count, 3), directions, z, torch.arange(count) % 2]


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_features_are_projected_before_or_after_they_are_looked_up(padding):
    field, given = build(torch.float32), shown(padding=padding)
    # Few points: looked up first. Many points, or no graph: projected first.
    few = [rays(4), rays(60)]
    for count, part in zip((4, 60), few, strict=True):
        with_graph = torch.cat([given.query(field, *part)[1].flatten(), given.query(field, *part)[0].flatten()])
        assert (field in given._projected) == (count == 60)
        with torch.no_grad():
            fresh = shown(padding=padding)
            density, rgb = fresh.query(field, *part)
        torch.testing.assert_close(with_graph, torch.cat([rgb.flatten(), density.flatten()]))
        (gradient,) = torch.autograd.grad(with_graph.sum(), given.latents, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_what_was_projected_without_a_graph_is_not_learnt_from():
    field, given, many = build(torch.float32), shown(), rays(60)
    with torch.no_grad():
        given.query(field, *many)
    given.query(field, *many)[0].sum().backward()
    assert field.lin_z[0].weight.grad is not None


def test_blocks_of_rays_make_no_difference(monkeypatch):
    field, given, many = build(torch.float32), shown(), rays(60)
    with torch.no_grad():
        whole = given.query(field, *many)
        monkeypatch.setattr(source_features, "POINTS_AT_ONCE", 70)
        for ours, theirs in zip(given.query(field, *many), whole, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_positions_of_the_camera():
    """Relative to its camera a point is the same wherever both are; relative to the world's origin it is not."""
    field, (origins, directions, z, scenes) = build(torch.float32), rays(6)
    step = torch.tensor([0.3, -0.2, 0.1])
    for camera_positions in (True, False):
        given, moved = shown(camera_positions=camera_positions), shown(camera_positions=camera_positions)
        away = moved.conditioning.camera_to_worlds.clone()
        away[..., 3] += step
        maps = torch.randn(4, 6, 8, 8)
        for each in (given, moved):
            each.latents = maps.movedim(1, -1).flatten(0, 2)
        moved.cameras = type(moved.cameras).of(
            Conditioning(
                moved.conditioning.images,
                away,
                moved.conditioning.intrinsics,
                moved.conditioning.near,
                moved.conditioning.far,
            )
        )
        first = given.query(field, origins, directions, z, scenes)[0]
        second = moved.query(field, origins + step, directions, z, scenes)[0]
        assert torch.allclose(first, second, atol=1e-4) == camera_positions


def test_columns_of_the_encoding():
    positions, directions = torch.rand(2, 3), torch.rand(2, 3)
    columns = encode_points(positions, directions, 1.5, 2).split(3, dim=-1)
    expected = [positions, *(f(1.5 * k * positions) for k in (1, 2) for f in (torch.sin, torch.cos)), directions]
    for ours, theirs in zip(columns, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
