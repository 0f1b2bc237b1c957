"""A small vectorised ray tracer: spheres, boxes, cones, cylinders; diffuse light with soft shadows; exact depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from fewshot_ns.synthetic.textures import Array, Texture

Vector = Tuple[float, float, float]
MISS = np.inf
"""Ray parameter of a ray that hits nothing."""
SELF_HIT = 1e-4
"""Hits nearer than this (ray parameter) are the surface that the ray leaves."""


class Shape(Protocol):
    """A surface that rays can hit."""

    @property
    def texture(self) -> Texture:
        """Colour of the surface."""
        ...

    def intersect(self, origins: Array, directions: Array) -> Array:
        """First hit of each ray in front of its origin: (N, 3), (N, 3) -> (N,) ray parameters, inf for a miss."""
        ...

    def normals(self, points: Array) -> Array:
        """Outward unit normals at surface points, (N, 3) world -> (N, 3) world."""
        ...

    def surface_coordinates(self, points: Array) -> Array:
        """World points (N, 3) in the shape's own frame, in which its texture lives."""
        ...


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    centre: Vector
    radius: float
    texture: Texture

    def intersect(self, origins: Array, directions: Array) -> Array:
        relative = origins - np.asarray(self.centre)
        a = np.einsum("ij,ij->i", directions, directions)
        b = np.einsum("ij,ij->i", relative, directions)
        c = np.einsum("ij,ij->i", relative, relative) - self.radius**2
        root = np.sqrt(np.maximum(b * b - a * c, 0.0))
        first, second = (-b - root) / a, (-b + root) / a
        t = np.where(first > SELF_HIT, first, second)
        return np.where((b * b > a * c) & (t > SELF_HIT), t, MISS)

    def normals(self, points: Array) -> Array:
        return (points - np.asarray(self.centre)) / self.radius

    def surface_coordinates(self, points: Array) -> Array:
        return points - np.asarray(self.centre)


@dataclass(frozen=True)
class Box:
    """A box with edges of twice `half`, turned about the vertical axis by `turn` degrees."""

    centre: Vector
    half: Vector
    texture: Texture
    turn: float = 0.0

    def _rotation(self) -> Array:
        """(3, 3) matrix R with world = R @ local."""
        angle = np.deg2rad(self.turn)
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def intersect(self, origins: Array, directions: Array) -> Array:
        rotation = self._rotation()
        local_origins = (origins - np.asarray(self.centre)) @ rotation
        local_directions = directions @ rotation
        with np.errstate(divide="ignore", invalid="ignore"):
            to_low = (-np.asarray(self.half) - local_origins) / local_directions
            to_high = (np.asarray(self.half) - local_origins) / local_directions
        enter = np.minimum(to_low, to_high).max(axis=1)
        leave = np.maximum(to_low, to_high).min(axis=1)
        t = np.where(enter > SELF_HIT, enter, leave)
        return np.where((leave >= enter) & (t > SELF_HIT), t, MISS)

    def normals(self, points: Array) -> Array:
        local = self.surface_coordinates(points)
        axis = np.argmin(np.abs(np.abs(local) - np.asarray(self.half)), axis=1)
        normals = np.zeros_like(local)
        rows = np.arange(len(local))
        normals[rows, axis] = np.sign(local[rows, axis])
        return normals @ self._rotation().T

    def surface_coordinates(self, points: Array) -> Array:
        return (points - np.asarray(self.centre)) @ self._rotation()


@dataclass(frozen=True)
class Frustum:
    """A closed upright cone, cut off where `top_radius` is not 0; `centre` is the middle of its axis."""

    centre: Vector
    bottom_radius: float
    top_radius: float
    half_height: float
    texture: Texture

    @property
    def _slope(self) -> float:
        """Growth of the radius per unit of height."""
        return (self.top_radius - self.bottom_radius) / (2 * self.half_height)

    def _radius(self, height: Array) -> Array:
        """Radius at a height above the centre."""
        return 0.5 * (self.bottom_radius + self.top_radius) + self._slope * height

    def intersect(self, origins: Array, directions: Array) -> Array:
        ox, oy, oz = (origins - np.asarray(self.centre)).T
        dx, dy, dz = directions.T
        slope, radius = self._slope, self._radius(oy)
        a = dx * dx + dz * dz - (slope * dy) ** 2
        b = ox * dx + oz * dz - slope * dy * radius
        c = ox * ox + oz * oz - radius**2
        root = np.sqrt(np.maximum(b * b - a * c, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            side = np.stack([(-b - root) / a, (-b + root) / a])
            height = oy + side * dy
            # The other half of the double cone, beyond the tip, has a negative radius.
            on_side = (b * b > a * c) & (np.abs(height) <= self.half_height) & (self._radius(height) >= 0.0)
            caps = np.stack([(self.half_height - oy) / dy, (-self.half_height - oy) / dy])
            from_axis = np.hypot(ox + caps * dx, oz + caps * dz)
            on_caps = from_axis <= np.array([[self.top_radius], [self.bottom_radius]])
            side = np.where(on_side & (side > SELF_HIT), side, MISS)
            caps = np.where(on_caps & (caps > SELF_HIT), caps, MISS)
        return np.concatenate([side, caps]).min(axis=0)

    def normals(self, points: Array) -> Array:
        local = self.surface_coordinates(points)
        on_cap = np.abs(np.abs(local[:, 1]) - self.half_height) < 1e-6
        outwards = local.copy()
        outwards[:, 1] = -self._slope * self._radius(local[:, 1])
        outwards[on_cap] = np.array([0.0, 1.0, 0.0]) * local[on_cap]
        return outwards / np.maximum(np.linalg.norm(outwards, axis=1, keepdims=True), 1e-12)

    def surface_coordinates(self, points: Array) -> Array:
        return points - np.asarray(self.centre)


def cylinder(centre: Vector, radius: float, half_height: float, texture: Texture) -> Frustum:
    """A closed upright cylinder; `centre` is the middle of its axis."""
    return Frustum(centre, radius, radius, half_height, texture)


@dataclass(frozen=True)
class AreaLight:
    """A square light that looks down: its extent makes the edges of shadows soft."""

    centre: Vector
    half_size: float
    strength: float
    ambient: float
    """Light from all around, as a share of 1; surfaces that face up get the whole, those that face down half of it."""


@dataclass(frozen=True)
class World:
    """Shapes and the light. Rays that hit nothing see `sky`; a closed room has none of them."""

    shapes: Sequence[Shape]
    light: AreaLight
    sky: Vector = field(default=(0.6, 0.75, 0.9))
    shadows: bool = True
    """Whether shapes keep the light from each other."""

    def first_hit(self, origins: Array, directions: Array) -> Tuple[Array, Array]:
        """Ray parameter (N,) (inf where nothing is hit) and index of the shape (N,) of each ray's first hit."""
        nearest = np.full(len(origins), MISS)
        shape_index = np.full(len(origins), -1)
        for index, shape in enumerate(self.shapes):
            t = shape.intersect(origins, directions)
            nearer = t < nearest
            nearest[nearer] = t[nearer]
            shape_index[nearer] = index
        return nearest, shape_index

    def shade(self, origins: Array, directions: Array, light_offset: Tuple[float, float]) -> Array:
        """Colour seen along each ray, (N, 3) in [0, 1].

        Args:
            origins: (N, 3).
            directions: (N, 3), of any length.
            light_offset: Point of the area light that throws the shadows, in [-1, 1]^2 of its half size.
        """
        t, shape_index = self.first_hit(origins, directions)
        colours = np.broadcast_to(np.asarray(self.sky, dtype=float), origins.shape).copy()
        points = origins + np.where(np.isfinite(t), t, 0.0)[:, None] * directions
        normals = np.zeros_like(points)
        for index, shape in enumerate(self.shapes):
            hit = shape_index == index
            if hit.any():
                normals[hit] = shape.normals(points[hit])
                colours[hit] = shape.texture(shape.surface_coordinates(points[hit]))
        hit = shape_index >= 0
        colours[hit] *= self._illumination(points[hit], normals[hit], light_offset)[:, None]
        return np.clip(colours, 0.0, 1.0)

    def _illumination(self, points: Array, normals: Array, light_offset: Tuple[float, float]) -> Array:
        """Diffuse light (N,) that arrives at surface points (N, 3) with unit normals (N, 3)."""
        light = self.light
        source = np.asarray(light.centre) + light.half_size * np.array([light_offset[0], 0.0, light_offset[1]])
        to_light = source - points
        cosine = np.einsum("ij,ij->i", to_light, normals) / np.linalg.norm(to_light, axis=1)
        direct = light.strength * np.maximum(cosine, 0.0)
        if self.shadows:
            direct *= ~self._in_shadow(points, normals, source, cosine > 0.0)
        return direct + light.ambient * (0.75 + 0.25 * normals[:, 1])

    def _in_shadow(self, points: Array, normals: Array, source: Array, facing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether surface points (N, 3) see nothing of a point of light (3,); those that face away do not."""
        blocked = np.ones(len(points), dtype=bool)
        # Leaving the surface along its normal keeps a shadow ray from hitting the very surface that it starts on.
        starts = points[facing] + 1e-3 * normals[facing]
        blocked[facing] = self.first_hit(starts, source - starts)[0] < 1.0
        return blocked


def camera_rays(c2w: Array, focal: float, x: Array, y: Array, width: int, height: int) -> Tuple[Array, Array]:
    """Rays through image points; the direction's camera-space z is -1, so that the ray parameter is planar depth.

    Args:
        c2w: (3, 4) camera-to-world matrix, OpenGL axes (x right, y up, looking along -z).
        focal: In pixels.
        x: (N,) image coordinate to the right; the centre of the first pixel is 0.5.
        y: (N,) image coordinate downwards.
        width: Of the image in pixels.
        height: Of the image in pixels.

    Returns:
        Origins (N, 3) and directions (N, 3).
    """
    local = np.stack([(x - width / 2) / focal, -(y - height / 2) / focal, -np.ones_like(x)], axis=1)
    directions = local @ c2w[:, :3].T
    return np.broadcast_to(c2w[:, 3], directions.shape), directions


def render_image(world: World, c2w: Array, focal: float, width: int, height: int, supersample: int) -> Array:
    """Anti-aliased image, (height, width, 3) in [0, 1].

    Each of the supersample^2 rays of a pixel looks at its own point of the area light, so that the mean over the pixel
    is also the mean over the light: soft shadows without extra rays, and the same in every view.
    """
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    steps = (np.arange(supersample) + 0.5) / supersample
    total = np.zeros((height * width, 3))
    for i, dy in enumerate(steps):
        for j, dx in enumerate(steps):
            x, y = columns.ravel() + dx, rows.ravel() + dy
            origins, directions = camera_rays(c2w, focal, x, y, width, height)
            # The two coordinates of the light run through different permutations of the sub-pixel grid.
            k = (i * supersample + j) * 7 % supersample**2
            offset = (2 * steps[k // supersample] - 1, 2 * steps[k % supersample] - 1)
            total += world.shade(origins, directions, offset)
    return (total / supersample**2).reshape(height, width, 3)


def render_depth(world: World, c2w: Array, focal: float, width: int, height: int) -> Array:
    """Planar z-depth (height, width) at the pixel centres, in scene units; inf where nothing is hit."""
    rows, columns = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    origins, directions = camera_rays(c2w, focal, columns.ravel(), rows.ravel(), width, height)
    return world.first_hit(origins, directions)[0].reshape(height, width)
