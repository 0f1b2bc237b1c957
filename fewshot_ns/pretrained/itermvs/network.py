"""The whole network: photos and cameras in, depth and confidence of the first photo out."""

from __future__ import annotations

from collections import deque
from typing import Iterator, List, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from fewshot_ns.pretrained.itermvs.features import SIZE_MULTIPLE, FeatureNet, Features, enlarged
from fewshot_ns.pretrained.itermvs.geometry import LEVELS, DepthRange, relative_projections, warp
from fewshot_ns.pretrained.itermvs.matching import (
    CorrelationNet,
    ViewWeightNet,
    group_correlation,
    weighted_mean,
)
from fewshot_ns.pretrained.itermvs.updates import HYPOTHESES, UpdateNet, read_out, step_samples

STEPS = 4
"""Updates after the initialisation."""
UPSAMPLING = 4
"""The estimate has 1 / 4 of the photo's size."""


class Pair(NamedTuple):
    """A source view, as a reference meets it."""

    features: Features
    """(B, C, ...) maps of the source."""
    transforms: Sequence[Tensor]
    """(B, 4, 4) of each level, see `warp`."""


class Problem(NamedTuple):
    """What is the same in all steps."""

    reference: Features
    """(B, C, ...) maps of the reference."""
    on_grid: Features
    """The same maps, all of 1 / 4 of the photo's size."""
    pairs: Sequence[Pair]
    """The sources."""
    range: DepthRange
    """Range of depths."""


class Start(NamedTuple):
    """Result of the initialisation, 1 / 8 of the photo's size but for the hidden state."""

    hypotheses: Tensor
    """(B, 32, 1, 1) depths, the farthest first."""
    view_weights: Tensor
    """(B, S, H / 8, W / 8)."""
    correlation: Tensor
    """(B, 8, 32, H / 8, W / 8)."""
    scores: Tensor
    """(B, 32, H / 8, W / 8)."""
    hidden: Tensor
    """(B, 32, H / 4, W / 4)."""


class State(NamedTuple):
    """An estimate, at 1 / 4 of the photo's size."""

    hidden: Tensor
    """(B, 32, h, w)."""
    probabilities: Tensor
    """(B, 256, h, w) of the bins of normalised inverse depth."""
    normalized: Tensor
    """(B, 1, h, w) normalised inverse depth."""
    peak: Tensor
    """(B, h, w) int64, the likeliest bin."""


class Estimate(NamedTuple):
    """Result for the reference, at the photo's size."""

    depth: Tensor
    """(B, 1, H, W) planar depth, in the unit of the cameras."""
    confidence: Tensor
    """(B, 1, H, W) in [0, 1]."""


class _Evaluation(nn.Module):
    """The networks on correlations."""

    def __init__(self) -> None:
        super().__init__()
        self.pixel_view_weight = ViewWeightNet()
        self.corr_conv1 = nn.ModuleList([CorrelationNet() for _ in LEVELS])


class _Iterations(nn.Module):
    """The networks behind the features."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluation = _Evaluation()
        self.update = UpdateNet()
        self.upsample = nn.Sequential(
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(64, 9 * UPSAMPLING**2, 1, bias=False)
        )


class IterMVS(nn.Module):
    """IterMVS; its parameters have the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_net = FeatureNet()
        self.iter_mvs = _Iterations()

    def forward(
        self, images: Tensor, cameras: Sequence[Tensor], depth_min: Tensor, depth_max: Tensor, steps: int = STEPS
    ) -> Estimate:
        """Depth of the first view.

        Args:
            images: (B, V, 3, H, W) in [-1, 1], the reference first; H and W multiples of 32.
            cameras: for each of the three levels (B, V, 4, 4), see `projections`.
            depth_min: (B,) smallest planar depth; should lie 10 % before the nearest surface. The unit should be such
                that it is of the order of 100.
            depth_max: (B,) largest planar depth.
            steps: updates after the initialisation.

        Raises:
            ValueError: images of another size, or fewer than two views.
        """
        return self.estimate(self.encode(images), cameras, depth_min, depth_max, steps)

    def encode(self, images: Tensor) -> Features:
        """Features (B, V, C, ...) of images (B, V, 3, H, W) in [-1, 1], for `estimate`.

        Raises:
            ValueError: the size is no multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"expected images with sides that are multiples of {SIZE_MULTIPLE}, got {height}x{width}")
        maps = self.feature_net(images.flatten(0, 1))
        return Features(*(each.unflatten(0, images.shape[:2]) for each in maps))

    def estimate(
        self, features: Features, cameras: Sequence[Tensor], depth_min: Tensor, depth_max: Tensor, steps: int = STEPS
    ) -> Estimate:
        """As `forward`, from the features of `encode`."""
        problem = self.problem(features, cameras, depth_min, depth_max)
        # One state at a time: all of their probabilities would be the largest thing in memory.
        (state,) = deque(self.states(problem, self.start(problem), steps), maxlen=1)
        return self.upsampled(problem, state)

    def problem(self, features: Features, cameras: Sequence[Tensor], depth_min: Tensor, depth_max: Tensor) -> Problem:
        """What is the same in all steps, of features (B, V, C, ...) and the arguments of `forward`.

        Raises:
            ValueError: fewer than two views.
        """
        views = features.half.shape[1]
        if views < 2:
            raise ValueError(f"expected a reference and at least one source view, got {views} view(s)")
        reference = Features(*(maps[:, 0] for maps in features))
        on_grid = Features(enlarged(reference.half, 0.5), reference.quarter, enlarged(reference.eighth, 2))
        relative = [relative_projections(matrices[:, :1], matrices[:, 1:]) for matrices in cameras]
        pairs = [
            Pair(Features(*(maps[:, view + 1] for maps in features)), [matrices[:, view] for matrices in relative])
            for view in range(views - 1)
        ]
        return Problem(reference, on_grid, pairs, DepthRange.between(depth_min, depth_max))

    def start(self, problem: Problem) -> Start:
        """Compares depths over the whole range at 1 / 8 of the size, and weighs the sources."""
        evaluation, reference = self.iter_mvs.evaluation, problem.reference.eighth
        normalized = torch.arange(HYPOTHESES, device=reference.device, dtype=reference.dtype) / (HYPOTHESES - 1)
        hypotheses = problem.range.depth(normalized.reshape(1, -1, 1, 1))
        depths = hypotheses.expand(-1, -1, *reference.shape[-2:])
        each = self.correlations(problem, 3, depths)
        weights = torch.stack([evaluation.pixel_view_weight(correlation) for correlation in each], dim=1)
        correlation = weighted_mean(each, weights)
        scores = evaluation.corr_conv1[-1](correlation)
        return Start(hypotheses, weights, correlation, scores, self.iter_mvs.update.initial(scores))

    def states(self, problem: Problem, start: Start, steps: int = STEPS) -> Iterator[State]:
        """The estimate after the initialisation and after each step; no gradient goes through the samples of a step."""
        weights = enlarged(start.view_weights, 2).detach()
        state = self.state(start.hidden)
        yield state
        for _ in range(steps):
            state = self.step(problem, weights, state.hidden, state.normalized.detach())
            yield state

    def state(self, hidden: Tensor) -> State:
        """What a hidden state says."""
        probabilities = self.iter_mvs.update.probabilities(hidden)
        return State(hidden, probabilities, *read_out(probabilities))

    def step(self, problem: Problem, weights: Tensor, hidden: Tensor, normalized: Tensor) -> State:
        """Compares depths around an estimate, and corrects it.

        Args:
            problem: the views.
            weights: (B, S, h, w) of the sources.
            hidden: (B, 32, h, w), the last state.
            normalized: (B, 1, h, w), its estimate.
        """
        return self.state(self.iter_mvs.update(hidden, normalized, self.scores(problem, weights, normalized)))

    def scores(self, problem: Problem, weights: Tensor, normalized: Tensor) -> Tensor:
        """(B, 10, h, w) of the samples around an estimate, level by level; arguments as those of `step`."""
        parts = []
        for level, network in zip(LEVELS, self.iter_mvs.evaluation.corr_conv1, strict=True):
            depths = problem.range.depth(step_samples(normalized, level))
            parts.append(network(weighted_mean(self.correlations(problem, level, depths), weights)))
        return torch.cat(parts, dim=1)

    def correlations(self, problem: Problem, level: int, depths: Tensor) -> List[Tensor]:
        """(B, 8, N, H, W) of each source at depths (B, N, H, W), on the grid of the depths: 1 / 4 of the photo's size,
        or, at level 3, 1 / 8."""
        reference = problem.on_grid[level - 1]
        if depths.shape[-2:] != reference.shape[-2:]:
            reference = problem.reference[level - 1]
        return [
            group_correlation(reference, warp(pair.features[level - 1], pair.transforms[level - 1], depths))
            for pair in problem.pairs
        ]

    def upsampling_weights(self, problem: Problem) -> Tensor:
        """(B, 9, 4, 4, h, w), sum 1 over the neighbours: of each of a pixel's 4x4 parts (row, column), its mean of the
        pixel and the eight around it, row by row."""
        parts = self.iter_mvs.upsample(problem.reference.quarter)
        return parts.unflatten(1, (9, UPSAMPLING, UPSAMPLING)).softmax(1)

    def upsampled(self, problem: Problem, state: State) -> Estimate:
        """The estimate at the photo's size; what is averaged is inverse depth."""
        weights = self.upsampling_weights(problem)
        normalized = convex_upsampling(state.normalized, weights)
        confidence = torch.sigmoid(self.iter_mvs.update.confidence_logit(state.hidden))
        return Estimate(problem.range.depth(normalized), enlarged(confidence, UPSAMPLING))

    def coarse_depth(self, problem: Problem, start: Start) -> Tensor:
        """(B, 1, h, w) mean depth of the initialisation, for the training loss."""
        steps = torch.arange(HYPOTHESES, device=start.scores.device, dtype=start.scores.dtype).reshape(1, -1, 1, 1)
        normalized = (steps * start.scores.softmax(1)).sum(1, keepdim=True) / (HYPOTHESES - 1)
        return enlarged(problem.range.depth(normalized), 2)


def convex_upsampling(values: Tensor, weights: Tensor) -> Tensor:
    """Values (B, 1, h, w) at 4 times the size, each a mean of the 3x3 nearest ones; the border is repeated.

    Args:
        values: (B, 1, h, w).
        weights: (B, 9, 4, 4, h, w), see `IterMVS.upsampling_weights`.
    """
    padded = nn.functional.pad(values, (1, 1, 1, 1), mode="replicate")
    height, width = values.shape[-2:]
    around = torch.stack([padded[:, 0, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)], dim=1)
    mixed = (weights * around[:, :, None, None]).sum(1)
    # (B, row part, column part, row, column) -> (B, row, row part, column, column part)
    return mixed.permute(0, 3, 1, 4, 2).flatten(3, 4).flatten(1, 2)[:, None]
