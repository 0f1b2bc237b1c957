"""Look-up of features and projection, against torch's grid sampling and nerfstudio's cameras."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.model_components import source_views
from fewshot_ns.model_components.source_views import SourceCameras, look_up, lookup_taps


def by_grid_sample(maps: Tensor, uv: Tensor, image_size, padding: str, mode: str) -> Tensor:
    """(N, P, C) of maps (N, C, h, w) at points (N, P, 2): column u of the image is column u w / W of the map."""
    size = torch.tensor([maps.shape[-1], maps.shape[-2]], dtype=uv.dtype)
    position = uv * size / torch.tensor(image_size, dtype=uv.dtype)
    grid = (2 * position / (size - 1) - 1)[:, None]
    sampled = torch.nn.functional.grid_sample(maps, grid, mode=mode, padding_mode=padding, align_corners=True)
    return sampled[:, :, 0].transpose(1, 2)


def by_look_up(maps: Tensor, uv: Tensor, image_size, padding, mode) -> Tensor:
    size = maps.shape[-1], maps.shape[-2]
    pixels, weights = lookup_taps(uv, image_size, size, padding, mode)
    first = torch.arange(len(maps))[:, None, None] * (size[0] * size[1])
    return look_up(maps.movedim(1, -1).flatten(0, 2), pixels + first, weights)


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_values_and_gradients_are_those_of_grid_sampling(padding, mode, monkeypatch):
    monkeypatch.setattr(source_views, "_ROWS_AT_ONCE", 7)
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 6, 9, dtype=torch.float64, requires_grad=True)
    uv = (torch.rand(2, 40, 2, dtype=torch.float64) * 1.6 - 0.3) * torch.tensor([17.0, 13.0])
    uv.requires_grad_()
    cotangent = torch.randn(2, 40, 5, dtype=torch.float64)
    results = []
    for function in (by_look_up, by_grid_sample):
        value = function(maps, uv, (17, 13), padding, mode)
        wanted = (maps, uv) if mode == "bilinear" else (maps,)
        results.append((value, *torch.autograd.grad((value * cotangent).sum(), wanted)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_points_nowhere_are_still_looked_up():
    maps, uv = torch.rand(1, 3, 4, 4), torch.tensor([[[float("nan"), 1.0], [float("inf"), -float("inf")], [1e30, 2.0]]])
    assert by_look_up(maps, uv, (8, 8), "border", "bilinear").isfinite().all()
    assert by_look_up(maps, uv, (8, 8), "zeros", "bilinear")[0, 1:].abs().max() == 0


def test_features_that_nobody_looks_at_have_no_gradient():
    features = torch.rand(10, 3, requires_grad=True)
    look_up(features, torch.tensor([[2, 2, 5]]), torch.tensor([[0.25, 0.5, 1.0]])).sum().backward()
    expected = torch.zeros(10, 3)
    expected[2], expected[5] = 0.75, 1.0
    assert features.grad is not None
    torch.testing.assert_close(features.grad, expected)


@pytest.mark.parametrize("format", [torch.float32, torch.bfloat16])
def test_number_formats(format):
    features = torch.rand(50, 8).to(format).requires_grad_()
    pixels, weights = torch.randint(0, 50, (20, 4)), torch.rand(20, 4)
    value = look_up(features, pixels, weights)
    assert value.dtype == format
    value.float().sum().backward()
    exact = features.detach().float().requires_grad_()
    (exact[pixels] * weights[..., None]).sum(1).sum().backward()
    assert features.grad is not None and exact.grad is not None
    torch.testing.assert_close(features.grad.float(), exact.grad, rtol=2e-2, atol=2e-2)


def test_projection_is_the_inverse_of_nerfstudios_rays():
    torch.manual_seed(0)
    axes = torch.linalg.qr(torch.randn(2, 3, 3, 3)).Q
    poses = torch.cat([axes * torch.linalg.det(axes)[..., None, None], torch.randn(2, 3, 3, 1)], dim=-1)
    intrinsics = torch.tensor([40.0, 44.0, 17.5, 11.0]).expand(2, 3, 4)
    images, bounds = torch.zeros(2, 3, 20, 30, 3), torch.ones(2)
    cameras = SourceCameras.of(Conditioning(images, poses, intrinsics, bounds, bounds))
    scene, view = 1, 2
    camera = Cameras(poses[scene, view][None], 40.0, 44.0, 17.5, 11.0, 30, 20)
    rays = camera.generate_rays(camera_indices=0).flatten()
    distances = torch.tensor([0.5, 2.0, 7.0])
    points = rays.origins[:, None] + distances[:, None] * rays.directions[:, None]
    index = torch.full((points[..., 0].numel(),), scene)
    rotated = cameras.rotated(points.flatten(0, 1), index)[:, :, None]
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    expected = torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2).expand(-1, 3, 2).flatten(0, 1)
    torch.testing.assert_close(cameras.project(rotated, index)[view, :, 0], expected, rtol=1e-4, atol=1e-3)
    moved = cameras.moved(rotated, index)[view, :, 0]
    torch.testing.assert_close(moved.norm(dim=-1), distances.repeat(len(rays)), rtol=1e-4, atol=1e-4)
