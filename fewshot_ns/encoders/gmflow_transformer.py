"""Transformer of the matching encoder: self- and cross-attention of two images in windows."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Tuple

import torch
from torch import Tensor, nn


class Windows(NamedTuple):
    """Adjacent windows of equal size along one axis of a map."""

    start: int
    """First position."""
    size: int
    """Positions per window."""
    count: int
    """Number of windows."""


def windows_of(length: int, splits: int, shifted: bool) -> List[Windows]:
    """Windows along one axis.

    Shifted windows begin half a window later; at both ends remain windows of about half the size. This equals Swin's
    cyclic shift with masks, without computing what the masks discard.

    Args:
        length: positions of the axis, a multiple of `splits`.
        splits: number of windows along the axis.
        shifted: shift them by half of their size; no effect with one window.
    """
    size = length // splits
    if not shifted or splits == 1:
        return [Windows(0, size, splits)]
    first = size // 2
    ends = [Windows(0, first, 1), Windows(length - size + first, size - first, 1)]
    return [each for each in (ends[0], Windows(first, size, splits - 1), ends[1]) if each.size]


def window_attention(query: Tensor, key: Tensor, value: Tensor, splits: int, shifted: bool) -> Tensor:
    """Single-head attention of every position to the positions of its window.

    Args:
        query: (N, h, w, C).
        key: (N, h, w, C).
        value: (N, h, w, C).
        splits: windows along each axis; h and w are multiples of it.
        shifted: see `windows_of`.

    Returns:
        (N, h, w, C).
    """
    rows = []
    for row in windows_of(query.shape[1], splits, shifted):
        blocks = []
        for column in windows_of(query.shape[2], splits, shifted):
            q, k, v = (_cut(each, row, column) for each in (query, key, value))
            blocks.append(_join(nn.functional.scaled_dot_product_attention(q, k, v), row, column))
        rows.append(torch.cat(blocks, dim=2))
    return torch.cat(rows, dim=1)


def _cut(x: Tensor, row: Windows, column: Windows) -> Tensor:
    """(N * windows, 1, positions, C) of a map (N, h, w, C)."""
    x = x[:, row.start :, column.start :][:, : row.size * row.count, : column.size * column.count]
    x = x.unflatten(2, (column.count, column.size)).unflatten(1, (row.count, row.size))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)[:, None]


def _join(x: Tensor, row: Windows, column: Windows) -> Tensor:
    """The reverse of `_cut`: (N, h', w', C)."""
    x = x[:, 0].unflatten(0, (-1, row.count, column.count)).unflatten(3, (row.size, column.size))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class AttentionLayer(nn.Module):
    """Attention of one map to another, optionally followed by a feed-forward network on map and message.

    Args:
        width: channels.
        feed_forward: whether the network follows; its hidden layer is 4 times as wide as its input.
    """

    def __init__(self, width: int, feed_forward: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = self.norm2 = None
        if feed_forward:
            hidden = 8 * width
            self.mlp = nn.Sequential(
                nn.Linear(2 * width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
            )
            self.norm2 = nn.LayerNorm(width)

    def forward(self, source: Tensor, target: Tensor, splits: int, shifted: bool) -> Tensor:
        """(N, h, w, C) of a map `source` that attends to `target`, both (N, h, w, C); see `window_attention`."""
        query, key, value = self.q_proj(source), self.k_proj(target), self.v_proj(target)
        message = self.norm1(self.merge(window_attention(query, key, value, splits, shifted)))
        if self.mlp is not None and self.norm2 is not None:
            message = self.norm2(self.mlp(torch.cat([source, message], dim=-1)))
        return source + message


class TransformerBlock(nn.Module):
    """Self-attention, then cross-attention with a feed-forward network.

    The other image's features are those from before this block's self-attention, as in the released network.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = AttentionLayer(width, feed_forward=False)
        self.cross_attn_ffn = AttentionLayer(width, feed_forward=True)

    def forward(self, both: Tensor, splits: int, shifted: bool) -> Tensor:
        """Maps (2N, h, w, C): the first N attend to the last N and vice versa."""
        first, second = both.chunk(2)
        both = self.self_attn(both, both, splits, shifted)
        return self.cross_attn_ffn(both, torch.cat([second, first]), splits, shifted)


class MatchingTransformer(nn.Module):
    """GMFlow's transformer, with the parameter names of its released checkpoints.

    Args:
        width: channels of the maps.
        num_layers: number of blocks; every second one has shifted windows.
    """

    def __init__(self, width: int = 128, num_layers: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerBlock(width) for _ in range(num_layers))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, first: Tensor, second: Tensor, splits: int) -> Tuple[Tensor, Tensor]:
        """Features of pairs of maps.

        Args:
            first: (N, h, w, C) maps of the first image of each pair, with positions; see `add_positions`.
            second: (N, h, w, C) maps of the second image.
            splits: windows along each axis; h and w are multiples of it.

        Returns:
            (N, h, w, C) of the first and of the second images.

        Raises:
            ValueError: another size.
        """
        height, width = first.shape[1:3]
        if height % splits or width % splits:
            raise ValueError(f"expected maps in multiples of {splits} windows, got {height}x{width}")
        both = torch.cat([first, second])
        for index, layer in enumerate(self.layers):
            both = layer(both, splits, index % 2 == 1)
        one, other = both.chunk(2)
        return one, other


def sine_positions(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Sine and cosine encoding of positions in a window, as in DETR: positions from just above 0 to 2 pi.

    Args:
        height: rows of the window.
        width: columns of the window.
        channels: a multiple of 4; the first half encodes the row, the second the column.
        like: tensor with the device and number format of the result.

    Returns:
        (height, width, channels).
    """
    quarter = channels // 4
    exponents = torch.arange(quarter, device=like.device, dtype=torch.float32) / quarter
    frequencies = 10_000.0**-exponents

    def axis(length: int) -> Tensor:
        position = torch.arange(1, length + 1, device=like.device, dtype=torch.float32)
        angle = (2.0 * math.pi * position / (length + 1e-6))[:, None] * frequencies
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

    row = axis(height)[:, None].expand(-1, width, -1)
    column = axis(width)[None].expand(height, -1, -1)
    return torch.cat([row, column], dim=-1).to(like.dtype)


def add_positions(maps: Tensor, splits: int) -> Tensor:
    """Adds the encoding of positions to every window of maps (N, h, w, C); h and w are multiples of `splits`."""
    height, width = maps.shape[1] // splits, maps.shape[2] // splits
    return maps + sine_positions(height, width, maps.shape[3], maps).repeat(splits, splits, 1)
