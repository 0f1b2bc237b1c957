"""Optical flow from matching features: what GMFlow was trained for, and the proof that its features are the real ones.

Source: Xu et al., "GMFlow: Learning Optical Flow via Global Matching", CVPR 2022.
"""

from __future__ import annotations

import math
from typing import Literal, Tuple

import torch
from torch import Tensor, nn

from fewshot_ns.encoders.gmflow import COARSE_SPLITS, FEATURES, SIZE_MULTIPLE, MatchingBackbone, normalized_input
from fewshot_ns.encoders.gmflow_transformer import MatchingTransformer, add_positions

FINE_SPLITS = 8
FINE_RADIUS = 4
"""Windows and search radius of the refinement at 1/4."""
_TAPS = 9
"""Neighbours, itself included, of which a pixel's flow is a mixture."""


class FlowPropagation(nn.Module):
    """Flow of pixels that resemble each other is made alike, so that those without a match get one."""

    def __init__(self, width: int = FEATURES) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)

    def everywhere(self, features: Tensor, flow: Tensor) -> Tensor:
        """Flow (1, h, w, 2) from all pixels of an image with features (1, h, w, C)."""
        query = self.q_proj(features)
        # Of the query, not of the features: the released weights were trained so.
        key = self.k_proj(query)
        return _attention(query, key, flow)

    def nearby(self, features: Tensor, flow: Tensor) -> Tensor:
        """Flow (1, h, w, 2) from the 3x3 pixels around each."""
        query, key = self.q_proj(features), self.k_proj(features)
        scores = (query[:, None] * neighbours(key)).sum(-1) / math.sqrt(features.shape[-1])
        return (scores.softmax(dim=1)[..., None] * neighbours(flow)).sum(1)


class GMFlow(nn.Module):
    """GMFlow with one or two scales; parameters have the names of the released checkpoints.

    Args:
        num_scales: 1: matching at 1/8. 2: refined at 1/4.
    """

    def __init__(self, num_scales: Literal[1, 2] = 2) -> None:
        super().__init__()
        self.num_scales = num_scales
        self.backbone = MatchingBackbone(num_scales)
        self.transformer = MatchingTransformer(FEATURES)
        self.feature_flow_attn = FlowPropagation()
        self.factor = 8 // num_scales
        self.upsampler = nn.Sequential(
            *(nn.Conv2d(2 + FEATURES, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, _TAPS * self.factor**2, 1))
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow from the first image to the second.

        Args:
            first: (H, W, 3) in [0, 1], H and W multiples of 32.
            second: (H, W, 3).

        Returns:
            (H, W, 2) pixels to the right and downwards.

        Raises:
            ValueError: images of different sizes, or of another size.
        """
        height, width = first.shape[:2]
        if first.shape != second.shape or height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(
                f"expected two images of one size, in multiples of {SIZE_MULTIPLE} pixels (pad or crop them), got "
                f"{tuple(first.shape)} and {tuple(second.shape)}"
            )
        maps = self.backbone(normalized_input(torch.stack([first, second])))
        one, other = self._match(maps[0].movedim(1, -1), COARSE_SPLITS)
        flow = self.feature_flow_attn.everywhere(one, global_flow(one, other))
        if self.num_scales == 2:
            flow = 2.0 * nn.functional.interpolate(
                flow.movedim(-1, 1), scale_factor=2.0, mode="bilinear", align_corners=True
            ).movedim(1, -1)
            seen, looked_for = maps[1].movedim(1, -1).split(1)
            one, other = self._match(torch.cat([seen, warped(looked_for, flow)]), FINE_SPLITS)
            flow = self.feature_flow_attn.nearby(one, flow + local_flow(one, other, FINE_RADIUS))
        return self._enlarged(flow, one)[0]

    def _match(self, maps: Tensor, splits: int) -> Tuple[Tensor, Tensor]:
        first, second = add_positions(maps, splits).split(1)
        return self.transformer(first, second, splits)

    def _enlarged(self, flow: Tensor, features: Tensor) -> Tensor:
        """(1, H, W, 2): every pixel of the image a convex mixture of the 3x3 of the map's around it."""
        factor = self.factor
        weights = self.upsampler(torch.cat([flow, features], dim=-1).movedim(-1, 1))
        weights = weights.unflatten(1, (_TAPS, factor, factor)).softmax(dim=1)
        mixed = torch.einsum("nkijhw,nkhwc->nhiwjc", weights, neighbours(factor * flow))
        return mixed.flatten(3, 4).flatten(1, 2)


def pixel_positions(height: int, width: int, like: Tensor) -> Tensor:
    """(height, width, 2) column and row of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows], dim=-1).to(like)


def global_flow(first: Tensor, second: Tensor) -> Tensor:
    """Where each pixel went, the mean of all places weighted by how well they match.

    Args:
        first: (1, h, w, C) features.
        second: (1, h, w, C).

    Returns:
        (1, h, w, 2) pixels of the map.
    """
    positions = pixel_positions(first.shape[1], first.shape[2], first)[None]
    return _attention(first, second, positions) - positions


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Single-head attention of all pixels of maps (1, h, w, C) to all, with values (1, h, w, K)."""
    query, key = query.flatten(1, 2), key.flatten(1, 2)
    return nn.functional.scaled_dot_product_attention(query, key, value.flatten(1, 2)).view_as(value)


def local_flow(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """As `global_flow`, of places at most `radius` pixels away along each axis that lie in the map."""
    height, width, channels = first.shape[1:]
    sides = (0, 0, *(radius,) * 4)
    padded = nn.functional.pad(second, sides)
    inside = nn.functional.pad(torch.ones_like(second[..., 0]), sides[2:]).bool()
    scores, offsets = [], []
    for row in range(2 * radius + 1):
        for column in range(2 * radius + 1):
            window = (slice(None), slice(row, row + height), slice(column, column + width))
            score = (first * padded[window]).sum(-1) / math.sqrt(channels)
            scores.append(score.masked_fill(~inside[window], -math.inf))
            offsets.append((column - radius, row - radius))
    return torch.stack(scores, dim=-1).softmax(dim=-1) @ first.new_tensor(offsets)


def neighbours(values: Tensor) -> Tensor:
    """(N, 9, h, w, C) of the 3x3 pixels around each of maps (N, h, w, C), zero outside."""
    padded = nn.functional.pad(values, (0, 0, 1, 1, 1, 1))
    height, width = values.shape[1:3]
    shifts = [(row, column) for row in range(3) for column in range(3)]
    return torch.stack([padded[:, row : row + height, column : column + width] for row, column in shifts], dim=1)


def warped(values: Tensor, flow: Tensor) -> Tensor:
    """Maps (N, h, w, C) as seen where flow (N, h, w, 2), in pixels, leads; zero outside."""
    height, width = values.shape[1:3]
    last = flow.new_tensor([width - 1, height - 1])
    grid = 2.0 * (pixel_positions(height, width, flow) + flow) / last - 1.0
    return nn.functional.grid_sample(values.movedim(-1, 1), grid, align_corners=True).movedim(1, -1)
