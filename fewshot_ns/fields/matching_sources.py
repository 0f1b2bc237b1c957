"""Source views as MatchNeRF and ID-NeRF look at them: encoded once, then asked about points."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.scene_table import Conditioning
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
    """(V, R, S, 3) see `view_coordinates`."""
    in_image: Tensor
    """(R, S, V) whether each view sees the point."""
    matching: Tensor
    """(R, S, P + 4 V) similarities of P groups, colours in [0, 1] of all views, and whether they see the point."""
    view_features: Optional[Tensor]
    """(V, R, S, C) features at all scales, colour, and whether the view sees the point."""


class MatchingSources:
    """Source views of B scenes of V views each, and their matching features.

    Args:
        conditioning: the source views.
        features: per scale (B, V, h, w, (V - 1) * C), see `MatchingEncoder`.
        near: (B, V) planar depth that gets the coordinate 0.
        far: (B, V) planar depth that gets the coordinate 1.
        window: see `Window`.
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
        self.given, self.cameras = conditioning, SourceCameras.of(conditioning)
        self.near, self.far = near, far
        self.window: Window = window
        self.groups = tuple(groups)
        self.sizes: Tuple[MapSize, ...] = tuple((maps.shape[3], maps.shape[2]) for maps in features)
        flat = [maps.flatten(0, 1) for maps in features]
        maps = [window_means(each) for each in flat] if window == "mean" else flat
        self.rows = [each.flatten(1, 2) for each in maps]
        self.colours = conditioning.images.flatten(0, 1).flatten(1, 2)

    def query(self, points: Tensor, scenes: Tensor, with_view_features: bool = True) -> PointConditioning:
        """What the source views show of points.

        Args:
            points: (R, S, 3) world points of R rays.
            scenes: (R,) which of the B scenes each ray is of.
            with_view_features: whether `view_features` are wanted.
        """
        height, width = self.given.images.shape[2:4]
        places, seen = view_coordinates(self.cameras, points, scenes, (width, height), self.near, self.far)
        features = [
            self._look_up(rows, self._taps(places[..., :2], size), scenes)
            for rows, size in zip(self.rows, self.sizes, strict=True)
        ]
        colours = self._look_up(self.colours, bilinear_taps(places[..., :2], (width, height)), scenes)
        agreement = [group_similarity(each, groups) for each, groups in zip(features, self.groups, strict=True)]
        in_image = seen.movedim(0, -1)
        matching = torch.cat([*agreement, colours.movedim(0, 2).flatten(2), in_image.to(colours)], dim=-1)
        shown = None
        if with_view_features:
            kind = features[0].dtype
            shown = torch.cat([*features, colours.to(kind), seen[..., None].to(kind)], dim=-1)
        return PointConditioning(places, in_image, matching, shown)

    def _taps(self, places: Tensor, size: MapSize) -> Tuple[Tensor, Tensor]:
        if self.window == "mean":
            return mean_taps(places, size)
        return window_taps(places, size) if self.window == "released" else bilinear_taps(places, size)

    def _look_up(self, rows: Tensor, taps: Tuple[Tensor, Tensor], scenes: Tensor) -> Tensor:
        """(V, R, S, C) of rows (B * V, pixels, C) at taps (V, R, S, T)."""
        pixels, weights = taps
        views = torch.arange(len(pixels), device=pixels.device)[:, None]
        start = (scenes * len(pixels) + views) * rows.shape[1]
        return look_up(rows.flatten(0, 1), pixels + start[..., None, None], weights)
