"""How well a photo matches another one at assumed depths: zero-mean normalised cross-correlation of warped windows."""

from __future__ import annotations

from typing import Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.stereo.views import StereoView

NO_MATCH = 1.0
"""Cost where a photo does not show the point: that of windows that have nothing to do with each other."""
_MIN_VARIANCE, _MAX_VARIANCE = 2.5e-5, 5e-4
"""Limits of what is added to the variance of a window against noise: that of rounding to 8 bits, and a dark photo's."""
_NOISE_QUANTILE, _NOISE_FACTOR = 0.1, 4.0
"""The flattest tenth of a photo shows its noise; this many times its variance, windows of noise match nothing well."""
_CHUNK = 4_000_000
"""Most pixels times depths that are warped at once."""
_MIN_AHEAD = 1e-6
"""Planar depth that counts as before a camera, world units."""
_PROBES = 16
"""Points along the longer side, and depths, at which speeds are looked up."""


def source_lines(reference: StereoView, source: StereoView) -> Tuple[Tensor, Tensor]:
    """Where the points of a pixel lie in another photo: (start + inverse depth * slope), divided by the third number.

    Returns:
        (H, W, 3) start and (3,) slope in homogeneous pixels of the source.
    """
    fx, fy, cx, cy = source.intrinsics.unbind()
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    # OpenGL axes: the camera looks along -z, and rows run against y.
    rows = [torch.stack([fx, zero, -cx]), torch.stack([zero, -fy, -cy]), torch.stack([zero, zero, -one])]
    projection = torch.stack(rows) @ source.pose[:, :3].T
    return reference.rays @ projection.T, projection @ (reference.pose[:, 3] - source.pose[:, 3])


def window_mean(planes: Tensor, radius: int) -> Tensor:
    """Means of planes (K, H, W) over square windows of 2 radius + 1 pixels; beyond the border the border's values."""
    count, side = len(planes), 2 * radius + 1
    padded = torch.nn.functional.pad(planes[None], (radius,) * 4, mode="replicate")
    # One group for each plane, which on a CPU is ten times as fast as a pooling.
    row = planes.new_full((count, 1, 1, side), 1.0 / side)
    column = planes.new_full((count, 1, side, 1), 1.0 / side)
    found = torch.nn.functional.conv2d(padded, row, groups=count)
    return torch.nn.functional.conv2d(found, column, groups=count)[0]


def warped(source: StereoView, planes: Tensor, start: Tensor, slope: Tensor, inverse: Tensor) -> Tuple[Tensor, Tensor]:
    """Planes (C, h, w) of a source photo as the reference sees them at inverse depths (K, H, W).

    Returns:
        (C, K, H, W), and (K, H, W) bool where the point lies before the source and in its photo.
    """
    position = start + inverse[..., None] * slope
    z = position[..., 2:]
    ahead = z > _MIN_AHEAD
    height, width = source.size
    scale = position.new_tensor([2.0 / width, 2.0 / height])
    grid = position[..., :2] / torch.where(ahead, z, torch.ones_like(z)) * scale - 1.0
    inside = ahead[..., 0] & (grid.abs() <= 1.0).all(dim=-1)
    flat = grid.reshape(1, -1, grid.shape[-2], 2)
    found = torch.nn.functional.grid_sample(planes[None], flat, padding_mode="border", align_corners=False)
    return found[0].reshape(len(planes), *inverse.shape), inside


def parallax_speed(reference: StereoView, source: StereoView, inverse: Tensor) -> Tensor:
    """How fast a pixel's point moves in another photo, pixels per unit of inverse depth.

    Args:
        reference, source: the two views.
        inverse: (K, H, W) or (H, W) inverse depths.

    Returns:
        Of the shape of `inverse`; 0 where the source does not show the point.
    """
    start, slope = source_lines(reference, source)
    position = start + inverse[..., None] * slope
    z = position[..., 2:]
    ahead = z > _MIN_AHEAD
    z = torch.where(ahead, z, torch.ones_like(z))
    place = position[..., :2] / z
    speed = ((slope[:2] - place * slope[2:]) / z).norm(dim=-1)
    return torch.where(ahead[..., 0] & source.contains(place), speed, torch.zeros_like(speed))


def largest_speed(reference: StereoView, sources: Sequence[StereoView], first: float, last: float) -> float:
    """The largest of these speeds between two inverse depths, over some pixels and all sources."""
    side = max(1, max(reference.size) // _PROBES)
    coarse = reference.resized((max(2, reference.size[0] // side), max(2, reference.size[1] // side)))
    inverse = torch.linspace(first, last, _PROBES, device=reference.image.device)[:, None, None]
    inverse = inverse.expand(-1, *coarse.size)
    return max(float(parallax_speed(coarse, source, inverse).amax()) for source in sources)


class Matcher:
    """Costs of a reference photo against source photos, each the mean over windows of several sizes.

    Args:
        reference: the view whose depth is asked for.
        sources: (S) others.
        radii: of the windows, pixels.
    """

    def __init__(self, reference: StereoView, sources: Sequence[StereoView], radii: Sequence[int]) -> None:
        self.reference, self.sources = reference, sources
        self._lines = [source_lines(reference, source) for source in sources]
        self._grey = [_grey(source) for source in sources]
        self._floors = [noise_floor(grey) for grey in self._grey]
        self._own = _grey(reference)
        self._floor = noise_floor(self._own)
        self._windows = []
        for radius in radii:
            mean = window_mean(self._own, radius)
            variance = (window_mean(self._own**2, radius) - mean**2).clamp(min=0.0)
            self._windows.append((radius, mean, variance))

    def costs(self, source: int, inverse: Tensor) -> Tensor:
        """(K, H, W) cost 0 to 2 of one source at inverse depths (K, H, W) or (K, 1, 1); 1 where it sees nothing."""
        height, width = self.reference.size
        inverse = inverse.expand(-1, height, width)
        parts = inverse.split(max(1, _CHUNK // (height * width)))
        return torch.cat([self._part(source, part) for part in parts])

    def _part(self, source: int, inverse: Tensor) -> Tensor:
        start, slope = self._lines[source]
        values, inside = warped(self.sources[source], self._grey[source], start, slope, inverse)
        values = values[0]
        squares, products = values**2, values * self._own
        total = torch.zeros_like(values)
        for radius, own_mean, own_variance in self._windows:
            mean = window_mean(values, radius)
            variance = (window_mean(squares, radius) - mean**2).clamp(min=0.0)
            covariance = window_mean(products, radius) - mean * own_mean
            total += covariance * ((variance + self._floors[source]) * (own_variance + self._floor)).rsqrt()
        return torch.where(inside, 1.0 - total / len(self._windows), NO_MATCH)


def noise_floor(grey: Tensor) -> float:
    """What is added to the variance of windows of a photo (1, H, W), so that its noise matches nothing."""
    variance = (window_mean(grey**2, 2) - window_mean(grey, 2) ** 2).flatten()
    quiet = float(variance.kthvalue(1 + int(_NOISE_QUANTILE * (len(variance) - 1))).values)
    return min(max(_NOISE_FACTOR * quiet, _MIN_VARIANCE), _MAX_VARIANCE)


def _grey(view: StereoView) -> Tensor:
    return view.image.mean(dim=-1)[None]
