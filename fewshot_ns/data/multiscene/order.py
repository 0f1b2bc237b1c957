"""Which scenes a training step takes: a pure function of seed, step and rank, so that resumed runs go on unchanged."""

from __future__ import annotations

from typing import Iterator

import numpy as np
import torch


class SceneOrder:
    """Passes over all scenes in an order drawn for each pass; ranks take disjoint shares.

    In one pass no scene comes twice on any rank; the few that do not fill a step of all ranks have to wait for the
    next. With fewer scenes than the ranks take in a step, ranks share them, and a step still has no scene twice.

    Args:
        num_scenes: how many there are.
        per_step: scenes of a step of one rank.
        seed: the same on all ranks.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: no scenes in a step.
    """

    def __init__(self, num_scenes: int, per_step: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if per_step < 1:
            raise ValueError(f"--pipeline.datamanager.scenes-per-batch: expected at least 1, got {per_step}")
        self.num_scenes, self.per_step = num_scenes, min(per_step, num_scenes)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.steps_per_pass = max(num_scenes // (self.per_step * world_size), 1)
        self._pass, self._permutation = -1, torch.zeros(0, dtype=torch.long)

    def scenes(self, step: int) -> Iterator[int]:
        """Indices of all scenes: first those of the step, then the others, to replace unusable ones."""
        number, position = divmod(step, self.steps_per_pass)
        if number != self._pass:
            generator = torch.Generator().manual_seed(_mixed(self.seed, number))
            self._pass, self._permutation = number, torch.randperm(self.num_scenes, generator=generator)
        start = (position * self.world_size + self.rank) * self.per_step
        for offset in range(self.num_scenes):
            yield int(self._permutation[(start + offset) % self.num_scenes])


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Random numbers of a step of a rank, the same whenever they are asked for."""
    return torch.Generator().manual_seed(_mixed(seed, step, rank))


def _mixed(*numbers: int) -> int:
    # Torch's seeds are 64 bits wide, and neighbouring seeds must not give similar streams.
    return int(np.random.SeedSequence([number % 2**63 for number in numbers]).generate_state(1, np.uint64)[0]) >> 1
