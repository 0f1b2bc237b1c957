"""Convolutional network of the matching encoder: one map per image, without attention to other images."""

from __future__ import annotations

from typing import List, Literal

import torch
from torch import Tensor, nn

FEATURES = 128
"""Channels of every map."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norms and a skip connection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(out_channels)
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            # A Sequential of one layer, for the parameter names of released checkpoints.
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', ceil(h / stride), ceil(w / stride))."""
        y = torch.relu(self.norm(self.conv1(x)))
        y = torch.relu(self.norm(self.conv2(y)))
        skip = x if self.downsample is None else self.norm(self.downsample(x))
        return torch.relu(skip + y)


class MatchingBackbone(nn.Module):
    """GMFlow's convolutional network, with the parameter names of its released checkpoints.

    With one scale it gives a map at 1/8. With two it stops at 1/4, and one convolution, applied with stride 2 and with
    stride 1, gives maps at 1/8 and at 1/4.

    Args:
        num_scales: 1 or 2.
    """

    def __init__(self, num_scales: Literal[1, 2] = 1) -> None:
        super().__init__()
        self.num_scales = num_scales
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.norm1 = nn.InstanceNorm2d(64)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, 2), ResidualBlock(96, 96, 1))
        last_stride = 2 if num_scales == 1 else 1
        self.layer3 = nn.Sequential(ResidualBlock(96, FEATURES, last_stride), ResidualBlock(FEATURES, FEATURES, 1))
        self.conv2 = nn.Conv2d(FEATURES, FEATURES, 1)
        if num_scales == 2:
            self.trident_conv = nn.Conv2d(FEATURES, FEATURES, 3, padding=1, bias=False)

    def forward(self, images: Tensor) -> List[Tensor]:
        """Maps of normalised images.

        Args:
            images: (N, 3, H, W), H and W multiples of 8.

        Returns:
            One per scale, coarse first: (N, 128, H / 8, W / 8), and with two scales (N, 128, H / 4, W / 4).
        """
        x = torch.relu(self.norm1(self.conv1(images)))
        x = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        if self.num_scales == 1:
            return [x]
        shared = self.trident_conv.weight
        return [nn.functional.conv2d(x, shared, stride=stride, padding=1) for stride in (2, 1)]
