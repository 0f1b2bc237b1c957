"""Multi-head attention within short sequences: of the samples of a ray, or of what several views show of a point."""

from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor, nn

_NORM_EPS = 1e-6
_SHORT = 8
"""Longest sequence that is attended to item by item."""


class MultiHeadAttention(nn.Module):
    """Self-attention with a residual and a layer norm after it, as in IBRNet; parameters have its names.

    Args:
        width: columns of the sequence.
        num_heads: heads.
        head_width: columns of queries, keys and values of each head.
        passes: how often it attends. ID-NeRF's released code does so three times: to the values of the sequence, then
            twice to its own result, without projections. IBRNet and MatchNeRF do it once.
    """

    def __init__(self, width: int, num_heads: int = 4, head_width: int = 4, passes: int = 1) -> None:
        super().__init__()
        if passes < 1:
            raise ValueError(f"expected at least one pass of attention, got {passes}")
        self.num_heads, self.passes = num_heads, passes
        self.w_qs = nn.Linear(width, num_heads * head_width, bias=False)
        self.w_ks = nn.Linear(width, num_heads * head_width, bias=False)
        self.w_vs = nn.Linear(width, num_heads * head_width, bias=False)
        self.fc = nn.Linear(num_heads * head_width, width, bias=False)
        self.layer_norm = nn.LayerNorm(width, eps=_NORM_EPS)

    def forward(self, sequence: Tensor, attends: Optional[Tensor] = None) -> Tensor:
        """(N, L, width) of a sequence (N, L, width).

        Args:
            sequence: N sequences of L items.
            attends: (N, L, 1) False or 0 for items that attend to all items alike, whatever their keys.
        """
        query, key, value = (
            layer(sequence).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.w_qs, self.w_ks, self.w_vs)
        )
        result = self._attend(query, key, value, attends)
        for _ in range(self.passes - 1):
            result = self._attend(result, result, result, attends)
        return self.layer_norm(self.fc(result.transpose(1, 2).flatten(2)) + sequence)

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, attends: Optional[Tensor]) -> Tensor:
        """(N, heads, L, C) of queries, keys and values of that shape."""
        short = query.shape[2] <= _SHORT
        result = (_attend_short if short else nn.functional.scaled_dot_product_attention)(query, key, value)
        if attends is None:
            return result
        return torch.where(attends[:, None].bool(), result, value.mean(dim=2, keepdim=True))


def _attend_short(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`scaled_dot_product_attention` of (N, heads, L, C) for many short sequences, on which torch's own spends its time
    between them: half of it on a CPU, an eighth in bfloat16."""
    query, key, value = (each.permute(2, 3, 0, 1).contiguous() for each in (query, key, value))
    shares = [(item * key).sum(1).softmax(0) for item in query / math.sqrt(query.shape[1])]
    return torch.stack([(share[:, None] * value).sum(0) for share in shares]).permute(2, 3, 0, 1)
