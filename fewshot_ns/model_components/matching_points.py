"""What source views show of points in space, and how well they agree: the input of MatchNeRF's and ID-NeRF's decoder.

Source: Chen et al., "Explicit Correspondence Matching for Generalizable Neural Radiance Fields", 2023; what a single
view shows, and the mean over windows, are ID-NeRF's.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal, Tuple

import torch
from torch import Tensor

from fewshot_ns.model_components.source_views import SourceCameras, lookup_taps

Window = Literal["off", "mean", "released"]
"""How features are looked up. off: bilinear (MatchNeRF). mean: mean of a 3x3 window about the point (ID-NeRF's paper).
released: as in ID-NeRF's code, whose windows lie and are spaced as in a map that is 3 pixels larger, so that position p
of w is read at p (w - 1) / (w + 2)."""
MapSize = Tuple[int, int]
"""(width, height) of a feature map."""
_RADIUS = 1
_SMALLEST_DEPTH = 1e-6
"""World units."""
_SMALLEST_SQUARE = 1e-12
"""Of the length of features that are compared; features of zero resemble nothing."""


def view_coordinates(
    cameras: SourceCameras, points: Tensor, scenes: Tensor, image_size: MapSize, near: Tensor, far: Tensor
) -> Tuple[Tensor, Tensor]:
    """Points in the normalised coordinates of source views.

    Args:
        cameras: of B scenes of V views.
        points: (R, S, 3) world points of R rays.
        scenes: (R,) scene of each ray.
        image_size: (width, height) of the images, at least 2 pixels each.
        near: (B, V) planar depth of each view that gets the coordinate 0.
        far: (B, V) planar depth of each view that gets the coordinate 1.

    Returns:
        (V, R, S, 3): column and row, 0 at the centre of the first pixel and 1 at that of the last, and depth. (V, R, S)
        whether the view sees the point: before the camera, and between the outer pixels' centres.
    """
    turned = torch.einsum("rvij,rsj->vrsi", cameras.rotations[scenes], points)
    x, y, z = cameras.moved(turned, scenes).unbind(-1)
    # A point in the plane of a camera has no image point; it gets finite coordinates far outside.
    depth = torch.where(z.abs() < _SMALLEST_DEPTH, torch.full_like(z, _SMALLEST_DEPTH), -z)
    focal, centre, bounds = (
        part[scenes].transpose(0, 1)[:, :, None]
        for part in (cameras.focal, cameras.centre, torch.stack([near, far], -1))
    )
    last = focal.new_tensor(image_size) - 1.0
    position = (torch.stack([x, -y], dim=-1) / depth[..., None] * focal + centre) / last
    along = (depth - bounds[..., 0]) / (bounds[..., 1] - bounds[..., 0])
    seen = ((position > 0.0) & (position < 1.0)).all(dim=-1) & (z < -_SMALLEST_DEPTH)
    return torch.cat([position, along[..., None]], dim=-1), seen


def bilinear_taps(positions: Tensor, map_size: MapSize) -> Tuple[Tensor, Tensor]:
    """Pixels and weights of positions in a map whose outer pixels' centres are at 0 and 1; its border repeats outwards.

    Args:
        positions: (..., 2) column and row.
        map_size: (width, height) of the map.

    Returns:
        (..., 4) row-major pixels and their weights, which are differentiable.
    """
    last = positions.new_tensor(map_size) - 1.0
    return lookup_taps(positions * last, map_size, map_size)


def window_taps(
    positions: Tensor, map_size: MapSize, radius: int = _RADIUS, dilation: int = 1, released: bool = True
) -> Tuple[Tensor, Tensor]:
    """As `bilinear_taps`, for the mean of bilinear look-ups in a window about the position.

    Args:
        positions: (..., 2) column and row.
        map_size: (width, height) of the map.
        radius: look-ups on each side; 1 is a 3x3 window.
        dilation: their distance, pixels.
        released: the windows of ID-NeRF's code (`Window`), whose 3 pixels are multiplied by the dilation.

    Returns:
        (..., T) row-major pixels and their weights, which are differentiable; T = 16 for a 3x3 window.
    """
    reach = radius * dilation
    first, weights = [], []
    for axis in (0, 1):
        size = map_size[axis]
        scale = (size - 1) / (size + 3 * dilation - 1) if released else 1.0
        offsets = dilation * torch.arange(-radius, radius + 1, device=positions.device, dtype=positions.dtype)
        looks = ((positions[..., axis, None] * (size - 1) + offsets) * scale).clamp(0, size - 1)
        lowest = looks[..., :1].detach().floor().long()
        taps = lowest + torch.arange(2 * reach + 2, device=positions.device)
        # A look-up gives a pixel the share by which it is nearer than 1.
        shares = (1.0 - (looks[..., None, :] - taps[..., None]).abs()).clamp(min=0.0).mean(dim=-1)
        first.append(taps.clamp(max=size - 1))
        weights.append(shares)
    pixels = first[1][..., :, None] * map_size[0] + first[0][..., None, :]
    return pixels.flatten(-2), (weights[1][..., :, None] * weights[0][..., None, :]).flatten(-2)


def window_means(maps: Tensor) -> Tensor:
    """Maps with which a bilinear look-up gives the mean of a 3x3 window, one pixel larger on each side.

    The border repeats outwards. The outer pixels' centres are then at -1 / (w - 1) and w / (w - 1), as `mean_taps`
    expects.

    Args:
        maps: (N, h, w, C).

    Returns:
        (N, h + 2, w + 2, C).
    """
    sides = (2 * _RADIUS,) * 4
    padded = torch.nn.functional.pad(maps.movedim(-1, 1), sides, mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 2 * _RADIUS + 1, stride=1).movedim(1, -1)


def mean_taps(positions: Tensor, map_size: MapSize) -> Tuple[Tensor, Tensor]:
    """As `bilinear_taps`, in the output of `window_means` for maps of `map_size`; 4 taps for a 3x3 window."""
    last = positions.new_tensor(map_size) - 1.0
    enlarged = (map_size[0] + 2 * _RADIUS, map_size[1] + 2 * _RADIUS)
    return lookup_taps(positions * last + _RADIUS, enlarged, enlarged)


def group_similarity(features: Tensor, groups: int) -> Tensor:
    """How well V views agree at points: cosine similarity by groups of channels, the mean over all pairs of views.

    Args:
        features: (V, ..., (V - 1) * C) with a part of each view for every other one, in their order.
        groups: groups of the C channels.

    Returns:
        (..., groups) in [-1, 1], 1 where all views agree.
    """
    views = len(features)
    parts = features.unflatten(-1, (views - 1, groups, -1))
    lengths = torch.linalg.vecdot(parts, parts).clamp(min=_SMALLEST_SQUARE).sqrt()
    similarities = []
    for first, second in combinations(range(views), 2):
        one, other = (first, ..., second - 1, slice(None)), (second, ..., first, slice(None))
        dots = torch.linalg.vecdot(parts[(*one, slice(None))], parts[(*other, slice(None))])
        similarities.append(dots / (lengths[one] * lengths[other]))
    return torch.stack(similarities).mean(dim=0)
