"""Sliders of ns-viewer that move the camera on a sphere: DietNeRF's demo, for any scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Tuple

import numpy as np
import numpy.typing as npt
from nerfstudio.viewer.viewer_elements import ViewerControl, ViewerSlider
from torch import nn

from fewshot_ns.cameras.poses import Poses, normalize
from fewshot_ns.cameras.sphere_views import spherical_poses
from fewshot_ns.viewer.cameras import place_camera

DEMO_RADII = (2.0, 6.0)
"""Distances that DietNeRF's demo of the synthetic scenes goes to."""


@dataclass(frozen=True)
class Sphere:
    """Where the camera may go."""

    centre: npt.NDArray[np.float64]
    """(3,) world point that the camera faces."""
    axes: npt.NDArray[np.float64]
    """(3, 3) columns: two directions of the equator, and up."""
    radii: Tuple[float, float]
    """Nearest and farthest distance from the centre, world units."""

    def pose(self, theta: float, phi: float, radius: float) -> Poses:
        """(3, 4) pose at an angle about the upward direction and one above the equator, rad."""
        pose = self.axes @ spherical_poses(np.array([theta]), np.array([phi]), np.array([radius]))[0]
        pose[:, 3] += self.centre
        return pose

    def angles(self, position: npt.NDArray[np.float64]) -> Tuple[float, float, float]:
        """theta, phi and radius of a position (3,)."""
        x, y, z = self.axes.T @ (position - self.centre)
        radius = math.sqrt(x * x + y * y + z * z)
        return math.atan2(x, y), math.asin(z / radius) if radius > 0 else 0.0, radius


def synthetic_sphere(centre: Tuple[float, float, float]) -> Sphere:
    """The sphere of the synthetic scenes: z is up, with the distances of DietNeRF's demo."""
    return Sphere(np.asarray(centre, dtype=np.float64), np.eye(3), DEMO_RADII)


def sphere_of_cameras(poses: Poses, focus: npt.NDArray[np.float64]) -> Sphere:
    """A sphere around the point that cameras face, about their mean upward direction, at half to 1.5 of their distance.

    Args:
        poses: (N, 3, 4) cameras.
        focus: (3,) world point.
    """
    up = normalize(poses[:, :3, 1].mean(0))
    side = -poses[:, :3, 0].mean(0)  # so that theta is 0 where the cameras stand
    side = side - (side @ up) * up
    if np.linalg.norm(side) < 1e-6:  # cameras all around
        side = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    side = normalize(side)
    distance = float(np.linalg.norm(poses[:, :3, 3] - focus, axis=-1).mean())
    return Sphere(focus, np.stack([side, np.cross(up, side), up], axis=1), (0.5 * distance, 1.5 * distance))


class SphereControls(nn.Module):
    """theta (about the upward direction), phi (above the equator) and radius of the camera.

    Args:
        sphere: where it may go.
        start: (3,) position that the sliders show first; the camera stays where it is until one is moved.
    """

    def __init__(self, sphere: Sphere, start: npt.NDArray[np.float64]) -> None:
        super().__init__()
        self._sphere = sphere
        self.control = ViewerControl()
        limits = {"theta": (-math.pi, math.pi), "phi": (0.0, 0.5 * math.pi), "radius": sphere.radii}
        sliders = {}
        for (name, (low, high)), value in zip(limits.items(), sphere.angles(start), strict=True):
            decimals = 2 - math.floor(math.log10(high - low))
            low, high, first = (round(number, decimals) for number in (low, high, min(max(value, low), high)))
            sliders[name] = ViewerSlider(name, first, low, high, 10.0**-decimals, cb_hook=self._move)
        self.theta, self.phi, self.radius = sliders["theta"], sliders["phi"], sliders["radius"]

    @property
    def pose(self) -> Poses:
        """(3, 4) pose of the sliders."""
        return self._sphere.pose(self.theta.value, self.phi.value, self.radius.value)

    def _move(self, element: Any) -> None:
        place_camera(self.control, self.pose, self.radius.value)
