"""The ray tracer against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_ns.synthetic.raytracer import (
    AreaLight,
    Box,
    Frustum,
    Sphere,
    World,
    camera_rays,
    cylinder,
    render_depth,
    render_image,
)
from fewshot_ns.synthetic.textures import checker, fractal_noise, plain, value_noise

GREY = plain((0.5, 0.5, 0.5))
SHAPES = {
    "sphere": Sphere((0.3, -0.2, -5.0), 1.2, GREY),
    "box": Box((0.3, -0.2, -5.0), (0.7, 1.0, 0.5), GREY, turn=25.0),
    "cylinder": cylinder((0.3, -0.2, -5.0), 0.8, 0.9, GREY),
    "cone": Frustum((0.3, -0.2, -5.0), 1.1, 0.0, 0.9, GREY),
    "frustum": Frustum((0.3, -0.2, -5.0), 0.5, 1.0, 0.9, GREY),
}


def signed_inside(name, shape, points):
    """Whether points (N, 3) lie inside a shape, written down without the tracer."""
    local = points - np.asarray(shape.centre)
    if name == "sphere":
        return np.linalg.norm(local, axis=1) < shape.radius
    if name in ("cylinder", "cone", "frustum"):
        share = 0.5 + 0.5 * local[:, 1] / shape.half_height
        radius = shape.bottom_radius + share * (shape.top_radius - shape.bottom_radius)
        return (np.hypot(local[:, 0], local[:, 2]) < radius) & (np.abs(local[:, 1]) < shape.half_height)
    angle = np.deg2rad(shape.turn)
    x = local[:, 0] * np.cos(angle) - local[:, 2] * np.sin(angle)
    z = local[:, 0] * np.sin(angle) + local[:, 2] * np.cos(angle)
    return (np.abs(np.stack([x, local[:, 1], z], 1)) < np.asarray(shape.half)).all(axis=1)


@pytest.mark.parametrize("name", SHAPES)
def test_first_hit_equals_marching(name):
    shape = SHAPES[name]
    rng = np.random.default_rng(0)
    origins = rng.normal(scale=0.3, size=(300, 3))
    directions = np.asarray(shape.centre) + rng.normal(scale=0.9, size=(300, 3)) - origins
    t = shape.intersect(origins, directions)
    steps = np.linspace(0.0, 3.0, 3001)
    inside = np.stack([signed_inside(name, shape, origins + s * directions) for s in steps], axis=1)
    expected = np.where(inside.any(axis=1), steps[inside.argmax(axis=1)], np.inf)
    assert 0.2 < np.isfinite(expected).mean() < 1.0
    hit = np.isfinite(expected)
    np.testing.assert_allclose(t[hit], expected[hit], atol=2e-3)
    assert not np.isfinite(t[~hit]).any() or (~hit & np.isfinite(t)).mean() < 0.02  # Grazing chords below a step.


@pytest.mark.parametrize("name", SHAPES)
def test_normals_point_outwards(name):
    shape = SHAPES[name]
    rng = np.random.default_rng(1)
    origins = rng.normal(scale=0.3, size=(200, 3))
    directions = np.asarray(shape.centre) + rng.normal(scale=0.4, size=(200, 3)) - origins
    t = shape.intersect(origins, directions)
    points = (origins + t[:, None] * directions)[np.isfinite(t)]
    normals = shape.normals(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)
    assert not signed_inside(name, shape, points + 1e-4 * normals).any()
    assert signed_inside(name, shape, points - 1e-4 * normals).all()


def test_rays_from_inside_leave_at_the_far_side():
    origin, direction = np.array([[0.0, 0.0, 0.0]]), np.array([[0.0, 0.0, -2.0]])
    for shape in (Sphere((0, 0, 0), 3.0, GREY), Box((0, 0, 0), (3, 3, 3), GREY), cylinder((0, 0, 0), 3.0, 3.0, GREY)):
        np.testing.assert_allclose(shape.intersect(origin, direction), 1.5)


def test_depth_is_planar():
    wall = World([Box((0, 0, -11.0), (50, 50, 1), GREY)], AreaLight((0, 9, 0), 1.0, 0.7, 0.3))
    depth = render_depth(wall, np.eye(4)[:3], 20.0, 32, 24)
    np.testing.assert_allclose(depth, 10.0)


def test_the_middle_of_the_image_looks_along_minus_z():
    origins, directions = camera_rays(np.eye(4)[:3], 20.0, np.array([16.0, 17.0]), np.array([12.0, 12.0]), 32, 24)
    np.testing.assert_allclose(origins, 0.0)
    np.testing.assert_allclose(directions, [[0, 0, -1], [0.05, 0, -1]])


def test_a_shadow_falls_and_is_soft():
    floor = Box((0, -2.0, -8.0), (40, 1, 40), plain((1.0, 1.0, 1.0)))
    ball = Sphere((0, 0.6, -8.0), 1.0, plain((1.0, 0.0, 0.0)))
    light = AreaLight((0, 10, -8.0), 3.0, 0.6, 0.3)
    below, aside = np.array([[0.0, 0.0, 0.0]]), np.array([[6.0, 0.0, 0.0]])
    to_floor = np.array([[0.0, -1.0, -8.0]])
    shadowed = World([floor, ball], light)
    dark = shadowed.shade(below, to_floor, (0.0, 0.0))
    np.testing.assert_allclose(dark, 0.3, atol=1e-9)
    assert (shadowed.shade(aside, to_floor, (0.0, 0.0)) > 0.6).all()
    rim = np.array([[1.4, 0.0, 0.0]])
    seen = {float(shadowed.shade(rim, to_floor, (offset, 0.0))[0, 0]) > 0.35 for offset in (-1.0, 1.0)}
    assert seen == {True, False}  # One side of the light reaches the rim of the shadow, the other does not.


def test_supersampling_averages_sub_pixels():
    world = World(
        [Box((0, 0, -11.0), (50, 50, 1), checker((0, 0, 0), (1, 1, 1), 0.37))], AreaLight((0, 9, 0), 0.0, 0.0, 1.0)
    )
    sharp = render_image(world, np.eye(4)[:3], 40.0, 64, 48, supersample=1)
    soft = render_image(world, np.eye(4)[:3], 20.0, 32, 24, supersample=2)
    np.testing.assert_allclose(soft, sharp.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3)))


def test_noise_is_smooth_bounded_and_seeded():
    points = np.random.default_rng(0).uniform(-50, 50, size=(5000, 3))
    values = value_noise(points, seed=4)
    assert values.min() >= 0.0 and values.max() <= 1.0 and 0.1 < values.std() < 0.4
    assert np.abs(value_noise(points + 1e-4, seed=4) - values).max() < 1e-3
    assert np.abs(np.corrcoef(values, value_noise(points, seed=5))[0, 1]) < 0.1
    fractal = fractal_noise(points)
    assert fractal.min() >= 0.0 and fractal.max() <= 1.0


def test_without_shadows_only_the_angle_to_the_light_counts():
    ground, lid = Box((0.0, -2.0, -5.0), (9.0, 0.5, 9.0), GREY), Box((0.0, 0.0, -5.0), (1.0, 0.1, 1.0), GREY)
    light = AreaLight((0.0, 8.0, -5.0), half_size=0.0, strength=0.6, ambient=0.4)
    origins, directions = np.array([[0.0, -0.8, -5.0]]), np.array([[0.0, -1.0, 0.0]])
    dark, lit = (
        World([ground, lid], light, shadows=shadows).shade(origins, directions, (0, 0)) for shadows in (True, False)
    )
    np.testing.assert_allclose(dark, 0.5 * 0.4)
    np.testing.assert_allclose(lit, 0.5 * 1.0)
