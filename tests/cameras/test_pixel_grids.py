"""Grids of pixels: their positions, and the pinhole cameras that they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from fewshot_ns.cameras.pixel_grids import (
    PixelGrid,
    crop_grid,
    full_grid,
    grid_camera,
    grid_cameras,
    strided_grid,
)

INTRINSICS = (23.7, 19.1, 14.3, 11.9)
GRIDS = {
    "strided": strided_grid((20, 31), (8, 9), torch.tensor([0.37, 0.81])),
    "full": full_grid((20, 31), (7, 11)),
    "crop": crop_grid((10, 15), 13, (4, 5)),
    "patch": PixelGrid((3, 17), (1, 1), (8, 6)),
    "fractional": PixelGrid((-2.25, 4.5), (2.7, 0.3), (5, 3)),
    "one pixel": full_grid((20, 31), (1, 1)),
    "whole image": PixelGrid((0, 0), (1, 1), (20, 31)),
}


def one_camera(count: int = 1, **changes) -> Cameras:
    """Cameras of one image size, at different poses."""
    random = np.random.default_rng(0)
    turns = np.linalg.qr(random.normal(size=(count, 3, 3)))[0]
    poses = torch.from_numpy(np.concatenate([turns, random.normal(size=(count, 3, 1))], axis=-1)).float()
    fx, fy, cx, cy = INTRINSICS
    return Cameras(poses, fx, fy, cx, cy, 31, 20, **changes)


def test_strided_and_full_and_crop():
    grid = strided_grid((20, 31), (8, 9), torch.tensor([0.5, 0.25])).positions()
    assert grid.shape == (8, 9, 2)
    torch.testing.assert_close(grid[0, 0], torch.tensor([0.5 * 4, 0.25 * 4]))
    torch.testing.assert_close(grid[:, 0, 0].diff(), torch.full((7,), 2.0))
    torch.testing.assert_close(grid[0, :, 1].diff(), torch.full((8,), 3.0))
    for uniform in torch.rand(20, 2):
        grid = strided_grid((20, 31), (8, 9), uniform).positions()
        assert (grid >= 0).all() and (grid[..., 0] <= 19).all() and (grid[..., 1] <= 30).all()
    full = full_grid((20, 31), (3, 4)).positions()
    assert full[-1, -1].tolist() == [19.0, 30.0] and full[0, 0].tolist() == [0.0, 0.0]
    crop = crop_grid((10, 15), 12, (4, 3)).positions()
    assert crop[:, 0, 0].tolist() == [4.0, 7.0, 10.0, 13.0] and crop[0, :, 1].tolist() == [9.0, 13.0, 17.0]
    patch = PixelGrid((3, 17), (1, 1), (2, 3)).positions()
    assert patch[:, 0, 0].tolist() == [3.0, 4.0] and patch[0, :, 1].tolist() == [17.0, 18.0, 19.0]


def test_positions_are_those_of_the_formulas_to_the_bit():
    """float32 sums of start and multiples of the step; between the first and last pixel torch.linspace's."""

    def mesh(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return torch.stack(torch.meshgrid(rows.float(), columns.float(), indexing="ij"), dim=-1)

    size, count = (803, 1099), (168, 131)
    for uniform in torch.rand(5, 2):
        starts = [float(uniform[0]) * (803 % 168), float(uniform[1]) * (1099 % 131)]
        expected = mesh(starts[0] + 4 * torch.arange(168), starts[1] + 8 * torch.arange(131))
        assert torch.equal(strided_grid(size, count, uniform).positions(), expected)
    expected = mesh(torch.linspace(0.0, 802.0, 168), torch.linspace(0.0, 1098.0, 131))
    assert torch.equal(full_grid(size, count).positions(), expected)
    expected = mesh(411 - 301 // 2 + 301 / 168 * torch.arange(168), 570 - 301 // 2 + 301 / 131 * torch.arange(131))
    assert torch.equal(crop_grid((411, 570), 301, count).positions(), expected)


def test_grid_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"grid of 1x1 to 20x30 rays .* got \(21, 3\)"):
        strided_grid((20, 30), (21, 3), torch.zeros(2))


@pytest.mark.parametrize("name", GRIDS)
def test_grid_is_a_camera(name):
    """Its rays, pixel by pixel in float64, are those of the image through the positions of the grid."""
    grid, (fx, fy, cx, cy) = GRIDS[name], INTRINSICS
    inner = grid.intrinsics(fx, fy, cx, cy)
    assert (inner.height, inner.width) == grid.size
    for i in range(grid.size[0]):
        for j in range(grid.size[1]):
            row, column = grid.start[0] + i * grid.step[0], grid.start[1] + j * grid.step[1]
            assert math.isclose((j + 0.5 - inner.cx) / inner.fx, (column + 0.5 - cx) / fx, rel_tol=0, abs_tol=1e-14)
            assert math.isclose((i + 0.5 - inner.cy) / inner.fy, (row + 0.5 - cy) / fy, rel_tol=0, abs_tol=1e-14)
            assert grid.positions()[i, j].tolist() == pytest.approx([row, column], abs=1e-5)


@pytest.mark.parametrize("name", GRIDS)
def test_rays_of_nerfstudio(name):
    grid, seen = GRIDS[name], one_camera(3)
    inner = grid.cameras(seen)
    assert len(inner) == 3
    coords = grid.positions() + 0.5
    for index in range(3):
        expected = seen.generate_rays(torch.full((*grid.size, 1), index), coords=coords)
        found = inner.generate_rays(camera_indices=index, keep_shape=True)
        assert found.shape == grid.size
        torch.testing.assert_close(found.origins, expected.origins, rtol=0, atol=0)
        torch.testing.assert_close(found.directions, expected.directions, rtol=0, atol=2e-6)
        torch.testing.assert_close(found.metadata["directions_norm"], expected.metadata["directions_norm"])


def test_patches_with_starts_of_their_own():
    seen, corners = one_camera(4), torch.tensor([[0, 3], [12, 23], [5, 0], [7, 9]])
    inner = grid_cameras(seen, corners, (1, 1), (8, 8))
    for index, (top, left) in enumerate(corners.tolist()):
        whole = seen.generate_rays(camera_indices=index, keep_shape=True)
        patch = inner.generate_rays(camera_indices=index, keep_shape=True)
        expected = whole.directions[top : top + 8, left : left + 8]
        torch.testing.assert_close(patch.directions, expected, rtol=0, atol=2e-6)


def test_whole_image_is_the_camera_itself():
    assert grid_camera(*INTRINSICS, start=(0, 0), step=(1, 1), size=(20, 31)) == pytest.approx((*INTRINSICS, 31, 20))


def test_what_is_no_grid_and_no_pinhole_is_refused():
    with pytest.raises(ValueError, match="positive steps and sizes"):
        full_grid((1, 31), (2, 4)).intrinsics(*INTRINSICS)
    with pytest.raises(ValueError, match="positive steps and sizes"):
        grid_camera(*INTRINSICS, start=(0, 0), step=(1, 1), size=(0, 31))
    with pytest.raises(ValueError, match="perspective"):
        grid_cameras(one_camera(camera_type=CameraType.FISHEYE), torch.zeros(1, 2), (1, 1), (2, 2))
    distorted = one_camera(distortion_params=torch.tensor([[0.1, 0, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="distortion"):
        grid_cameras(distorted, torch.zeros(1, 2), (1, 1), (2, 2))
