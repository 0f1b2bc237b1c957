"""Captures of a small object on a table before far walls in the LLFF layout, from cameras on an arc or a whole ring."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.cameras.poses import look_at
from fewshot_ns.synthetic.raytracer import AreaLight, Box, Sphere, World, cylinder, render_depth, render_image
from fewshot_ns.synthetic.textures import bricks, checker, gores, plain, speckled, stripes, wood


def object_world(wall: float) -> World:
    """A cup and two balls on a table around the origin, y up; walls and floor stand `wall` away."""
    half, tile = 4.0 * wall, 0.2 * wall
    brick = bricks((0.74, 0.45, 0.36), (0.84, 0.8, 0.74), tile, tile / 2, tile / 9)
    blue = checker((0.3, 0.5, 0.65), (0.85, 0.82, 0.7), tile, (0, 1))
    walls = [Box((sign * wall, 0.0, 0.0), (0.1, half, half), brick) for sign in (-1, 1)]
    walls += [Box((0.0, 0.0, sign * wall), (half, half, 0.1), blue) for sign in (-1, 1)]
    floor = Box((0.0, -wall, 0.0), (half, 0.1, half), checker((0.8, 0.76, 0.68), (0.45, 0.5, 0.52), tile, (0, 2)))
    table = Box((0.0, -0.32, 0.0), (0.7, 0.05, 0.7), wood((0.72, 0.5, 0.3), (0.52, 0.33, 0.18), grain=0.1, along=0))
    things = [
        cylinder((0.0, -0.07, 0.0), 0.15, 0.2, stripes((0.93, 0.9, 0.84), (0.15, 0.35, 0.7), 0.1, 1)),
        Sphere((0.3, -0.15, 0.15), 0.12, gores(((0.88, 0.2, 0.18), (0.96, 0.94, 0.88), (0.15, 0.4, 0.75)), 9)),
        Sphere((-0.28, -0.17, 0.2), 0.1, speckled(plain((0.45, 0.7, 0.18)), 0.45, 0.06, 11)),
    ]
    return World(
        [*walls, floor, table, *things], AreaLight((0.3 * wall, 0.9 * wall, 0.4 * wall), 0.1 * wall, 0.75, 0.45)
    )


def ring_poses(degrees: Sequence[float], distance: float = 1.2, height: float = 0.45) -> npt.NDArray[np.float64]:
    """(N, 3, 4) OpenGL poses around the object that look at it, at angles around the vertical axis."""
    angles = np.radians(degrees)
    places = np.stack([distance * np.sin(angles), np.full(len(angles), height), distance * np.cos(angles)], axis=1)
    return np.stack([look_at(place, np.array([0.0, -0.1, 0.0]), np.array([0.0, 1.0, 0.0])) for place in places])


@dataclass(frozen=True)
class ObjectCapture:
    """A capture to be written."""

    degrees: Tuple[float, ...]
    """Where around the object each camera stands."""
    wall: float = 40.0
    """How far away the walls are, in units of about the cameras' distance."""
    size: Tuple[int, int] = (48, 64)
    """Height and width, pixels."""
    supersample: int = 2
    """Rays per pixel along each axis."""
    bounds: Callable[[int, Tuple[float, float]], Tuple[float, float]] = lambda view, found: found
    """What the file says of a view whose nearest and farthest depth were found."""

    def write(self, folder: Path) -> Path:
        """Writes photos, poses and bounds."""
        (folder / "images").mkdir(parents=True)
        world, (height, width), rows = object_world(self.wall), self.size, []
        focal = 0.9 * width
        for view, pose in enumerate(ring_poses(self.degrees)):
            image = render_image(world, pose, focal, width, height, self.supersample)
            depth = render_depth(world, pose, focal, width, height)
            cv2.imwrite(
                str(folder / "images" / f"view_{view:02d}.png"), np.round(255 * image[..., ::-1]).astype(np.uint8)
            )
            right, up, back, place = pose.T
            matrix = np.stack([-up, right, back, place, [height, width, focal]], axis=1)
            found = self.bounds(view, (float(depth.min()), float(depth.max())))
            rows.append([*matrix.ravel(), *found])
        np.save(folder / "poses_bounds.npy", np.array(rows))
        return folder
