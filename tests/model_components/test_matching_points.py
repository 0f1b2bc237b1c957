"""Points in source views, look-ups in windows and the agreement of views, against naive twins."""

from __future__ import annotations

from itertools import combinations

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.model_components.matching_points import (
    bilinear_taps,
    group_similarity,
    mean_taps,
    view_coordinates,
    window_means,
    window_taps,
)
from fewshot_ns.model_components.source_views import SourceCameras, look_up

WIDTH, HEIGHT = 12, 8
MAP = (7, 5)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def random_poses(count: int, generator: torch.Generator) -> Tensor:
    turned, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator))
    turned = turned * torch.linalg.det(turned)[:, None, None]
    return torch.cat([turned, torch.randn(count, 3, 1, generator=generator)], dim=-1)


def nerfstudio_cameras(poses: Tensor) -> Cameras:
    return Cameras(poses, 9.0, 10.0, 6.3, 3.8, WIDTH, HEIGHT)


def source_cameras(poses: Tensor) -> SourceCameras:
    """Two scenes, the second with the views in the reverse order."""
    both = torch.stack([poses, poses.flip(0)])
    rotations = both[..., :3].mT
    intrinsics = both.new_tensor([9.0, 10.0, 6.3 - 0.5, 3.8 - 0.5]).expand(*both.shape[:2], 4)
    translations = -(rotations @ both[..., 3:])[..., 0]
    return SourceCameras(rotations, translations, *intrinsics.split(2, dim=-1))


def test_points_on_rays_of_nerfstudio_fall_on_their_pixels(generator: torch.Generator):
    poses = random_poses(3, generator)
    pixels = torch.stack(torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij"), dim=-1)
    near, far = torch.tensor([1.0, 2.0, 1.5]), torch.tensor([4.0, 3.0, 5.0])
    for view in range(3):
        indices = torch.full((HEIGHT * WIDTH, 1), view)
        rays = nerfstudio_cameras(poses).generate_rays(indices, coords=pixels.flatten(0, 1) + 0.5)
        assert rays.metadata is not None
        depths = torch.tensor([0.7, 2.5])
        distance = depths * rays.metadata["directions_norm"]
        points = rays.origins[:, None] + distance[..., None] * rays.directions[:, None]
        for scene, place in ((0, view), (1, 2 - view)):
            bounds = torch.stack([near, near.flip(0)]), torch.stack([far, far.flip(0)])
            scenes = torch.full((len(points),), scene)
            coordinates, seen = view_coordinates(
                source_cameras(poses), points, scenes, (WIDTH, HEIGHT), *bounds
            )  # fmt: skip
            expected = pixels.flatten(0, 1).flip(-1) / torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
            torch.testing.assert_close(
                coordinates[place, ..., :2], expected[:, None].expand(-1, 2, -1), atol=1e-4, rtol=0
            )
            along = (depths - near[view]) / (far[view] - near[view])
            torch.testing.assert_close(coordinates[place, ..., 2], along.expand(len(points), 2), atol=1e-4, rtol=0)
            inner = (expected > 1e-3).all(-1) & (expected < 1 - 1e-3).all(-1)
            assert bool(seen[place][inner].all())


def test_points_behind_or_beside_a_camera_are_not_seen():
    identity = torch.eye(4)[None, :3]
    cameras = source_cameras(identity)
    points = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.3, 0.1, 0.0], [9.0, 0.0, -1.0]])
    bounds = torch.ones(2, 1), 2.0 * torch.ones(2, 1)
    scenes = torch.zeros(1, dtype=torch.long)
    coordinates, seen = view_coordinates(cameras, points[None], scenes, (WIDTH, HEIGHT), *bounds)
    assert seen[0, 0].tolist() == [True, False, False, False, False]
    assert bool(coordinates.isfinite().all())


def naive_look_up(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(C,) of a map (h, w, C) at pixel coordinates, its border repeated outwards."""
    height, width = maps.shape[:2]
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    column, row = int(x), int(y)
    right, below = min(column + 1, width - 1), min(row + 1, height - 1)
    above = maps[row, column] * (1 - x + column) + maps[row, right] * (x - column)
    under = maps[below, column] * (1 - x + column) + maps[below, right] * (x - column)
    return above * (1 - y + row) + under * (y - row)


@pytest.mark.parametrize(
    "kind", ["bilinear", "window", "window-2", "window-radius-2", "released", "released-2", "means"]
)
def test_look_ups_against_loops(generator: torch.Generator, kind: str):
    width, height = MAP
    maps = torch.randn(height, width, 4, dtype=torch.float64, generator=generator)
    places = torch.rand(60, 2, dtype=torch.float64, generator=generator) * 1.6 - 0.3
    places[:3] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 1.0]])
    radius = {"bilinear": 0, "window-radius-2": 2}.get(kind, 1)
    dilation = 2 if kind in ("window-2", "released-2") else 1
    released = kind.startswith("released")
    rows = maps.flatten(0, 1)
    if kind == "bilinear":
        taps = bilinear_taps(places, MAP)
    elif kind == "means":
        taps, rows = mean_taps(places, MAP), window_means(maps[None])[0].flatten(0, 1)
    else:
        taps = window_taps(places, MAP, radius, dilation, released)
    found = look_up(rows, *taps)
    shrink = [(side - 1) / (side + 3 * dilation - 1) if released else 1.0 for side in MAP]
    steps = [dilation * step for step in range(-radius, radius + 1)]
    for place, value in zip(places, found, strict=True):
        x, y = place[0] * (width - 1), place[1] * (height - 1)
        looks = [naive_look_up(maps, (x + i) * shrink[0], (y + j) * shrink[1]) for j in steps for i in steps]
        torch.testing.assert_close(value, torch.stack(looks).mean(dim=0))


def test_number_of_taps():
    places = torch.rand(2, 3, 2)
    counts = [taps(places, MAP)[0].shape[-1] for taps in (bilinear_taps, window_taps, mean_taps)]
    assert counts == [4, 16, 4]


@pytest.mark.parametrize("released", [False, True])
def test_gradient_of_windows(generator: torch.Generator, released: bool):
    places = torch.rand(5, 2, dtype=torch.float64, generator=generator).requires_grad_()
    rows = torch.randn(MAP[0] * MAP[1], 3, dtype=torch.float64, generator=generator).requires_grad_()

    def found(places: Tensor, rows: Tensor) -> Tensor:
        return look_up(rows, *window_taps(places, MAP, released=released))

    assert torch.autograd.gradcheck(found, (places, rows))


def naive_similarity(features: Tensor, groups: int) -> Tensor:
    """(groups,) of features (V, (V - 1) * C) at one point."""
    views = len(features)
    size = features.shape[1] // (views - 1)
    result = []
    for group in range(groups):
        total = 0.0
        for a, b in combinations(range(views), 2):
            others = [[v for v in range(views) if v != view] for view in (a, b)]
            one = features[a].split(size)[others[0].index(b)].chunk(groups)[group]
            other = features[b].split(size)[others[1].index(a)].chunk(groups)[group]
            total = total + (one @ other) / (one.norm() * other.norm())
        result.append(total / (views * (views - 1) / 2))
    return torch.stack(result)


@pytest.mark.parametrize("views", [2, 3, 5])
def test_similarity_against_loops(generator: torch.Generator, views: int):
    features = torch.randn(views, 2, 4, (views - 1) * 6, dtype=torch.float64, generator=generator)
    found = group_similarity(features, 3)
    expected = [[naive_similarity(features[:, r, s], 3) for s in range(4)] for r in range(2)]
    torch.testing.assert_close(found, torch.stack([torch.stack(row) for row in expected]))


def test_similarity_of_views_that_agree():
    torch.testing.assert_close(group_similarity(torch.ones(3, 2, 2, 8), 2), torch.ones(2, 2, 2))


def test_features_of_zero_resemble_nothing_and_do_no_harm():
    features = torch.zeros(2, 1, 1, 4, requires_grad=True)
    found = group_similarity(features, 2)
    found.sum().backward()
    assert not found.any() and features.grad is not None and bool(features.grad.isfinite().all())


def test_gradient_of_similarity(generator: torch.Generator):
    features = torch.randn(3, 2, 1, 8, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: group_similarity(given, 2), (features,))
