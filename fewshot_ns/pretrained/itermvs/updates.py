"""The hidden state, its updates, and the depth and confidence that are read from it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewshot_ns.pretrained.itermvs.features import enlarged
from fewshot_ns.pretrained.itermvs.geometry import LEVELS

BINS = 256
"""Bins of normalised inverse depth: bin b stands for b / 255."""
RADIUS = 4
"""The depth is the mean over the likeliest bin and this many on either side."""
HIDDEN = 32
"""Channels of the hidden state."""
HYPOTHESES = 32
"""Depths that the initialisation compares."""
OFFSETS = {1: (-2.0, -2 / 3, 2 / 3, 2.0), 2: (-8.0, -8 / 3, 8 / 3, 8.0), 3: (-32.0, 32.0)}
"""Where a step samples around the last estimate, by level, in 1/256 of the range."""
_NO_PROBABILITY = 1e-6
"""Added to the window's probability."""


class Reading(NamedTuple):
    """Normalised inverse depth, read from probabilities."""

    normalized: Tensor
    """(B, 1, H, W) in [0, 1]."""
    peak: Tensor
    """(B, H, W) int64, the likeliest bin."""


def read_out(probabilities: Tensor) -> Reading:
    """The mean bin around the likeliest one; at the ends of the range the last bin counts several times.

    Args:
        probabilities: (B, 256, H, W); no gradient goes through the choice of the window.
    """
    peak = probabilities.argmax(1, keepdim=True)
    around = torch.arange(-RADIUS, RADIUS + 1, device=peak.device).reshape(1, -1, 1, 1)
    window = (peak + around).clamp(0, BINS - 1)
    chosen = probabilities.gather(1, window)
    mean = (window * chosen).sum(1, keepdim=True) / (_NO_PROBABILITY + chosen.sum(1, keepdim=True))
    return Reading(mean / (BINS - 1), peak[:, 0])


def step_samples(normalized: Tensor, level: int) -> Tensor:
    """Normalised inverse depths (B, N, H, W) that a step compares, around the last estimate (B, 1, H, W)."""
    offsets = normalized.new_tensor(OFFSETS[level]).reshape(1, -1, 1, 1) / BINS
    return (normalized + offsets).clamp(0.0, 1.0)


class _ConvGRU(nn.Module):
    """A gated recurrent unit of dilated convolutions."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.convz = nn.Conv2d(hidden + inputs, hidden, 3, padding=2, dilation=2)
        self.convr = nn.Conv2d(hidden + inputs, hidden, 3, padding=2, dilation=2)
        self.convq = nn.Conv2d(hidden + inputs, hidden, 3, padding=2, dilation=2)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([hidden, x], dim=1)
        keep, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        proposed = torch.tanh(self.convq(torch.cat([reset * hidden, x], dim=1)))
        return (1 - keep) * hidden + keep * proposed


class UpdateNet(nn.Module):
    """The recurrent unit, and the heads on its hidden state."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 1 + sum(len(OFFSETS[level]) for level in LEVELS)
        dilated = {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False}
        self.gru = _ConvGRU(HIDDEN, inputs)
        self.depth_head = nn.Sequential(
            nn.Conv2d(HIDDEN, HIDDEN, **dilated),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, 64, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(64, BINS, 1),
        )
        self.confidence_head = nn.Sequential(nn.Conv2d(HIDDEN, HIDDEN, **dilated), nn.ReLU(), nn.Conv2d(HIDDEN, 1, 1))
        self.hidden_init_head = nn.Sequential(
            nn.Conv2d(HYPOTHESES, 64, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(64, HIDDEN, 1)
        )

    def initial(self, scores: Tensor) -> Tensor:
        """Hidden state (B, 32, H / 4, W / 4) from scores of all hypotheses (B, 32, H / 8, W / 8)."""
        return torch.tanh(enlarged(self.hidden_init_head(scores), 2))

    def forward(self, hidden: Tensor, normalized: Tensor, scores: Tensor) -> Tensor:
        """The next hidden state.

        Args:
            hidden: (B, 32, H, W), the last.
            normalized: (B, 1, H, W), the last estimate.
            scores: (B, 10, H, W) of the samples around it, level by level.
        """
        return self.gru(hidden, torch.cat([normalized, scores], dim=1))

    def probabilities(self, hidden: Tensor) -> Tensor:
        """(B, 256, H, W) of the bins."""
        return self.depth_head(hidden).softmax(1)

    def confidence_logit(self, hidden: Tensor) -> Tensor:
        """(B, 1, H, W), whose logistic sigmoid is the probability that the estimate is right to half a bin."""
        return self.confidence_head(hidden)
