"""The random numbers behind one rendering of pixelNeRF, or even ones instead of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SampleCounts(NamedTuple):
    """How many samples a ray has."""

    coarse: int
    """Of the coarse network."""
    importance: int
    """Further ones of the fine network by the coarse weights."""
    depth: int
    """Further ones of the fine network around the coarse depth."""


class Draws(NamedTuple):
    """Numbers for R rays; all uniform in [0, 1) but `noise`."""

    coarse: Tensor
    """(R, coarse) position of each coarse sample in its bin."""
    importance: Tensor
    """(R, importance) by which bins are chosen."""
    jitter: Tensor
    """(R, importance) positions in these bins."""
    noise: Tensor
    """(R, depth) normal numbers."""

    @classmethod
    def random(cls, like: Tensor, counts: SampleCounts) -> Draws:
        """Random numbers for rays, one per row of `like` (R, 1)."""

        def uniform(count: int) -> Tensor:
            return torch.rand(len(like), count, dtype=like.dtype, device=like.device)

        noise = torch.randn(len(like), counts.depth, dtype=like.dtype, device=like.device)
        return cls(uniform(counts.coarse), uniform(counts.importance), uniform(counts.importance), noise)

    @classmethod
    def even(cls, like: Tensor, counts: SampleCounts) -> Draws:
        """The middle of each stratum, the same for every ray of `like` (R, 1)."""

        def strata(count: int) -> Tensor:
            return (torch.arange(count, dtype=like.dtype, device=like.device).expand(len(like), count) + 0.5) / count

        def middle(count: int) -> Tensor:
            return like.new_full((len(like), count), 0.5)

        noise = 2.0**0.5 * torch.erfinv(2.0 * strata(counts.depth) - 1.0)
        return cls(middle(counts.coarse), strata(counts.importance), middle(counts.importance), noise)
