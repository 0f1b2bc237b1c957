"""The demo's world: a table with things on it in a small room. Units as in LLFF captures: things 15 to 45 away."""

from __future__ import annotations

from fewshot_ns.synthetic.raytracer import AreaLight, Box, Sphere, World, cylinder
from fewshot_ns.synthetic.textures import bricks, checker, gores, landscape, plain, speckled, stripes, wood

_TABLE_TOP = -3.6
_FLOOR = -10.0
_BACK_WALL = -42.0


def build_still_life() -> World:
    """The room (floor, brick wall, side wall, painting, shelf), the table and what stands on it.

    Axes: x right, y up, the cameras stand around the origin and look along -z.
    """
    top = _TABLE_TOP
    oak = wood((0.72, 0.50, 0.30), (0.52, 0.33, 0.18), grain=1.6, along=0)
    dark_wood = plain((0.38, 0.24, 0.14))
    room = [
        Box(
            (0.0, _FLOOR - 1.0, -20.0), (60.0, 1.0, 60.0), checker((0.80, 0.76, 0.68), (0.45, 0.50, 0.52), 4.0, (0, 2))
        ),
        Box(
            (0.0, 0.0, _BACK_WALL - 1.0),
            (60.0, 60.0, 1.0),
            bricks((0.74, 0.45, 0.36), (0.84, 0.80, 0.74), 5.0, 2.4, 0.45),
        ),
        Box(
            (-27.0, 0.0, -20.0),
            (1.0, 60.0, 60.0),
            speckled(stripes((0.62, 0.70, 0.66), (0.80, 0.83, 0.74), 5.0, 2), 0.12, 3.0, 1),
        ),
        # Painting in a frame, and a shelf with three books on the other side.
        Box((-8.5, 6.8, _BACK_WALL + 0.3), (6.6, 4.6, 0.3), dark_wood),
        Box((-8.5, 6.8, _BACK_WALL + 0.5), (5.9, 3.9, 0.3), landscape(5.9, 3.9)),
        Box((12.0, 3.2, _BACK_WALL + 2.0), (7.0, 0.4, 2.0), oak),
        Box(
            (8.0, 6.0, _BACK_WALL + 2.0), (0.9, 2.4, 1.5), stripes((0.15, 0.35, 0.60), (0.95, 0.85, 0.40), 2.4, 1, 0.2)
        ),
        Box(
            (10.1, 5.7, _BACK_WALL + 2.0), (0.9, 2.1, 1.5), stripes((0.70, 0.18, 0.18), (0.90, 0.90, 0.85), 2.1, 1, 0.2)
        ),
        Box(
            (12.2, 6.2, _BACK_WALL + 2.0), (0.9, 2.6, 1.5), stripes((0.20, 0.50, 0.30), (0.90, 0.85, 0.60), 2.6, 1, 0.2)
        ),
        Sphere((16.2, 5.2, _BACK_WALL + 2.0), 1.7, speckled(plain((0.85, 0.80, 0.30)), 0.35, 1.0, 5)),
    ]
    table = [Box((0.0, top - 0.4, -24.0), (11.5, 0.4, 6.0), oak)]
    table += [cylinder((x, (top + _FLOOR) / 2 - 0.4, z), 0.5, (top - _FLOOR) / 2 - 0.4, dark_wood)
              for x in (-10.5, 10.5) for z in (-19.2, -28.8)]  # fmt: skip
    things = [
        Sphere((-6.0, top + 2.7, -23.0), 2.7, gores(((0.88, 0.20, 0.18), (0.96, 0.94, 0.88), (0.15, 0.40, 0.75)), 9)),
        Sphere((2.6, top + 1.35, -19.9), 1.35, speckled(plain((0.45, 0.70, 0.18)), 0.45, 0.9, 11)),
        cylinder((-1.6, top + 1.3, -20.4), 1.15, 1.3, stripes((0.93, 0.90, 0.84), (0.90, 0.50, 0.12), 1.3, 1)),
        Box(
            (0.6, top + 0.5, -26.0),
            (3.4, 0.5, 2.4),
            stripes((0.25, 0.28, 0.55), (0.85, 0.80, 0.60), 2.2, 0, 0.2),
            turn=8.0,
        ),
        Box(
            (0.3, top + 1.45, -26.1),
            (3.0, 0.45, 2.1),
            stripes((0.66, 0.20, 0.30), (0.92, 0.80, 0.50), 2.0, 0, 0.2),
            turn=-14.0,
        ),
        Box(
            (0.5, top + 2.35, -26.0),
            (2.5, 0.45, 1.8),
            stripes((0.16, 0.48, 0.42), (0.90, 0.88, 0.80), 1.8, 0, 0.2),
            turn=20.0,
        ),
        cylinder((6.0, top + 2.2, -26.0), 1.5, 2.2, stripes((0.92, 0.92, 0.95), (0.18, 0.30, 0.62), 1.1, 1)),
        Sphere((6.0, top + 6.2, -26.0), 2.5, speckled(plain((0.22, 0.48, 0.16)), 0.8, 1.0, 23)),
        Box(
            (8.0, top + 1.35, -20.9),
            (1.35, 1.35, 1.35),
            checker((0.95, 0.80, 0.20), (0.45, 0.20, 0.55), 0.9),
            turn=32.0,
        ),
    ]
    return World([*room, *table, *things], AreaLight((-9.0, 26.0, -8.0), half_size=4.0, strength=0.75, ambient=0.42))
