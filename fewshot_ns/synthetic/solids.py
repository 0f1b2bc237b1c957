"""Small objects after the manner of ShapeNet's categories, each drawn from a seed: parts with sizes and colours.

World of an object: y up, its middle near the origin, everything within `RADIUS` of it; its front looks along z.
"""

from __future__ import annotations

import colorsys
from typing import Callable, Dict, List, Tuple

import numpy as np

from fewshot_ns.synthetic.raytracer import Box, Frustum, Shape, Sphere, cylinder
from fewshot_ns.synthetic.textures import RGB, Texture, plain, stripes

RADIUS = 0.5
"""Every object lies within this distance of the origin."""


class _Palette:
    """Draws sizes and colours of one object."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def size(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def colour(self) -> RGB:
        """A clear colour that is nowhere near white, which is the background."""
        hue, saturation, value = self.rng.uniform((0.0, 0.45, 0.35), (1.0, 0.95, 0.9))
        return colorsys.hsv_to_rgb(float(hue), float(saturation), float(value))

    def either(self) -> bool:
        return bool(self.rng.random() < 0.5)


def _legs(p: _Palette, width: float, depth: float, bottom: float, top: float, texture: Texture) -> List[Shape]:
    """Four legs below the corners of a plate of these half sides."""
    thick, middle, half = p.size(0.025, 0.045), 0.5 * (bottom + top), 0.5 * (top - bottom)
    corners = [(x * (width - thick), z * (depth - thick)) for x in (-1, 1) for z in (-1, 1)]
    if p.either():
        return [cylinder((x, middle, z), thick, half, texture) for x, z in corners]
    return [Box((x, middle, z), (thick, half, thick), texture) for x, z in corners]


def chair(p: _Palette) -> List[Shape]:
    """Seat, back, four legs; half of them with arms."""
    seat, frame = plain(p.colour()), plain(p.colour())
    width, depth, bottom = p.size(0.15, 0.2), p.size(0.15, 0.2), -0.36
    level, thick, tall = p.size(-0.12, -0.02), p.size(0.02, 0.05), p.size(0.13, 0.19)
    shapes: List[Shape] = [Box((0.0, level, 0.0), (width, thick, depth), seat)]
    shapes += _legs(p, width, depth, bottom, level - thick, frame)
    shapes.append(Box((0.0, level + thick + tall, -depth + 0.03), (width, tall, 0.03), seat))
    if p.either():
        shapes += [Box((x * width, level + 0.12, 0.0), (0.025, 0.025, depth), frame) for x in (-1, 1)]
    return shapes


def table(p: _Palette) -> List[Shape]:
    """A rectangular top on four legs, or a round one on a pillar."""
    top, frame = plain(p.colour()), plain(p.colour())
    level, thick, bottom = p.size(0.05, 0.17), p.size(0.02, 0.04), -0.25
    if p.either():
        width, depth = p.size(0.24, 0.33), p.size(0.18, 0.25)
        plate = Box((0.0, level, 0.0), (width, thick, depth), top)
        return [plate, *_legs(p, width, depth, bottom, level - thick, frame)]
    radius = p.size(0.26, 0.38)
    half = 0.5 * (level - bottom)
    return [
        cylinder((0.0, level, 0.0), radius, thick, top),
        cylinder((0.0, bottom + half, 0.0), p.size(0.03, 0.06), half, frame),
        cylinder((0.0, bottom, 0.0), p.size(0.12, 0.2), 0.025, frame),
    ]


def lamp(p: _Palette) -> List[Shape]:
    """A foot, a pole and a conical shade."""
    metal, shade = plain(p.colour()), plain(p.colour())
    top, tall, wide = p.size(0.32, 0.4), p.size(0.1, 0.16), p.size(0.16, 0.24)
    pole = 0.5 * (top - tall + 0.38)
    return [
        cylinder((0.0, -0.38, 0.0), p.size(0.12, 0.2), 0.03, metal),
        cylinder((0.0, -0.38 + pole, 0.0), p.size(0.018, 0.035), pole, metal),
        Frustum((0.0, top - tall, 0.0), wide, p.size(0.04, 0.12), tall, shade),
    ]


def cabinet(p: _Palette) -> List[Shape]:
    """A body with drawers across its front, on feet or on the ground."""
    body, drawer = p.colour(), p.colour()
    width, tall, depth = p.size(0.17, 0.25), p.size(0.2, 0.3), p.size(0.12, 0.18)
    rows = int(p.rng.integers(2, 4))
    shapes: List[Shape] = [Box((0.0, 0.0, 0.0), (width, tall, depth), plain(body))]
    front = 2.0 * tall / rows
    for row in range(rows):
        middle = -tall + (row + 0.5) * front
        shapes.append(Box((0.0, middle, depth), (0.85 * width, 0.4 * front, 0.02), plain(drawer)))
    if p.either():
        shapes += _legs(p, width, depth, -tall - 0.08, -tall, plain(drawer))
    return shapes


def house(p: _Palette) -> List[Shape]:
    """Walls below a pyramid-like roof, with a chimney."""
    walls, roof, stone = plain(p.colour()), plain(p.colour()), plain(p.colour())
    width, tall, steep = p.size(0.18, 0.26), p.size(0.1, 0.17), p.size(0.1, 0.16)
    side = p.size(0.06, 0.12)
    return [
        Box((0.0, -0.3 + tall, 0.0), (width, tall, 0.8 * width), walls),
        Frustum((0.0, -0.3 + 2 * tall + steep, 0.0), 1.25 * width, 0.0, steep, roof),
        Box((side, -0.3 + 2 * tall + steep, side), (0.035, steep, 0.035), stone),
    ]


def tower(p: _Palette) -> List[Shape]:
    """Three solids on each other, the upper ones smaller."""
    shapes: List[Shape] = []
    level, wide = -0.4, p.size(0.15, 0.2)
    for _ in range(3):
        first, second, half = p.colour(), p.colour(), p.size(0.09, 0.13)
        texture = stripes(first, second, half, 1) if p.either() else plain(first)
        centre = (0.0, level + half, 0.0)
        kind = int(p.rng.integers(4))
        if kind == 0:
            shapes.append(Box(centre, (wide, half, wide), texture, turn=p.size(0.0, 90.0)))
        elif kind == 1:
            shapes.append(cylinder(centre, wide, half, texture))
        elif kind == 2:
            shapes.append(Frustum(centre, wide, 0.5 * wide, half, texture))
        else:
            shapes.append(Sphere(centre, half, texture))
        level, wide = level + 2 * half, wide * p.size(0.65, 0.9)
    return shapes


KINDS: Dict[str, Callable[[_Palette], List[Shape]]] = {
    "chair": chair,
    "table": table,
    "lamp": lamp,
    "cabinet": cabinet,
    "house": house,
    "tower": tower,
}
"""Kinds of objects by name; the dataset takes them in turn."""


def build_solid(kind: str, key: Tuple[int, ...]) -> List[Shape]:
    """Parts of one object.

    Args:
        kind: A key of `KINDS`.
        key: Seeds that tell it from all others.
    """
    return KINDS[kind](_Palette(np.random.default_rng(key)))
