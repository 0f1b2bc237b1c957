"""World rays to model rays and back: points in space have to survive the trip."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.cameras.ndc import ndc_normals_to_world, ndc_t_to_z_depth, rays_to_ndc, z_depth_to_ndc_t
from fewshot_ns.cameras.ray_space import (
    RADII_KEY,
    attach_radii,
    depth_slope,
    grid_radii,
    ray_bounds,
    ray_parameter,
    scene_focus,
    scene_radius,
    to_model_rays,
    world_distance,
)
from fewshot_ns.cameras.scene_geometry import SceneGeometry, spacing_of

WIDTH, HEIGHT, FOCAL = 24, 18, 30.0
NDC = SceneGeometry("ndc", 0.0, 1.0, "cylinder", ndc_focal=(2 * FOCAL / WIDTH, 2 * FOCAL / HEIGHT))
PLANE = SceneGeometry("metric", 0.5, 3.5, "cone", origin_plane_z=0.0)
FREE = SceneGeometry("metric", 2.0, 6.0, "cone")


def camera(position: tuple[float, float, float], yaw: float = 0.1, pitch: float = 0.05) -> Cameras:
    """A camera looking roughly along -z."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    turn = torch.tensor([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    tilt = torch.tensor([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    pose = torch.cat([turn @ tilt, torch.tensor(position)[:, None]], dim=1)
    return Cameras(pose[None], FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)


def image_rays(geometry: SceneGeometry, position: tuple[float, float, float] = (0.2, -0.1, 0.1)):
    return attach_radii(camera(position).generate_rays(0, keep_shape=True), geometry)


@pytest.mark.parametrize("geometry", [NDC, PLANE, FREE], ids=["ndc", "plane", "free"])
def test_distance_of_a_sampled_point_is_its_distance_from_the_camera(geometry: SceneGeometry) -> None:
    bundle = image_rays(geometry).flatten()
    rays = to_model_rays(bundle, geometry)
    t = 0.3 * rays.near + 0.7 * rays.far.clamp(max=0.9 if geometry is NDC else 9.0)
    point = rays.origins + t * rays.directions
    if geometry is NDC:
        # Undo the projective map by hand: z' = 1 + 2n/z, x' = -f x/z.
        z = 2.0 / (point[:, 2] - 1.0)
        fx, fy = NDC.ndc_focal  # type: ignore[misc]
        point = torch.stack([-point[:, 0] * z / fx, -point[:, 1] * z / fy, z], dim=-1)
    expected = (point - bundle.origins).norm(dim=-1, keepdim=True)
    assert torch.allclose(world_distance(t, rays, geometry), expected, rtol=1e-4, atol=1e-5)
    on_ray = bundle.origins + bundle.directions * expected
    assert torch.allclose(on_ray, point, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("geometry", [NDC, PLANE, FREE], ids=["ndc", "plane", "free"])
def test_slope_is_that_of_finite_differences(geometry: SceneGeometry) -> None:
    rays = to_model_rays(image_rays(geometry).flatten(), geometry)
    z_depth, step = torch.linspace(1.5, 9.0, len(rays.near), dtype=torch.float64)[:, None], 1e-4
    rays = replace(rays, **{name: getattr(rays, name).double() for name in ("z_scale", "z_slope", "offset")})
    behind, before = (ray_parameter((z_depth + sign * step) * rays.z_scale, rays, geometry) for sign in (1, -1))
    at = ray_parameter(z_depth * rays.z_scale, rays, geometry)
    torch.testing.assert_close(depth_slope(at, rays, geometry), (behind - before) / (2 * step), rtol=1e-5, atol=1e-9)


def test_origins_lie_on_the_plane() -> None:
    rays = to_model_rays(image_rays(PLANE).flatten(), PLANE)
    assert rays.origins[:, 2].abs().max() < 1e-6
    rays = to_model_rays(image_rays(NDC).flatten(), NDC)
    assert torch.allclose(rays.origins[:, 2], torch.tensor(-1.0), atol=1e-6)


def test_planar_depth_is_the_same_over_a_fronto_parallel_plane() -> None:
    straight = Cameras(torch.eye(4)[None, :3], FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    bundle = attach_radii(straight.generate_rays(0, keep_shape=True), FREE).flatten()
    rays = to_model_rays(bundle, FREE)
    distance = world_distance(torch.full_like(rays.near, 4.0), rays, FREE)
    assert torch.allclose((bundle.directions * distance)[:, 2], torch.tensor(-4.0), atol=1e-5)
    assert distance.min() < distance.max() - 0.1


def test_ndc_depth_round_trip_and_finite_far() -> None:
    depth = torch.tensor([1.0, 1.5, 20.0])
    assert torch.allclose(ndc_t_to_z_depth(z_depth_to_ndc_t(depth)), depth, rtol=1e-4)
    assert ndc_t_to_z_depth(torch.tensor([1.0])).isfinite().all()


def test_ndc_does_not_depend_on_direction_length() -> None:
    bundle = image_rays(NDC).flatten()
    first = rays_to_ndc(bundle.origins, bundle.directions, NDC.ndc_focal, 1.0)  # type: ignore[arg-type]
    second = rays_to_ndc(bundle.origins, 7 * bundle.directions, NDC.ndc_focal, 1.0)  # type: ignore[arg-type]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(first, second, strict=True))


def test_radii_of_a_pinhole_are_the_pixel_size() -> None:
    radii = image_rays(PLANE).metadata[RADII_KEY]
    assert radii.shape == (HEIGHT, WIDTH, 1)
    assert torch.allclose(radii, torch.tensor(2 / math.sqrt(12) / FOCAL), rtol=1e-4)


def test_grid_radii_equal_loop_with_repeated_border() -> None:
    grid = torch.rand(5, 4, 3)
    actual = grid_radii(grid, both_axes=True)
    for row in range(5):
        for column in range(4):
            r, c = (row if row < 4 else 2), (column if column < 3 else 1)
            down = (grid[r, column] - grid[r + 1, column]).norm()
            right = (grid[row, c] - grid[row, c + 1]).norm()
            expected = 0.5 * (down + right) * 2 / math.sqrt(12)
            assert actual[row, column, 0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("geometry", [NDC, PLANE], ids=["ndc", "plane"])
def test_radii_without_a_grid_come_close(geometry: SceneGeometry) -> None:
    bundle = image_rays(geometry, (0.0, 0.0, 0.0)).flatten()
    exact = to_model_rays(bundle, geometry).radii
    bundle.metadata.pop(RADII_KEY)
    approximate = to_model_rays(bundle, geometry).radii
    assert torch.allclose(approximate, exact, rtol=0.12)


def test_rays_that_look_away_from_an_ndc_scene_are_not_valid() -> None:
    away = camera((0.0, 0.0, 0.0), yaw=math.pi)
    rays = to_model_rays(attach_radii(away.generate_rays(0, keep_shape=True), NDC).flatten(), NDC)
    assert not rays.valid.any()
    for tensor in (rays.origins, rays.directions, rays.near, rays.far):
        assert tensor.isfinite().all()


def test_a_camera_beyond_the_near_plane_does_not_see_behind_itself() -> None:
    bundle = image_rays(NDC, (0.0, 0.0, -3.0)).flatten()
    rays = to_model_rays(bundle, NDC)
    assert (rays.near > 0).all()
    assert torch.allclose(world_distance(rays.near, rays, NDC), torch.tensor(0.0), atol=2e-2)


def test_a_sideways_camera_in_a_metric_scene_keeps_its_origin() -> None:
    sideways = camera((0.0, 0.0, 0.5), yaw=math.pi / 2, pitch=0.0)
    rays = to_model_rays(attach_radii(sideways.generate_rays(0, keep_shape=True), PLANE).flatten(), PLANE)
    assert rays.origins.isfinite().all()


@pytest.mark.parametrize("geometry", [NDC, PLANE, FREE], ids=["ndc", "plane", "free"])
def test_crop_boxes_bound_the_samples(geometry: SceneGeometry) -> None:
    bundle = image_rays(geometry).flatten()
    bundle.nears, bundle.fars = torch.full((len(bundle), 1), 2.5), torch.full((len(bundle), 1), 3.0)
    rays = to_model_rays(bundle, geometry)
    assert torch.allclose(world_distance(rays.near, rays, geometry), bundle.nears, rtol=1e-3)
    assert torch.allclose(world_distance(rays.far, rays, geometry), bundle.fars, rtol=1e-3)
    bundle.nears, bundle.fars = torch.full_like(bundle.nears, 1e10), torch.full_like(bundle.fars, 1e10)
    assert not to_model_rays(bundle, geometry).valid.any()


def test_bounds_hold_every_sample() -> None:
    cameras = camera((0.2, -0.1, 0.1))
    lower, upper = ray_bounds(cameras, PLANE)
    rays = to_model_rays(image_rays(PLANE).flatten(), PLANE)
    for t in (rays.near, rays.far):
        points = rays.origins + t * rays.directions
        assert (points >= lower - 1e-5).all() and (points <= upper + 1e-5).all()


def test_ndc_without_focal_is_named() -> None:
    with pytest.raises(ValueError, match="ndc_focal"):
        image_rays(SceneGeometry("ndc", 0.0, 1.0))


def test_radius_is_what_the_cameras_see_around_their_focus() -> None:
    poses = torch.eye(4)[:3].repeat(2, 1, 1)
    poses[0, 2, 3], poses[1, 2, 3] = 2.0, 4.0
    cameras = Cameras(poses, fx=40.0, fy=30.0, cx=40.0, cy=15.0, width=80, height=30)
    # Half the diagonal spans (1, 0.5) at distance 1; the cameras are 2 and 4 away.
    assert scene_radius(cameras, torch.zeros(3)) == pytest.approx(3.0 * math.hypot(1.0, 0.5), rel=1e-5)


def test_normals_of_ndc_are_the_gradient_of_the_world() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(6, 3, generator=generator, dtype=torch.float64) * 2 - torch.tensor([1.0, 1.0, 6.0])
    slopes = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    focal, near = (1.3, 1.7), 1.2

    def to_ndc(points: torch.Tensor) -> torch.Tensor:
        x, y, z = points.unbind(-1)
        return torch.stack([-focal[0] * x / z, -focal[1] * y / z, 1 + 2 * near / z], dim=-1)

    points.requires_grad_()
    (expected,) = torch.autograd.grad((slopes * torch.sin(to_ndc(points))).sum(), points)
    of_ndc = slopes * torch.cos(to_ndc(points.detach()))
    found = ndc_normals_to_world(of_ndc, to_ndc(points.detach()), focal, near)
    cosine = torch.nn.functional.cosine_similarity(found, expected)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_long_metric_intervals_are_sampled_by_shares():
    def found(*values, **fields):
        return spacing_of(SceneGeometry(*values, **fields))

    assert found("metric", 0.1, 100.0) == found("metric", 0.1, 2.1) == found("metric", 1.2, 6.7) == "geometric"
    # Every published protocol, near zero, NDC, and rays that start at a plane before the scene.
    for near, far in ((0.5, 3.5), (2.0, 6.0), (0.2, 4.0), (1.0, 6.0), (0.0, 100.0)):
        assert found("metric", near, far) == "linear"
    assert found("ndc", 0.01, 1.0) == found("metric", 0.1, 100.0, origin_plane_z=0.0) == "linear"


def test_focus_lies_within_a_long_interval():
    """Hand-held photos that nearly face one way may have axes that meet behind the cameras."""
    poses = torch.eye(4)[:3].repeat(3, 1, 1)
    poses[:, 0, 3] = torch.tensor([-0.2, 0.0, 0.2])
    for view, degrees in enumerate((3.0, 0.0, -3.0)):
        angle = math.radians(degrees)
        poses[view, :, 0] = torch.tensor([math.cos(angle), 0.0, -math.sin(angle)])
        poses[view, :, 2] = torch.tensor([math.sin(angle), 0.0, math.cos(angle)])
    towards, apart = (Cameras(turned, 60.0, 60.0, 32.0, 24.0, 64, 48) for turned in (poses.flip(0), poses))
    for pose in (towards, apart):
        pose.camera_to_worlds[:, 0, 3] = torch.tensor([-0.2, 0.0, 0.2])
    short, long = SceneGeometry("metric", 1.0, 9.0), SceneGeometry("metric", 0.1, 100.0)
    ahead = [float(-scene_focus(cameras, long)[2]) for cameras in (towards, apart)]
    assert min(ahead) > 0.0 and max(ahead) == pytest.approx(0.2 / math.tan(math.radians(3.0)), rel=1e-3)
    assert min(ahead) == pytest.approx(math.sqrt(10.0), rel=1e-2)
    behind = [float(-scene_focus(cameras, short)[2]) for cameras in (towards, apart)]
    assert min(behind) < 0.0  # as ever where the interval is short
