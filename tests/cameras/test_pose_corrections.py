"""Corrected poses of photos: rays and cameras agree, gradients are true, what has no correction stays."""

from __future__ import annotations

import math

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.lie_groups import exp_map_SE3, exp_map_SO3xR3
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from fewshot_ns.cameras.pose_corrections import corrected_cameras, corrected_rays, correction_sizes
from fewshot_ns.cameras.ray_space import attach_radii, to_model_rays
from fewshot_ns.cameras.scene_geometry import SceneGeometry

WIDTH, HEIGHT = 7, 5
NDC = SceneGeometry("ndc", 0.0, 1.0, "cylinder", ndc_focal=(1.3, 1.7), ndc_near=1.2)
PLANE = SceneGeometry("metric", 0.5, 3.5, "cone", origin_plane_z=0.0)
FREE = SceneGeometry("metric", 2.0, 6.0, "cone")


def cameras() -> Cameras:
    """Three cameras that look roughly along -z, with lens distortion."""
    torch.manual_seed(0)
    poses = exp_map_SO3xR3(0.1 * torch.randn(3, 6))
    distortion = torch.tensor([0.05, 0.0, 0.0, 0.0, 0.0, 0.0]).expand(3, 6)
    return Cameras(poses, 9.0, 9.5, 3.4, 2.6, WIDTH, HEIGHT, distortion_params=distortion)


def tangents() -> Tensor:
    return 0.2 * torch.randn(3, 6, generator=torch.Generator().manual_seed(1))


def rays_of(some: Cameras) -> RayBundle:
    """A few rays of each camera."""
    index = torch.tensor([[0], [1], [2], [2], [0]])
    coords = torch.tensor([[0.5, 0.5], [2.5, 3.5], [4.5, 6.5], [1.5, 1.5], [3.5, 0.5]])
    return some.generate_rays(camera_indices=index, coords=coords)


def test_rays_of_corrected_cameras_are_corrected_rays() -> None:
    corrections, before = exp_map_SO3xR3(tangents()), cameras()
    kept = before.camera_to_worlds.clone()
    moved = corrected_cameras(before, corrections)
    for view in range(3):
        # By hand: turned about its own centre by axes of the world, then moved.
        turn, shift = corrections[view, :, :3], corrections[view, :, 3]
        torch.testing.assert_close(moved.camera_to_worlds[view, :, :3], turn @ kept[view, :, :3])
        torch.testing.assert_close(moved.camera_to_worlds[view, :, 3], kept[view, :, 3] + shift)
    bundle = rays_of(before)
    origins = bundle.origins.clone()
    found, expected = corrected_rays(bundle, corrections), rays_of(moved)
    torch.testing.assert_close(found.origins, expected.origins)
    torch.testing.assert_close(found.directions, expected.directions)
    assert torch.equal(found.metadata["directions_norm"], bundle.metadata["directions_norm"])
    assert torch.equal(bundle.origins, origins) and torch.equal(before.camera_to_worlds, kept)
    for name in ("fx", "fy", "cx", "cy", "width", "height", "distortion_params", "camera_type"):
        assert torch.equal(getattr(moved, name), getattr(before, name)), name


def test_they_are_nerfstudios() -> None:
    optimizer = CameraOptimizerConfig(mode="SO3xR3").setup(num_cameras=3, device="cpu")
    with torch.no_grad():
        optimizer.pose_adjustment.copy_(tangents())
    theirs, ours = rays_of(cameras()), corrected_rays(rays_of(cameras()), optimizer(torch.arange(3)))
    optimizer.apply_to_raybundle(theirs)
    torch.testing.assert_close(ours.origins, theirs.origins)
    torch.testing.assert_close(ours.directions, theirs.directions)


def test_rays_of_no_view_stay_bit_by_bit_and_one_ray_is_enough() -> None:
    bundle, corrections = rays_of(cameras()), exp_map_SO3xR3(tangents())
    assert bundle.camera_indices is not None
    bundle.camera_indices[1:3] = -1
    found = corrected_rays(bundle, corrections)
    for name in ("origins", "directions"):
        before, after = getattr(bundle, name), getattr(found, name)
        assert torch.equal(before[1:3], after[1:3])
        assert not torch.isclose(before[[0, 3, 4]], after[[0, 3, 4]]).all(-1).any()
    torch.testing.assert_close(corrected_rays(bundle[3:4], corrections).origins, found.origins[3:4])
    bundle.camera_indices = None
    with pytest.raises(ValueError, match="belong to no view"):
        corrected_rays(bundle, corrections)


@pytest.mark.parametrize("geometry", [NDC, PLANE, FREE], ids=["ndc", "plane", "free"])
def test_gradients_reach_poses_through_the_ray_space(geometry: SceneGeometry) -> None:
    """Corrections count in the world, before the map to NDC, and are differentiable there."""
    bundle = rays_of(cameras())
    values = {name: getattr(bundle, name).double() for name in ("origins", "directions", "pixel_area")}
    metadata = {name: value.double() for name, value in bundle.metadata.items()}
    double = RayBundle(**values, camera_indices=bundle.camera_indices, metadata=metadata)

    def rays(tangent: Tensor) -> tuple[Tensor, ...]:
        moved = to_model_rays(corrected_rays(double, exp_map_SO3xR3(tangent)), geometry)
        return moved.origins, moved.directions, moved.viewdirs, moved.near, moved.offset, moved.z_slope

    start = tangents().double().requires_grad_()
    assert torch.autograd.gradcheck(rays, start, atol=1e-5)
    # The rays of the corrected cameras themselves.
    expected = to_model_rays(rays_of(corrected_cameras(cameras(), exp_map_SO3xR3(tangents()))), geometry)
    origins, directions, viewdirs, near, offset, slope = rays(start)
    for name, value in (("origins", origins), ("directions", directions), ("viewdirs", viewdirs), ("near", near)):
        torch.testing.assert_close(value.detach().float(), getattr(expected, name), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(offset.detach().float(), expected.offset, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slope.detach().float(), expected.z_slope, rtol=1e-4, atol=1e-5)


def test_footprints_hardly_change_with_a_small_correction() -> None:
    """What rays keep are footprints of the poses before."""
    corrections = exp_map_SO3xR3(0.01 * tangents())
    for geometry, tolerance in ((FREE, 1e-4), (NDC, 2e-2)):
        before, after = (
            attach_radii(some.generate_rays(0, keep_shape=True), geometry).metadata["radii"]
            for some in (cameras(), corrected_cameras(cameras(), corrections))
        )
        torch.testing.assert_close(before, after, rtol=tolerance, atol=0.0)


def test_sizes_are_degrees_and_distances() -> None:
    axis = torch.tensor([0.6, 0.0, 0.8])
    degrees = torch.tensor([0.0, 1e-3, 0.5, 30.0, 170.0])
    shift = torch.tensor([3.0, -4.0, 0.0]) * torch.arange(5.0)[:, None]
    corrections = exp_map_SO3xR3(torch.cat([shift, torch.deg2rad(degrees)[:, None] * axis], dim=-1))
    turned, moved = correction_sizes(corrections)
    torch.testing.assert_close(turned, degrees, rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(moved, 5.0 * torch.arange(5.0))
    # Of SE3 what counts is the matrix, not the parameters.
    tangent = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, math.pi / 2]])
    turned, moved = correction_sizes(exp_map_SE3(tangent))
    assert float(turned) == pytest.approx(90.0, abs=1e-3)
    assert float(moved) == pytest.approx(math.sqrt(8) / math.pi, abs=1e-4)
