"""Source views of MatchNeRF and ID-NeRF: encoded once, then queried at points."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.model_components.matching_points import (
    MapSize,
    Window,
    bilinear_taps,
    group_similarity,
    mean_taps,
    view_coordinates,
    window_means,
    window_taps,
)
from fewshot_ns.model_components.source_views import SourceCameras, look_up

GROUPS = (2, 8)
"""Groups of channels that are compared at 1/8 and at 1/4."""


class PointConditioning(NamedTuple):
    """What V source views show of S points on each of R rays."""

    coordinates: Tensor
    """(V, R, S, 3) column, row and depth in each view, as `view_coordinates` gives them."""
    in_image: Tensor
    """(R, S, V) whether each view sees the point."""
    matching: Tensor
    """(R, S, P + 4 V) similarities of P groups, colours in [0, 1] of all views, and whether they see the point."""
    view_features: Optional[Tensor]
    """(V, R, S, K) features at all scales, colour, and whether the view sees the point, through a matrix."""


class MatchingSources:
    """Source views of B scenes of V views each, and their matching features.

    Args:
        conditioning: the source views.
        features: per scale (B, V, h, w, (V - 1) * C) matching features; none: only colours are compared.
        near: (B, V) planar depth that gets the coordinate 0.
        far: (B, V) planar depth that gets the coordinate 1.
        window: how features are looked up at a point.
        groups: per scale, groups of channels that are compared.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        features: Sequence[Tensor],
        near: Tensor,
        far: Tensor,
        window: Window = "mean",
        groups: Sequence[int] = GROUPS,
    ) -> None:
        self.conditioning, self.cameras = conditioning, SourceCameras.of(conditioning)
        self.near, self.far = near, far
        self.window: Window = window
        self.groups = tuple(groups)
        self.sizes: Tuple[MapSize, ...] = tuple((maps.shape[3], maps.shape[2]) for maps in features)
        flat = [maps.flatten(0, 1) for maps in features]
        maps = [window_means(each) for each in flat] if window == "mean" else flat
        self.rows = [each.flatten(1, 2) for each in maps]
        self.colours = conditioning.images.flatten(0, 1).flatten(1, 2)
        self._projected: Optional[_Projected] = None

    def query(self, points: Tensor, scenes: Tensor, matrix: Optional[Tensor] = None) -> PointConditioning:
        """What the source views show of points.

        Args:
            points: (R, S, 3) world points of R rays.
            scenes: (R,) index of each ray's scene among the B.
            matrix: (K, C), through which `view_features` are seen, of C columns: features of each scale, colour, and
                whether the view sees the point; None: `view_features` are not computed.
        """
        height, width = self.conditioning.images.shape[2:4]
        coordinates, seen = view_coordinates(self.cameras, points, scenes, (width, height), self.near, self.far)
        taps = [self._taps(coordinates[..., :2], size) for size in self.sizes]
        features = [self._look_up(rows, each, scenes) for rows, each in zip(self.rows, taps, strict=True)]
        colours = self._look_up(self.colours, bilinear_taps(coordinates[..., :2], (width, height)), scenes)
        agreement = [group_similarity(each, groups) for each, groups in zip(features, self.groups, strict=True)]
        in_image = seen.movedim(0, -1)
        matching = torch.cat([*agreement, colours.movedim(0, 2).flatten(2), in_image.to(colours)], dim=-1)
        shown = None
        if matrix is not None:
            rest = torch.cat([colours, seen[..., None].to(colours)], dim=-1)
            shown = linear(rest, matrix[:, -rest.shape[-1] :].to(rest))
            if self._points_are_few(seen):
                for each, part in zip(features, self._parts(matrix), strict=True):
                    shown = shown + linear(each.to(part.dtype), part)
            else:
                for rows, each in zip(self._projections(matrix), taps, strict=True):
                    shown = shown + self._look_up(rows, each, scenes)
        return PointConditioning(coordinates, in_image, matching, shown)

    def _parts(self, matrix: Tensor) -> Tuple[Tensor, ...]:
        """Columns of a matrix that belong to the features of each scale."""
        widths = [rows.shape[-1] for rows in self.rows]
        return matrix[:, : sum(widths)].split(widths, dim=1)

    def _points_are_few(self, seen: Tensor) -> bool:
        """Whether it costs less to see the features of these points through a matrix than those of all pixels."""
        return torch.is_grad_enabled() and seen.numel() < sum(rows.shape[0] * rows.shape[1] for rows in self.rows)

    def _projections(self, matrix: Tensor) -> List[Tensor]:
        """Per scale (B * V, pixels, K) features through a matrix.

        A look-up is linear too, so the pixels can go through the matrix once, and not every point of every ray. Without
        a graph they do so once for all calls with the same matrix.
        """
        projected = self._projected
        if projected is not None and not torch.is_grad_enabled() and projected.is_of(matrix):
            return projected.rows
        # Eight columns cost little, so they are kept in full precision.
        projections = [
            linear(rows.to(part.dtype), part) for rows, part in zip(self.rows, self._parts(matrix), strict=True)
        ]
        if not torch.is_grad_enabled():
            self._projected = _Projected(matrix, matrix._version, projections)
        return projections

    def _taps(self, coordinates: Tensor, size: MapSize) -> Tuple[Tensor, Tensor]:
        if self.window == "mean":
            return mean_taps(coordinates, size)
        return window_taps(coordinates, size) if self.window == "released" else bilinear_taps(coordinates, size)

    def _look_up(self, rows: Tensor, taps: Tuple[Tensor, Tensor], scenes: Tensor) -> Tensor:
        """(V, R, S, C) of rows (B * V, pixels, C) at taps (V, R, S, T)."""
        pixels, weights = taps
        views = torch.arange(len(pixels), device=pixels.device)[:, None]
        start = (scenes * len(pixels) + views) * rows.shape[1]
        return look_up(rows.flatten(0, 1), pixels + start[..., None, None], weights)


class _Projected(NamedTuple):
    """Features through a matrix."""

    matrix: Tensor
    """The matrix."""
    version: int
    """Counts what was written to it."""
    rows: List[Tensor]
    """Per scale (B * V, pixels, K)."""

    def is_of(self, matrix: Tensor) -> bool:
        """Whether nothing was written to the matrix since."""
        return self.matrix is matrix and self.version == matrix._version
