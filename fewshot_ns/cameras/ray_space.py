"""From nerfstudio's world rays to the rays that a model samples, and back to world distance.

Cameras, viewer and render paths speak world rays; NDC and the shift of DTU's origins exist only in here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from fewshot_ns.cameras.ndc import ndc_normals_to_world, ndc_t_to_z_depth, rays_to_ndc, z_depth_to_ndc_t
from fewshot_ns.cameras.poses import focus_point
from fewshot_ns.cameras.scene_geometry import SceneGeometry, reaches_far

RADII_KEY = "radii"
"""Key of the exact footprint radii in `RayBundle.metadata`."""
MEASURED_KEY = "measured_depth"
"""Key of the measured depths (R, 2) in `RayBundle.metadata`, see `ModelRays.measured`."""
_FOOTPRINT = 2.0 / math.sqrt(12.0)
"""Radius of a disc with the variance of a unit square (mip-NeRF, section 3.1)."""
_MIN_FORWARD = 1e-6


@dataclass(frozen=True)
class ModelRays:
    """Rays in the space that the model samples; all tensors (R, C). t multiplies `directions` as given."""

    origins: Tensor
    """(R, 3) position at t = 0 in ray space."""
    directions: Tensor
    """(R, 3) un-normalised direction in ray space."""
    viewdirs: Tensor
    """(R, 3) unit direction in the world."""
    radii: Tensor
    """(R, 1) footprint radius: per unit t for cones, absolute for cylinders."""
    near: Tensor
    """(R, 1) first t to sample."""
    far: Tensor
    """(R, 1) last t to sample."""
    valid: Tensor
    """(R, 1) bool; False where the ray cannot meet the scene (it points away from an NDC frustum, say)."""
    z_scale: Tensor
    """(R, 1) world distance per unit of un-normalised world direction."""
    offset: Tensor
    """(R, 1) un-normalised world ray parameter of the ray-space origin (metric); of the plane z = 0 (NDC)."""
    z_slope: Tensor
    """(R, 1) |z| of the un-normalised world direction."""
    views: Optional[Tensor] = None
    """(R, 1) index of the camera, -1 for unseen ones; None where unknown."""
    measured: Optional[Tensor] = None
    """(R, 2) measured depth as t, 0 where there is none, and t per unit of planar depth there; None without labels."""


def _world_directions(ray_bundle: RayBundle) -> tuple[Tensor, Tensor]:
    """Un-normalised world directions (..., 3) and their norm (..., 1)."""
    norm = ray_bundle.metadata.get("directions_norm")
    norm = torch.ones_like(ray_bundle.directions[..., :1]) if norm is None else norm
    return ray_bundle.directions * norm, norm


def grid_radii(grid: Tensor, both_axes: bool) -> Tensor:
    """Footprint radius of every pixel from the distance to its neighbours (mip-NeRF, section 3.1).

    Args:
        grid: (..., H, W, 3) un-normalised directions (cones) or NDC origins (cylinders).
        both_axes: average of the distances to the next row and the next column; otherwise the next row alone.

    Returns:
        (..., H, W, 1). The last row (column) repeats the second last difference, as the original code does.
    """

    def spacing(dim: int) -> Tensor:
        size = grid.shape[dim]
        if size < 2:
            raise ValueError(f"a pixel footprint needs at least 2 pixels per side, got a grid of {tuple(grid.shape)}")
        diff = (grid.narrow(dim, 0, size - 1) - grid.narrow(dim, 1, size - 1)).norm(dim=-1, keepdim=True)
        return torch.cat([diff, diff.narrow(dim, max(size - 3, 0), 1)], dim=dim)

    rows = spacing(-3)
    return (0.5 * (rows + spacing(-2)) if both_axes else rows) * _FOOTPRINT


def attach_radii(ray_bundle: RayBundle, geometry: SceneGeometry) -> RayBundle:
    """Adds exact footprint radii to the rays of one whole image (H, W), or of several (..., H, W)."""
    if min(ray_bundle.shape[-2:]) < 2:
        return ray_bundle
    directions, _ = _world_directions(ray_bundle)
    if geometry.ray_space == "ndc":
        grid, _ = rays_to_ndc(ray_bundle.origins, directions, _focal(geometry), geometry.ndc_near)
    else:
        grid = directions
    ray_bundle.metadata[RADII_KEY] = grid_radii(grid, both_axes=geometry.ray_space == "ndc")
    return ray_bundle


def camera_rays(cameras: Cameras, geometry: SceneGeometry, footprint_scale: float = 1.0) -> RayBundle:
    """Rays (B, H, W) of all pixels of cameras that nobody photographed, with their footprints; camera index -1.

    Args:
        cameras: (B,) of one size.
        geometry: of the scene.
        footprint_scale: see `RenderOptions.footprint_scale`.

    Raises:
        ValueError: cameras of several sizes.
    """
    sizes = torch.cat([cameras.height, cameras.width], dim=-1).unique(dim=0)
    if len(sizes) != 1:
        raise ValueError(f"expected cameras of one size, found {sizes.tolist()} (height, width)")
    height, width = sizes[0].tolist()
    # One row and one column more than asked for: a footprint is the distance to the next pixel.
    axes = [torch.arange(side + 1, device=cameras.device) + 0.5 for side in (height, width)]
    coords = torch.stack(torch.meshgrid(axes[0], axes[1], indexing="ij"), dim=-1).expand(len(cameras), -1, -1, -1)
    index = torch.arange(len(cameras), device=cameras.device)[:, None, None, None].expand(*coords.shape[:-1], 1)
    bundle = attach_radii(cameras.generate_rays(camera_indices=index, coords=coords), geometry)
    rays = bundle[:, :height, :width]
    rays.metadata[RADII_KEY] = (
        footprint_scale * rays.metadata[RADII_KEY] if footprint_scale != 1.0 else (rays.metadata[RADII_KEY])
    )
    rays.camera_indices = torch.full_like(index[:, :height, :width], -1)
    return rays


def concatenate_rays(first: RayBundle, second: RayBundle) -> RayBundle:
    """Rays (N,) of photos followed by rays (M,) of unseen cameras: what a model needs, no bounds and no times."""
    if MEASURED_KEY in first.metadata:
        second.metadata[MEASURED_KEY] = torch.zeros(len(second), 2, device=second.origins.device)
    keys = first.metadata.keys() & second.metadata.keys()
    names = ("origins", "directions", "pixel_area", "camera_indices")
    parts = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in names}
    return RayBundle(**parts, metadata={key: torch.cat([first.metadata[key], second.metadata[key]]) for key in keys})


def to_model_rays(ray_bundle: RayBundle, geometry: SceneGeometry) -> ModelRays:
    """Converts world rays (R,) to the ray space of the scene.

    Rays without attached radii (single pixels of a free camera) get them from nerfstudio's pixel area.
    """
    directions, norm = _world_directions(ray_bundle)
    origins = ray_bundle.origins
    radii = ray_bundle.metadata.get(RADII_KEY)
    spacing = (ray_bundle.pixel_area * norm**3).sqrt() if radii is None else None
    near = torch.full_like(norm, geometry.near)
    far = torch.full_like(norm, geometry.far)
    z_slope = directions[..., 2:3].abs()
    if geometry.ray_space == "ndc":
        valid = directions[..., 2:3] < -_MIN_FORWARD
        ahead = torch.where(valid, directions, torch.tensor([0.0, 0.0, -1.0]).to(directions))
        ndc_origins, ndc_directions = rays_to_ndc(origins, ahead, _focal(geometry), geometry.ndc_near)
        # A free camera beyond the near plane must not see what lies behind it.
        camera_z = -origins[..., 2:3]
        behind = z_depth_to_ndc_t(camera_z.clamp(min=geometry.ndc_near), geometry.ndc_near)
        near = torch.maximum(near, behind.to(near)).clamp(max=geometry.far - 1e-3)
        if radii is None and spacing is not None:
            scale = 0.5 * sum(_focal(geometry)) * (origins[..., 2:3] + geometry.ndc_near).abs() / geometry.ndc_near
            radii = spacing * scale * _FOOTPRINT
        offset = origins[..., 2:3] / z_slope.clamp(min=_MIN_FORWARD)
        origins, out_directions = ndc_origins, ndc_directions
    else:
        offset = torch.zeros_like(norm)
        valid = torch.ones_like(norm, dtype=torch.bool)
        if geometry.origin_plane_z is not None:
            # Only cameras before the plane look through it; others (free viewer cameras) keep their own origin.
            steep = z_slope > 1e-3
            slope = torch.where(steep, directions[..., 2:3], torch.ones_like(z_slope))
            offset = torch.where(steep, (geometry.origin_plane_z - origins[..., 2:3]) / slope, offset)
            origins = origins + offset * directions
        if radii is None and spacing is not None:
            radii = spacing * _FOOTPRINT
        out_directions = directions
    if ray_bundle.nears is not None and ray_bundle.fars is not None:
        # Set by a crop box (viewer, ns-render, ns-export), as world distances from the camera.
        first = _from_distance(ray_bundle.nears, norm, offset, z_slope, geometry)
        last = _from_distance(ray_bundle.fars, norm, offset, z_slope, geometry)
        valid = valid & (first < far) & (last > near) & (first < last)
        near, far = torch.maximum(near, first), torch.minimum(far, last)
        near, far = torch.where(valid, near, geometry.near), torch.where(valid, far, geometry.far)
    return ModelRays(
        origins=origins,
        directions=out_directions,
        viewdirs=ray_bundle.directions,
        radii=radii,  # type: ignore[arg-type]
        near=near,
        far=far,
        valid=valid,
        z_scale=norm,
        offset=offset,
        z_slope=z_slope,
        views=ray_bundle.camera_indices,
        measured=ray_bundle.metadata.get(MEASURED_KEY),
    )


def world_distance(t: Tensor, rays: ModelRays, geometry: SceneGeometry) -> Tensor:
    """Euclidean world distance (R, 1) from the camera of the point at ray parameter t (R, 1)."""
    if geometry.ray_space == "ndc":
        z_from_plane = ndc_t_to_z_depth(t, geometry.ndc_near)
        parameter = z_from_plane / rays.z_slope.clamp(min=_MIN_FORWARD) + rays.offset
    else:
        parameter = t + rays.offset
    return (parameter * rays.z_scale).clamp(min=0.0)


def ray_parameter(distance: Tensor, rays: ModelRays, geometry: SceneGeometry) -> Tensor:
    """Ray parameter t (R, 1) of the point at a Euclidean world distance (R, 1); the inverse of `world_distance`."""
    return _from_distance(distance, rays.z_scale, rays.offset, rays.z_slope, geometry)


def depth_slope(t: Tensor, rays: ModelRays, geometry: SceneGeometry) -> Tensor:
    """(R, 1) ray parameter per world unit of planar depth at ray parameter t (R, 1), by which widths are converted."""
    if geometry.ray_space == "ndc":
        return rays.z_slope * (1.0 - t) ** 2 / geometry.ndc_near
    return torch.ones_like(t)


def normals_to_world(normals: Tensor, positions: Tensor, geometry: SceneGeometry) -> Tensor:
    """(..., 3) unit normals in the world of unit normals (..., 3) in ray space at positions (..., 3) in ray space."""
    if geometry.ray_space != "ndc" or geometry.ndc_focal is None:
        return normals
    turned = ndc_normals_to_world(normals, positions.detach(), geometry.ndc_focal, geometry.ndc_near)
    return torch.nn.functional.normalize(turned, dim=-1, eps=1e-6)


def _from_distance(distance: Tensor, norm: Tensor, offset: Tensor, z_slope: Tensor, geometry: SceneGeometry) -> Tensor:
    """Inverse of `world_distance`: ray parameter (R, 1) at a Euclidean distance (R, 1) from the camera."""
    parameter = distance / norm - offset
    if geometry.ray_space == "ndc":
        return z_depth_to_ndc_t((parameter * z_slope).clamp(min=1e-3 * geometry.ndc_near), geometry.ndc_near)
    return parameter


def ray_bounds(cameras: Cameras, geometry: SceneGeometry) -> Tensor:
    """(2, 3) smallest box in ray space around the near-to-far segments of all pixels of the cameras."""
    points = []
    for index in range(len(cameras)):
        height, width = int(cameras.height[index]), int(cameras.width[index])
        corners = torch.tensor([[0.0, 0.0], [0.0, width], [height, 0.0], [height, width]])
        rays = cameras.generate_rays(camera_indices=torch.full((4, 1), index), coords=corners.to(cameras.device))
        model_rays = to_model_rays(rays, geometry)
        points += [model_rays.origins + t * model_rays.directions for t in (model_rays.near, model_rays.far)]
    stacked = torch.cat(points)
    return torch.stack([stacked.min(0).values, stacked.max(0).values])


def scene_focus(cameras: Cameras, geometry: SceneGeometry) -> Tensor:
    """(3,) world point that the cameras look at. For parallel cameras, and in a long metric interval for those whose
    axes meet outside of it, a point before them: halfway to far, of a long interval halfway on a logarithmic scale."""
    poses = cameras.camera_to_worlds.detach().cpu().double()
    long = reaches_far(geometry)
    try:
        focus = torch.as_tensor(focus_point(poses.numpy()))
        depth = float(((poses[:, :, 3] - focus) * poses[:, :, 2]).sum(-1).median())
        if not long or geometry.near <= depth <= geometry.far:
            return focus
    except ValueError:
        pass
    halfway = math.sqrt(geometry.near * geometry.far) if long else 0.5 * (geometry.near + geometry.far)
    return (poses[:, :, 3] - halfway * poses[:, :, 2]).mean(0)


def scene_radius(cameras: Cameras, focus: Tensor) -> float:
    """How far around the focus point (3,) the cameras see: mean distance times the tangent of half their diagonal."""
    distance = (cameras.camera_to_worlds[:, :, 3].to(focus) - focus).norm(dim=-1)
    half_diagonal = torch.hypot(0.5 * cameras.width / cameras.fx, 0.5 * cameras.height / cameras.fy)[:, 0]
    return float((distance * half_diagonal.to(focus)).mean())


def _focal(geometry: SceneGeometry) -> tuple[float, float]:
    if geometry.ndc_focal is None:
        raise ValueError("a scene in NDC needs `ndc_focal` = (2 fx / W, 2 fy / H), found None")
    return geometry.ndc_focal
