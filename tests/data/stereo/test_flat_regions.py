"""Planes for regions of one colour, in views of a small world whose depth is exact where it is textured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, NamedTuple, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig, fill_flat_regions
from fewshot_ns.data.stereo.views import StereoView, ViewDepth
from fewshot_ns.synthetic.raytracer import AreaLight, Box, Shape, Sphere, World, camera_rays, render_image
from fewshot_ns.synthetic.textures import plain

WIDTH, HEIGHT, FOCAL = 120, 90, 130.0
LIGHT = AreaLight((0.0, 50.0, 0.0), 1.0, 0.0, 1.0)
TABLE = Box((0.0, -1.0, 0.0), (40.0, 1.0, 40.0), plain((0.6, 0.5, 0.4)))
EYES = ((-0.9, 3.4, 3.6), (0.0, 3.7, 3.8), (0.9, 3.3, 3.7))


class Scene(NamedTuple):
    """Views, what is known of them, and the truth."""

    views: List[StereoView]
    depths: List[ViewDepth]
    exact: List[Tensor]
    flat: List[Tensor]
    """(H, W) bool each, pixels of the first shape."""

    def filled(self, config: FlatRegionConfig | None = None) -> List[ViewDepth]:
        found = fill_flat_regions(config or FlatRegionConfig(), self.views, self.depths)
        for before, after, view in zip(self.depths, found, self.views, strict=True):
            kept = before.valid
            assert after.valid[kept].all() and not (after.valid & ~kept & ~view.mask).any()
            assert torch.equal(after.z_depth[kept], before.z_depth[kept])
            assert torch.equal(after.sigma[kept], before.sigma[kept])
            assert (after.sigma[after.valid & ~kept] >= 0.0099 * after.z_depth[after.valid & ~kept]).all()
        return found

    def gained(self, found: Sequence[ViewDepth]) -> List[Tensor]:
        return [after.valid & ~before.valid for before, after in zip(self.depths, found, strict=True)]


def noise(points: np.ndarray) -> np.ndarray:
    """Colours that differ from pixel to pixel."""
    cells = np.floor(np.asarray(points) * 23.0) @ np.array([12.9898, 78.233, 37.719])
    return 0.1 + 0.8 * (np.sin(cells[:, None] + np.arange(3.0)) * 43758.5453 % 1.0)


def scene(shapes: Sequence[Shape], eyes: Sequence[Any] = EYES, target: Any = (0.0, 0.2, 0.0)) -> Scene:
    """The first shape is plain, and nothing is known of it; the others are known exactly."""
    world = World(shapes, LIGHT, shadows=False)
    views, depths, exact, flat = [], [], [], []
    row, column = np.meshgrid(np.arange(HEIGHT) + 0.5, np.arange(WIDTH) + 0.5, indexing="ij")
    for index, eye in enumerate(eyes):
        backward = np.asarray(eye) - np.asarray(target)
        backward = backward / np.linalg.norm(backward)
        right = np.cross([0.0, 1.0, 0.0], backward)
        right /= np.linalg.norm(right)
        pose = np.stack([right, np.cross(backward, right), backward, np.asarray(eye)], axis=1)
        image = render_image(world, pose, FOCAL, WIDTH, HEIGHT, 1)
        z_depth, hit = world.first_hit(*camera_rays(pose, FOCAL, column.ravel(), row.ravel(), WIDTH, HEIGHT))
        assert np.isfinite(z_depth).all()
        depth = torch.from_numpy(z_depth.reshape(HEIGHT, WIDTH)).float()
        plain_pixels = torch.from_numpy((hit == 0).reshape(HEIGHT, WIDTH))
        intrinsics = torch.tensor([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])
        mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        photo, camera = torch.from_numpy(image).float(), torch.from_numpy(pose).float()
        views.append(StereoView(photo, camera, intrinsics, 0.5, 20.0, mask, f"{index}.png"))
        # What matching finds on a plain surface is anything.
        guess = torch.where(plain_pixels, 1.3 * depth, depth)
        depths.append(ViewDepth(guess, torch.full_like(depth, 0.003), ~plain_pixels))
        exact.append(depth)
        flat.append(plain_pixels)
    return Scene(views, depths, exact, flat)


def with_mat() -> Scene:
    """A table, and a flat mat on it."""
    return scene([TABLE, Box((0.0, 0.0, 0.2), (0.8, 1e-3, 0.6), noise)])


def assert_table_is_found(one: Scene, found: Sequence[ViewDepth], share: float, error: float) -> None:
    for after, new, exact, flat in zip(found, one.gained(found), one.exact, one.flat, strict=True):
        assert (new & flat).sum() > share * flat.sum()
        assert ((after.z_depth / exact - 1.0).abs()[new & flat] < error).all()
        assert not (new & ~flat).any()


def test_a_table_gets_the_plane_on_which_things_lie():
    """Also where others stand on it, whose outline is no part of it."""
    box = Box((0.3, 0.3, -0.9), (0.5, 0.3, 0.4), noise, turn=25.0)
    mat, ball = Box((0.2, 0.0, 0.4), (0.9, 1e-3, 0.6), noise), Sphere((-1.2, 0.2, 0.2), 0.2, noise)
    one = scene([TABLE, mat, box, ball])
    assert_table_is_found(one, one.filled(), 0.85, 0.015)


def test_a_plane_stands_outliers():
    one, generator = with_mat(), torch.Generator().manual_seed(3)
    assert_table_is_found(one, one.filled(), 0.85, 0.003)
    spoilt = []
    for depth in one.depths:
        wrong = torch.rand(depth.valid.shape, generator=generator) < 0.4
        factor = 1.0 + 0.4 * (torch.rand(depth.valid.shape, generator=generator) - 0.5)
        spoilt.append(replace(depth, z_depth=torch.where(depth.valid & wrong, depth.z_depth * factor, depth.z_depth)))
    one = one._replace(depths=spoilt)
    assert_table_is_found(one, one.filled(), 0.85, 0.02)


def test_a_wall_without_anything_known_gets_nothing():
    one = with_mat()
    nothing = [replace(depth, valid=torch.zeros_like(depth.valid)) for depth in one.depths]
    one = one._replace(depths=nothing)
    assert not any(new.any() for new in one.gained(one.filled()))


def test_the_outline_of_what_stands_before_a_wall_is_no_plane():
    """Each photo's own circle on the ball lies in a plane, which crosses the others' circles."""
    wall = Box((0.0, 0.0, -5.0), (40.0, 40.0, 1.0), plain((0.6, 0.5, 0.4)))
    one = scene(
        [wall, Sphere((0.0, 0.0, 0.0), 0.9, noise)], ((-1.5, 0.3, 3.8), (0.0, 1.2, 4.2), (1.6, -0.4, 3.6)), (0, 0, 0)
    )
    assert all(depth.valid.sum() > 1000 for depth in one.depths)
    assert not any(new.any() for new in one.gained(one.filled()))


def test_points_on_a_line_are_no_plane():
    one = scene([TABLE, Box((0.0, 0.0, 0.3), (2.5, 1e-3, 0.04), noise)])
    assert all(depth.valid.sum() > 30 for depth in one.depths)
    assert not any(new.any() for new in one.gained(one.filled()))


def test_one_photo_alone_decides_nothing():
    one = with_mat()
    nothing = torch.zeros_like(one.depths[0].valid)
    one = one._replace(depths=[one.depths[0], *(replace(depth, valid=nothing) for depth in one.depths[1:])])
    assert not any(new.any() for new in one.gained(one.filled()))


def test_masked_pixels_stay_invalid():
    one = with_mat()
    mask = one.views[0].mask.clone()
    mask[:, :40] = False
    one = one._replace(views=[replace(one.views[0], mask=mask), *one.views[1:]])
    new = one.gained(one.filled())
    assert not new[0][:, :40].any() and new[0][:, 80:].any()


def corner_seen_by(one: Scene, source: int) -> Tensor:
    """(H, W) bool, pixels of the first view whose true point lies well within the lower right corner of another."""
    position, _ = one.views[source].project(one.views[0].points(one.exact[0]))
    return (position > position.new_tensor([WIDTH - 30.0, HEIGHT - 20.0])).all(-1) & one.views[source].contains(
        position
    )


def test_what_another_photo_sees_in_another_colour_stays_invalid():
    one = with_mat()
    corner = corner_seen_by(one, 1) & one.flat[0]
    assert corner.sum() > 50 and one.gained(one.filled())[0][corner].all()
    image = one.views[1].image.clone()
    image[HEIGHT - 21 :, WIDTH - 31 :] = image.new_tensor([0.2, 0.7, 0.9])
    one = one._replace(views=[one.views[0], replace(one.views[1], image=image), one.views[2]])
    new = one.gained(one.filled())
    assert not new[0][corner].any() and new[0].sum() > 0.5 * one.flat[0].sum()


@pytest.mark.parametrize("factor, allowed", [(1.3, False), (0.8, True)])
def test_what_another_photo_sees_beyond_stays_invalid(factor: float, allowed: bool):
    """A surface beyond the plane is seen through it; one before it hides it."""
    one = with_mat()
    corner = corner_seen_by(one, 1) & one.flat[0]
    area = torch.zeros_like(one.flat[1])
    area[HEIGHT - 21 :, WIDTH - 31 :] = True
    other = ViewDepth(
        torch.where(area, factor * one.exact[1], one.depths[1].z_depth), one.depths[1].sigma, one.depths[1].valid | area
    )
    one = one._replace(depths=[one.depths[0], other, one.depths[2]])
    new = one.gained(one.filled())
    assert new[0].sum() > 0.5 * one.flat[0].sum()
    assert new[0][corner].float().mean() == float(allowed)
