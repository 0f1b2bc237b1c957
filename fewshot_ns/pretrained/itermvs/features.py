"""Features of a photo at a half, a quarter and an eighth of its size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SIZE_MULTIPLE = 32
"""Height and width of the photos are multiples of this."""


class Features(NamedTuple):
    """Feature maps of photos, (..., C, H / 2^l, W / 2^l) at levels l = 1, 2, 3."""

    half: Tensor
    """(..., 16, H / 2, W / 2)."""
    quarter: Tensor
    """(..., 32, H / 4, W / 4)."""
    eighth: Tensor
    """(..., 48, H / 8, W / 8)."""


def enlarged(maps: Tensor, factor: float) -> Tensor:
    """Maps (N, C, H, W) at `factor` times their size, bilinear; half of it averages 2x2 pixels."""
    return nn.functional.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


class _Convolution(nn.Module):
    """A 3x3 convolution and batch norm, with or without a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, rectified: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.rectified = rectified

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return torch.relu(x) if self.rectified else x


class _Residual(nn.Module):
    """Two convolutions beside the identity, or beside a convolution where the size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _Convolution(inputs, outputs, stride)
        self.conv2 = _Convolution(outputs, outputs, rectified=False)
        self.downsample = None if stride == 1 else _Convolution(inputs, outputs, stride, rectified=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(shortcut + self.conv2(self.conv1(x)))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_Residual(inputs, outputs, 2), _Residual(outputs, outputs, 1))


class FeatureNet(nn.Module):
    """The feature pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _Convolution(3, 8)
        self.layer1, self.layer2, self.layer3 = _stage(8, 16), _stage(16, 32), _stage(32, 48)
        self.output3 = nn.Conv2d(48, 48, 3, padding=1)
        self.output2 = nn.Conv2d(48, 32, 3, padding=1)
        self.output1 = nn.Conv2d(48, 16, 3, padding=1)
        self.inner1 = nn.Conv2d(16, 48, 1)
        self.inner2 = nn.Conv2d(32, 48, 1)
        # In the published weights, but used by nothing.
        self.inner3 = nn.Conv2d(48, 48, 1).requires_grad_(False)

    def forward(self, images: Tensor) -> Features:
        """Features of images (N, 3, H, W) in [-1, 1]; H and W multiples of 32."""
        first = self.layer1(self.conv1(images))
        second = self.layer2(first)
        third = self.layer3(second)
        top_down2 = enlarged(third, 2) + self.inner2(second)
        top_down1 = enlarged(top_down2, 2) + self.inner1(first)
        return Features(self.output1(top_down1), self.output2(top_down2), self.output3(third))
