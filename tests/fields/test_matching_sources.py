"""Source views of several scenes, queried at points."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from torch import Tensor

from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.fields.matching_sources import MatchingSources
from fewshot_ns.model_components.matching_points import Window

CHANNELS = 8


def scenes_of(batch: int, views: int) -> Tuple[Conditioning, List[Tensor]]:
    """Cameras side by side that look along -z, and features of random values."""
    generator = torch.Generator().manual_seed(views)
    poses = torch.eye(4)[:3].repeat(batch, views, 1, 1)
    poses[..., 3] += 0.2 * torch.randn(batch, views, 3, generator=generator)
    intrinsics = torch.tensor([20.0, 20.0, 12.0, 8.0]).expand(batch, views, 4)
    images = torch.rand(batch, views, 16, 24, 3, generator=generator)
    sizes, columns = ((2, 3), (4, 6)), (views - 1) * CHANNELS
    features = [torch.randn(batch, views, *size, columns, generator=generator) for size in sizes]
    near, far = torch.ones(batch), 4.0 * torch.ones(batch)
    return Conditioning(images, poses, intrinsics, near, far), features


def matching_sources(given: Conditioning, features: List[Tensor], window: Window = "mean") -> MatchingSources:
    bounds = (bound[:, None].expand(given.images.shape[:2]) for bound in (given.near, given.far))
    return MatchingSources(given, features, *bounds, window=window, groups=(2, 4))


def everything(views: int) -> Tensor:
    """Matrix through which all columns of a view are seen as they are."""
    return torch.eye(2 * (views - 1) * CHANNELS + 4)


def some_points(rays: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(rays, 5, 3, generator=generator) * 0.7 + torch.tensor([0.0, 0.0, -2.5])


@pytest.mark.parametrize("window", ["off", "mean", "released"])
@pytest.mark.parametrize("views", [2, 3, 4])
def test_columns_for_any_number_of_views(views: int, window: Window):
    given, features = scenes_of(1, views)
    shown = matching_sources(given, features, window).query(
        some_points(), torch.zeros(6, dtype=torch.long), everything(views)
    )
    assert shown.matching.shape == (6, 5, 2 + 4 + 4 * views)
    assert shown.coordinates.shape == (views, 6, 5, 3) and shown.in_image.shape == (6, 5, views)
    assert shown.view_features is not None
    assert shown.view_features.shape == (views, 6, 5, 2 * (views - 1) * CHANNELS + 4)
    masks = shown.in_image.float()
    assert 0 < masks.mean() < 1
    torch.testing.assert_close(shown.matching[..., -views:], masks)
    torch.testing.assert_close(shown.view_features[..., -1].movedim(0, -1), masks)
    colours = shown.matching[..., 6 : 6 + 3 * views].unflatten(-1, (views, 3))
    torch.testing.assert_close(shown.view_features[..., -4:-1].movedim(0, 2), colours)


@pytest.mark.parametrize("window", ["off", "mean", "released"])
def test_rays_see_their_own_scene(window: Window):
    given, features = scenes_of(2, 3)
    scenes = torch.tensor([0, 1, 1, 0, 1, 0])
    mixed = matching_sources(given, features, window).query(some_points(), scenes, everything(3))
    for scene in (0, 1):
        tensors = {name: value[scene : scene + 1] for name, value in vars(given).items() if isinstance(value, Tensor)}
        alone = matching_sources(replace(given, **tensors), [each[scene : scene + 1] for each in features], window)
        of_scene = scenes == scene
        shown = alone.query(some_points()[of_scene], torch.zeros(3, dtype=torch.long), everything(3))
        assert mixed.view_features is not None and shown.view_features is not None
        torch.testing.assert_close(mixed.matching[of_scene], shown.matching)
        torch.testing.assert_close(mixed.coordinates[:, of_scene], shown.coordinates)
        torch.testing.assert_close(mixed.view_features[:, of_scene], shown.view_features)


def test_colours_are_those_of_the_pixel():
    given, features = scenes_of(1, 2)
    column, row, depth = 7, 11, 2.0
    local = torch.tensor([(column + 0.5 - 12) / 20, -(row + 0.5 - 8) / 20, -1.0]) * depth
    point = local + given.camera_to_worlds[0, 1, :, 3]
    shown = matching_sources(given, features).query(point[None, None], torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(shown.matching[0, 0, 6 + 3 : 6 + 6], given.images[0, 1, row, column], atol=1e-5, rtol=0)
    torch.testing.assert_close(shown.coordinates[1, 0, 0, 2], torch.tensor((depth - 1.0) / 3.0))


def test_what_views_show_can_be_left_out():
    given, features = scenes_of(1, 3)
    sources = matching_sources(given, features)
    scenes = torch.zeros(6, dtype=torch.long)
    whole, part = (sources.query(some_points(), scenes, each) for each in (everything(3), None))
    assert part.view_features is None
    torch.testing.assert_close(whole.matching, part.matching)


@pytest.mark.parametrize("window", ["off", "mean", "released"])
def test_gradient_reaches_the_features(window: Window):
    given, features = scenes_of(1, 3)
    features = [each.requires_grad_() for each in features]
    shown = matching_sources(given, features, window).query(some_points(), torch.zeros(6, dtype=torch.long))
    shown.matching.square().sum().backward()
    for each in features:
        assert each.grad is not None and bool(each.grad.abs().sum() > 0)


def test_reduced_precision_is_near():
    given, features = scenes_of(1, 3)
    scenes = torch.zeros(6, dtype=torch.long)
    whole = matching_sources(given, features).query(some_points(), scenes, everything(3))
    reduced = matching_sources(given, [each.bfloat16() for each in features]).query(
        some_points(), scenes, everything(3)
    )
    assert whole.view_features is not None and reduced.view_features is not None
    torch.testing.assert_close(reduced.view_features, whole.view_features, atol=0.03, rtol=0)
    torch.testing.assert_close(reduced.matching.float(), whole.matching, atol=0.03, rtol=0)
    torch.testing.assert_close(reduced.coordinates, whole.coordinates)


@pytest.mark.parametrize("rays", [1, 60])
@pytest.mark.parametrize("window", ["off", "mean", "released"])
def test_a_matrix_before_and_after_the_look_up(window: Window, rays: int):
    """Of few points, and of more than there are pixels, in value and in gradient."""
    given, features = scenes_of(1, 3)
    features = [each.double().requires_grad_() for each in features]
    given = replace(given, **{n: v.double() for n, v in vars(given).items() if isinstance(v, Tensor)})
    points, scenes = some_points(60)[:rays].double(), torch.zeros(rays, dtype=torch.long)
    matrix = torch.randn(8, everything(3).shape[0], dtype=torch.float64, requires_grad=True)
    sources = matching_sources(given, features, window)
    raw = sources.query(points, scenes, everything(3).double()).view_features
    found = sources.query(points, scenes, matrix).view_features
    assert raw is not None and found is not None
    torch.testing.assert_close(found, raw @ matrix.T)
    leaves = [matrix, *features]
    expected = torch.autograd.grad((raw @ matrix.T).square().sum(), leaves, retain_graph=True)
    for one, other in zip(torch.autograd.grad(found.square().sum(), leaves), expected, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(sources.query(points, scenes, matrix).view_features, found.detach())


def test_a_matrix_that_changed_is_applied_anew():
    given, features = scenes_of(1, 2)
    sources, scenes = matching_sources(given, features), torch.zeros(6, dtype=torch.long)
    matrix = torch.nn.Parameter(everything(2))

    def shown(of: Tensor) -> Tensor:
        with torch.no_grad():
            found = sources.query(some_points(), scenes, of).view_features
        assert found is not None
        return found

    before = shown(matrix)
    assert shown(matrix).equal(before)
    with torch.no_grad():
        matrix.mul_(2.0)
    torch.testing.assert_close(shown(matrix), 2.0 * before)
    torch.testing.assert_close(shown(torch.nn.Parameter(3.0 * everything(2))), 3.0 * before)
