"""Normalised device coordinates of forward-facing scenes and their inverse (NeRF, appendix C)."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor

_MAX_NDC_T = 1.0 - 1e-4
"""The far plane t = 1 lies at infinity; stop where a distance is still a number that people can read."""


def rays_to_ndc(
    origins: Tensor, directions: Tensor, ndc_focal: Tuple[float, float], near: float = 1.0
) -> Tuple[Tensor, Tensor]:
    """Maps world rays to NDC rays with t = 0 on the near plane and t = 1 at infinity.

    Args:
        origins: (..., 3) world origins, camera looking along -z.
        directions: (..., 3) world directions of any length with z < 0.
        ndc_focal: (2 fx / W, 2 fy / H).
        near: distance of the near plane z = -near, world units.

    Returns:
        (..., 3) NDC origins (z = -1) and (..., 3) NDC directions.
    """
    shift = -(near + origins[..., 2:3]) / directions[..., 2:3]
    on_plane = origins + shift * directions
    ox, oy, oz = on_plane.unbind(-1)
    dx, dy, dz = directions.unbind(-1)
    fx, fy = ndc_focal
    ndc_origins = torch.stack([-fx * ox / oz, -fy * oy / oz, 1.0 + 2.0 * near / oz], dim=-1)
    ndc_directions = torch.stack([-fx * (dx / dz - ox / oz), -fy * (dy / dz - oy / oz), -2.0 * near / oz], dim=-1)
    return ndc_origins, ndc_directions


def ndc_t_to_z_depth(t: Tensor, near: float = 1.0) -> Tensor:
    """Distance from the plane z = 0 along -z, world units, of NDC ray parameter t in [0, 1); clamped just before 1."""
    return near / (1.0 - t.clamp(max=_MAX_NDC_T))


def z_depth_to_ndc_t(z_depth: Tensor, near: float = 1.0) -> Tensor:
    """Inverse of `ndc_t_to_z_depth`: NDC ray parameter of the world plane z = -z_depth, z_depth > 0."""
    return 1.0 - near / z_depth


def ndc_normals_to_world(
    normals: Tensor, positions: Tensor, ndc_focal: Tuple[float, float], near: float = 1.0
) -> Tensor:
    """World directions of surface normals that are given in NDC; a normal goes by the map's Jacobian, transposed.

    Args:
        normals: (..., 3) in NDC, such as the gradient of a function of NDC positions.
        positions: (..., 3) NDC positions that they belong to, z < 1.
        ndc_focal: (2 fx / W, 2 fy / H).
        near: distance of the near plane z = -near, world units.

    Returns:
        (..., 3) of any length.
    """
    nx, ny, nz = normals.unbind(-1)
    x, y, z = positions.unbind(-1)
    # One over the distance along -z; the rows of the Jacobian are (fx, 0, x) and (0, fy, y) times it, and its square.
    inverse = (1.0 - z).clamp(min=1.0 - _MAX_NDC_T) / (2.0 * near)
    fx, fy = ndc_focal
    return torch.stack([fx * nx, fy * ny, x * nx + y * ny - 2.0 * near * inverse * nz], dim=-1)
