"""How well a reference's features and those of its sources agree at given depths."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

GROUPS = 8
"""Groups of channels that are correlated apart from each other."""
_NO_WEIGHT = 1e-5
"""Added to the sum of the sources' weights."""


def group_correlation(reference: Tensor, warped: Tensor) -> Tensor:
    """Mean over each group's channels of the product of features.

    Args:
        reference: (B, C, H, W).
        warped: (B, C, N, H, W), a source at N depths.

    Returns:
        (B, 8, N, H, W).
    """
    groups = reference.unflatten(1, (GROUPS, -1)), warped.unflatten(1, (GROUPS, -1))
    return torch.einsum("bgchw,bgcnhw->bgnhw", *groups) / groups[0].shape[2]


def weighted_mean(correlations: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Mean over sources of their correlations (B, 8, N, H, W), with a weight (B, S, H, W) per source and pixel."""
    total = torch.zeros_like(correlations[0])
    for index, correlation in enumerate(correlations):
        total = total + weights[:, index, None, None] * correlation
    return total / (_NO_WEIGHT + weights.sum(1)[:, None, None])


class _Convolution(nn.Module):
    """A 3x3 convolution and a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


def _per_hypothesis(correlation: Tensor) -> Tensor:
    """(B, G, N, H, W) -> (B N, G, H, W)."""
    return correlation.transpose(1, 2).flatten(0, 1)


class ViewWeightNet(nn.Module):
    """How far a source is to be trusted in each pixel, from its own correlation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_Convolution(GROUPS, 16), nn.Conv2d(16, 1, 1))

    def forward(self, correlation: Tensor) -> Tensor:
        """(B, 8, N, H, W) -> (B, H, W) in 1/N..1: the largest probability of a hypothesis."""
        scores = self.conv(_per_hypothesis(correlation))
        return scores.reshape(correlation.shape[0], *correlation.shape[2:]).softmax(1).amax(1)


class CorrelationNet(nn.Module):
    """A score of each hypothesis from its correlation and that of the pixels around."""

    def __init__(self) -> None:
        super().__init__()
        up = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "bias": False}
        self.conv0 = _Convolution(GROUPS, 8)
        self.conv1 = _Convolution(8, 16, 2)
        self.conv2 = _Convolution(16, 32, 2)
        self.conv3 = nn.ConvTranspose2d(32, 16, **up)
        self.conv4 = nn.ConvTranspose2d(16, 8, **up)
        self.conv5 = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, correlation: Tensor) -> Tensor:
        """(B, 8, N, H, W) -> (B, N, H, W); H and W multiples of 4."""
        first = self.conv0(_per_hypothesis(correlation))
        second = self.conv1(first)
        second = second + self.conv3(self.conv2(second))
        scores = self.conv5(first + self.conv4(second))
        return scores.reshape(correlation.shape[0], *correlation.shape[2:])
