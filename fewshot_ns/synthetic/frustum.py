"""Upright cones and truncated cones for the ray tracer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewshot_ns.synthetic.raytracer import MISS, SELF_HIT, Vector
from fewshot_ns.synthetic.textures import Array, Texture


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
