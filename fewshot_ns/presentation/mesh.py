"""A surface where a density field crosses a threshold, by marching cubes, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from fewshot_ns.utils.files import replacing

if TYPE_CHECKING:
    import trimesh

SUFFIXES = (".ply", ".obj")
"""Endings of files of meshes."""
_POINTS_AT_ONCE = 65536
"""Vertices whose colours are computed at once."""

Query = Callable[[Tensor, Tensor], Tuple[Tensor, Tensor]]
"""Density (P,) and colour (P, 3) of points (P, 3), looked at in directions (P, 3) of unit length."""


def coloured_surface(
    query: Query, reach: float, resolution: int, threshold: float, on_slab: Optional[Callable[[], None]] = None
) -> trimesh.Trimesh:
    """The surface of a field whose densities and colours depend on the viewing direction.

    For its density each point is looked at from outside, towards the middle; for its colour each vertex against its
    normal.

    Args:
        query: The field; it is given tensors on the CPU.
        reach: Half the side of the cube about the origin that is looked into, world units.
        resolution: Samples along each axis.
        threshold: Density at the surface, per world unit.
        on_slab: Called `resolution` times.

    Raises:
        ValueError: see `density_grid` and `surface`.
    """

    def density(points: Tensor) -> Tensor:
        return query(points, -torch.nn.functional.normalize(points, dim=-1))[0]

    mesh: Any = surface(density_grid(density, reach, resolution, on_slab), reach, threshold)
    parts = [torch.tensor(part, dtype=torch.float32) for part in (mesh.vertices, -mesh.vertex_normals)]
    chunks = zip(*(part.split(_POINTS_AT_ONCE) for part in parts), strict=True)
    colours = torch.cat([query(points, directions)[1].cpu() for points, directions in chunks])
    mesh.visual.vertex_colors = np.round(colours.clamp(0.0, 1.0).numpy() * 255).astype(np.uint8)
    return mesh


def density_grid(
    density: Callable[[Tensor], Tensor], reach: float, resolution: int, on_slab: Optional[Callable[[], None]] = None
) -> np.ndarray:
    """Samples a field on a grid over the cube [-reach, reach]^3.

    Args:
        density: (P,) densities of points (P, 3) float32 on the CPU; on any device.
        reach: Half the side of the cube, world units.
        resolution: Samples along each axis.
        on_slab: Called `resolution` times.

    Returns:
        (resolution, resolution, resolution) float32, by x, y, z.

    Raises:
        ValueError: fewer than 4 samples.
    """
    if resolution < 4:
        raise ValueError(f"--mesh-resolution: expected at least 4, got {resolution}")
    axis = torch.linspace(-reach, reach, resolution)
    slab = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    grid = np.empty((resolution,) * 3, dtype=np.float32)
    for index, x in enumerate(axis):
        points = torch.cat([x.expand(len(slab), 1), slab], dim=-1)
        grid[index] = density(points).float().cpu().numpy().reshape(resolution, resolution)
        if on_slab is not None:
            on_slab()
    return grid


def surface(grid: np.ndarray, reach: float, threshold: float) -> trimesh.Trimesh:
    """The closed surface around where a grid of densities is above a threshold; faces look outwards.

    Args:
        grid: (R, R, R) by x, y, z, over the cube [-reach, reach]^3; its outermost samples count as empty, so that the
            surface is closed.
        reach: Half the side of the cube, world units.
        threshold: Density at the surface, per world unit.

    Raises:
        ValueError: a threshold that is not positive, or nothing within the cube crosses it.
    """
    import trimesh
    from skimage.measure import marching_cubes

    if not threshold > 0:
        raise ValueError(f"--mesh-threshold: expected a positive density, got {threshold}")
    inner = np.zeros_like(grid)
    inner[1:-1, 1:-1, 1:-1] = grid[1:-1, 1:-1, 1:-1]
    if not inner.max() > threshold:
        raise ValueError(
            f"--mesh-threshold {threshold:g}: expected densities above it in the cube, found at most "
            f"{float(inner.max()):.3g}; give a lower one"
        )
    step = 2.0 * reach / (len(grid) - 1)
    vertices, faces, _, _ = marching_cubes(inner, level=threshold, spacing=(step,) * 3)
    mesh = trimesh.Trimesh(vertices - reach, faces, process=False)
    if mesh.volume < 0:
        mesh.invert()
    return mesh


def write_mesh(mesh: trimesh.Trimesh, path: Path) -> None:
    """Writes a mesh with the colours of its vertices, whole or not at all; its folder is made.

    Args:
        mesh: The surface.
        path: .ply (binary) or .obj (colours behind the positions, as most programs read them).

    Raises:
        ValueError: another ending.
    """
    check_mesh_name(path)
    content: Any = mesh.export(file_type=path.suffix[1:].lower())
    with replacing(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode("ascii"))


def check_mesh_name(path: Path) -> None:
    """Refuses names of files that no mesh is written to.

    Raises:
        ValueError: another ending than .ply or .obj.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--mesh {path}: expected a file name ending in {' or '.join(SUFFIXES)}")
