"""Learned upsampling of feature maps."""

from __future__ import annotations

from torch import Tensor, nn


class FeatureUpsampler(nn.Module):
    """Upsampler of the matching encoder: two branches, one convolved before and one after upsampling.

    The names of the parameters are those of MatchNeRF's released checkpoints.

    Args:
        width: channels, in and out.
        factor: a power of 2, at least 2.

    Raises:
        ValueError: another factor.
    """

    def __init__(self, width: int = 128, factor: int = 2) -> None:
        super().__init__()
        if factor < 2 or factor & (factor - 1):
            raise ValueError(f"expected a factor of 2, 4, 8, ... of the feature upsampler, got {factor}")
        steps = factor.bit_length() - 1
        self.conv_ls = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(steps))
        self.conv_l2rs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(steps + 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, factor * h, factor * w)."""
        result = self.conv_l2rs[0](x)
        for into, out in zip(self.conv_ls, list(self.conv_l2rs)[1:], strict=True):
            x = nn.functional.leaky_relu(into(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2)
            enlarged = nn.functional.interpolate(result, scale_factor=2.0, mode="bilinear", align_corners=False)
            result = enlarged + out(x)
        return result
