"""The record of the points that a model starts from, and of which photos they were made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Sequence, Tuple

import torch
from torch import Tensor

ALL_VIEWS = "made from all views of the scene, also those that it is tested on"
"""What a cloud is said to be that is not of the training views alone."""


@dataclass(frozen=True)
class SeedCloud:
    """P points on the CPU, in the world of the cameras."""

    positions: Tensor
    """(P, 3) float32, world units."""
    colours: Tensor
    """(P, 3) float32 in [0, 1]."""
    radii: Tensor
    """(P,) float32, world size at the point of the pixel, or block of pixels, that the point stands for: planar depth /
    focal length x pixels between points."""
    view: Tensor
    """(P,) int64, training view whose pixel a point is, -1 where none is known."""
    confirmed: Tensor
    """(P,) bool, whether the position was measured: by other photos or a sensor, not drawn or taken from around."""
    kind: str
    """'files', 'stereo', 'mvs', 'colmap' or 'random'."""
    views: Tuple[str, ...]
    """Names of the training photos that it was made from; none where it was made from all views of the scene."""

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def source(self) -> str:
        """Where the points come from, in words."""
        made = f"from views {', '.join(self.views)}" if self.views else ALL_VIEWS
        return f"{self.kind}: {len(self)} points {made}"

    @property
    def confirmed_share(self) -> float:
        """Share of the points whose position was measured; 0 without points."""
        return float(self.confirmed.float().mean()) if len(self) else 0.0

    def record(self) -> Dict[str, Any]:
        """What a run keeps of it."""
        return {
            "source": self.source,
            "points": len(self),
            "views": list(self.views),
            "confirmed": round(self.confirmed_share, 4),
        }

    def chosen(self, index: Tensor) -> SeedCloud:
        """The points at (Q,) positions, or where (P,) bool is True."""
        names = ("positions", "colours", "radii", "view", "confirmed")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def at_most(self, count: int, seed: int) -> SeedCloud:
        """At most so many points, drawn from all, in their order.

        Args:
            count: of points.
            seed: of the draw, which leaves the global generators alone.
        """
        if len(self) <= count:
            return self
        generator = torch.Generator().manual_seed(seed)
        return self.chosen(torch.randperm(len(self), generator=generator)[:count].sort().values)


def joined(parts: Sequence[SeedCloud]) -> SeedCloud:
    """The points of all parts, which are of one kind and of the same views."""
    names = ("positions", "colours", "radii", "view", "confirmed")
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
