"""Procedural surface colours: functions of surface coordinates, shape (N, 3) -> RGB in [0, 1], shape (N, 3)."""

from __future__ import annotations

from typing import Callable, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Texture = Callable[[Array], Array]
"""Surface coordinates of a shape (its own frame, scene units) to colour."""
RGB = Tuple[float, float, float]


def value_noise(points: Array, seed: int = 0) -> Array:
    """Smooth noise of period 1: random values on the integer lattice, interpolated with a cubic fade.

    Args:
        points: (N, 3) coordinates in lattice cells.
        seed: Chooses the lattice values.

    Returns:
        (N,) values in [0, 1].
    """
    cell = np.floor(points).astype(np.int64)
    inside = points - cell
    fade = inside * inside * (3.0 - 2.0 * inside)
    total = np.zeros(len(points))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner) == 1, fade, 1.0 - fade), axis=1)
        x, y, z = (cell + np.array(corner)).T
        # An integer hash of the lattice point (multiply, shift, multiply), kept below 2^31 at every stage.
        key = (x * 73856093 ^ y * 19349663 ^ z * 83492791 ^ (seed + 1) * 2654435) & 0x7FFFFFFF
        key = ((key ^ (key >> 13)) * 1274126177) & 0x7FFFFFFF
        key = ((key ^ (key >> 16)) * 668265263) & 0x7FFFFFFF
        total += weight * ((key >> 7) & 0xFFFF) / 65535.0
    return total


def fractal_noise(points: Array, octaves: int = 3, seed: int = 0) -> Array:
    """Sum of `octaves` value noises of doubling frequency and halving weight; (N, 3) points to (N,) in [0, 1]."""
    weights = 0.5 ** np.arange(octaves)
    layers = [w * value_noise(points * 2.0**i, seed + i) for i, w in enumerate(weights)]
    return np.sum(layers, axis=0) / weights.sum()


def mix(first: RGB | Array, second: RGB | Array, amount: Array) -> Array:
    """Blends two colours (or (N, 3) colour arrays) by `amount` (N,) in [0, 1]."""
    amount = amount[:, None]
    return (1.0 - amount) * np.asarray(first) + amount * np.asarray(second)


def speckled(base: Texture, strength: float, cell: float, seed: int) -> Texture:
    """Multiplies a texture by fractal noise of relative `strength`, `cell` scene units per lattice cell."""

    def colour(points: Array) -> Array:
        noise = fractal_noise(points / cell, seed=seed)[:, None]
        return np.clip(base(points) * (1.0 + strength * (2.0 * noise - 1.0)), 0.0, 1.0)

    return colour


def plain(rgb: RGB) -> Texture:
    """One colour."""
    return lambda points: np.broadcast_to(np.asarray(rgb, dtype=float), points.shape)


def checker(first: RGB, second: RGB, cell: float, axes: Sequence[int] = (0, 1, 2)) -> Texture:
    """Checkerboard in the given coordinate axes with cells of `cell` scene units."""

    def colour(points: Array) -> Array:
        # The offset keeps faces that lie exactly on a cell border from flickering between the two colours.
        parity = np.floor(points[:, list(axes)] / cell + 1e-4).sum(axis=1) % 2
        return mix(first, second, parity)

    return colour


def stripes(first: RGB, second: RGB, period: float, axis: int, share: float = 0.5) -> Texture:
    """Bands across `axis`: the first `share` of each `period` has the second colour."""
    # The offset settles on one colour for faces that lie exactly on a border.
    return lambda points: mix(first, second, ((points[:, axis] / period + 1e-4) % 1.0 < share).astype(float))


def gores(colours: Sequence[RGB], count: int) -> Texture:
    """A beach ball: `count` segments around the y axis that take the colours in turn."""

    def colour(points: Array) -> Array:
        turn = np.arctan2(points[:, 2], points[:, 0]) / (2 * np.pi) + 0.5
        segment = np.minimum(np.floor(turn * count), count - 1).astype(int)
        return np.asarray(colours)[segment % len(colours)]

    return colour


def wood(light: RGB, dark: RGB, grain: float, along: int) -> Texture:
    """Wood grain: noise stretched along one axis, banded by a sine; `grain` scene units per ring."""
    stretch = np.ones(3)
    stretch[along] = 0.12

    def colour(points: Array) -> Array:
        noise = fractal_noise(points * stretch / grain, seed=7)
        return mix(light, dark, 0.5 + 0.5 * np.sin(14.0 * noise))

    return colour


def bricks(brick: RGB, mortar: RGB, width: float, height: float, joint: float) -> Texture:
    """Running-bond bricks in the x-y plane, each with its own shade; lengths in scene units."""

    def colour(points: Array) -> Array:
        row = np.floor(points[:, 1] / height)
        x = points[:, 0] / width + 0.5 * (row % 2)
        gap = (x % 1.0 < joint / width) | ((points[:, 1] / height) % 1.0 < joint / height)
        shade = value_noise(np.stack([np.floor(x) * 1.0, row, np.zeros_like(row)], axis=1) + 0.0, seed=3)
        body = np.asarray(brick) * (0.75 + 0.5 * shade)[:, None]
        return np.clip(mix(body, mortar, gap.astype(float)), 0.0, 1.0)

    return colour


def landscape(half_width: float, half_height: float) -> Texture:
    """A painted landscape within |x| <= half_width, |y| <= half_height: sky, sun, two ridges, a meadow."""

    def colour(points: Array) -> Array:
        u, v = points[:, 0] / half_width, points[:, 1] / half_height
        result = mix((0.98, 0.75, 0.45), (0.30, 0.55, 0.85), np.clip(0.5 + 0.5 * v, 0.0, 1.0))
        sun = np.hypot((u - 0.35) * half_width / half_height, v - 0.35) < 0.24
        result[sun] = (1.0, 0.95, 0.55)
        result[v < 0.15 + 0.30 * np.sin(3.0 * u + 0.6)] = (0.42, 0.42, 0.62)
        result[v < -0.20 + 0.22 * np.sin(4.5 * u + 2.5)] = (0.20, 0.38, 0.25)
        result[v < -0.62 + 0.06 * np.sin(9.0 * u)] = (0.50, 0.66, 0.22)
        return result

    return colour
