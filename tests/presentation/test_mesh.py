"""Meshes of densities that are known: a ball, whose radius, volume and outside the mesh must show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from fewshot_ns.presentation.mesh import coloured_surface, density_grid, surface, write_mesh

RADIUS, REACH = 0.3, 0.5
CENTRE = torch.tensor([0.05, -0.02, 0.1])


def ball(points: Tensor, directions: Tensor) -> Tuple[Tensor, Tensor]:
    """Density 10 at the ball's surface, falling outwards; red where x is positive, and as green as it is seen from
    outside."""
    offset = points - CENTRE
    density = 10.0 + 200.0 * (RADIUS - offset.norm(dim=-1))
    facing = -(torch.nn.functional.normalize(offset, dim=-1) * directions).sum(-1)
    return density, torch.stack([(offset[:, 0] > 0).float(), facing, torch.full_like(facing, 0.25)], dim=-1)


@pytest.fixture(scope="module")
def mesh() -> Any:
    return coloured_surface(ball, REACH, 41, 10.0)


def test_a_ball_has_its_radius_and_volume(mesh: Any):
    distance = np.linalg.norm(mesh.vertices - CENTRE.numpy(), axis=1)
    step = 2 * REACH / 40
    assert np.abs(distance - RADIUS).max() < 0.05 * step
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01)


def test_faces_and_colours_look_outwards(mesh: Any):
    offset = mesh.vertices - CENTRE.numpy()
    assert ((mesh.vertex_normals * offset).sum(-1) > 0).all()
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3]
    np.testing.assert_array_equal(colours[:, 0] == 255, offset[:, 0] > 0)
    assert colours[:, 1].min() > 245 and (colours[:, 2] == 64).all()


def test_the_grid_asks_for_each_point_once_and_reports():
    asked: List[Tensor] = []
    told: List[None] = []

    def density(points: Tensor) -> Tensor:
        asked.append(points)
        return points @ torch.tensor([100.0, 10.0, 1.0])

    grid = density_grid(density, 1.0, 5, lambda: told.append(None))
    assert len(told) == 5 and torch.cat(asked).shape == (125, 3)
    axis = np.linspace(-1, 1, 5)
    expected = 100 * axis[:, None, None] + 10 * axis[:, None] + axis
    np.testing.assert_allclose(grid, expected, atol=1e-4)


def test_what_reaches_the_cube_is_closed_there():
    grid = np.full((9, 9, 9), 50.0, np.float32)
    mesh = surface(grid, 1.0, 10.0)
    assert mesh.is_watertight and mesh.volume > 0 and np.abs(mesh.vertices).max() <= 1.0


@pytest.mark.parametrize("name", ["ball.ply", "ball.obj", "BALL.PLY"])
def test_files_hold_shape_and_colours(mesh: Any, tmp_path: Path, name: str):
    write_mesh(mesh, tmp_path / "new" / name)
    read: Any = trimesh.load(tmp_path / "new" / name, process=False)
    np.testing.assert_allclose(read.vertices, mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    assert np.abs(read.visual.vertex_colors[:, :3].astype(int) - mesh.visual.vertex_colors[:, :3]).max() <= 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_what_gives_no_mesh_is_said(tmp_path: Path, mesh: Any):
    grid = density_grid(lambda points: ball(points, points)[0], REACH, 8)
    with pytest.raises(ValueError, match=r"--mesh-threshold 1000: expected densities above it .* found at most"):
        surface(grid, REACH, 1000.0)
    with pytest.raises(ValueError, match="--mesh-threshold: expected a positive density, got 0"):
        surface(grid, REACH, 0.0)
    with pytest.raises(ValueError, match="--mesh-resolution: expected at least 4, got 3"):
        density_grid(lambda points: points[:, 0], REACH, 3)
    with pytest.raises(ValueError, match=r"expected a file name ending in \.ply or \.obj"):
        write_mesh(mesh, tmp_path / "ball.stl")
