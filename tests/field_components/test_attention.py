"""Multi-head attention against loops over sequences, heads and items."""

from __future__ import annotations

import math

import pytest
import torch

from fewshot_ns.field_components.attention import MultiHeadAttention


def naive(network: MultiHeadAttention, sequence: torch.Tensor, attends: torch.Tensor) -> torch.Tensor:
    """The formula, one number at a time."""
    heads, result = network.num_heads, torch.zeros_like(sequence)
    columns = network.w_qs.weight.shape[0] // heads
    for index, items in enumerate(sequence):
        joined = []
        for head in range(heads):
            rows = slice(head * columns, (head + 1) * columns)
            query, key, value = (items @ layer.weight[rows].T for layer in (network.w_qs, network.w_ks, network.w_vs))
            for _ in range(network.passes):
                mixed = []
                for item in range(len(items)):
                    scores = torch.stack([query[item] @ other / math.sqrt(columns) for other in key])
                    if not attends[index, item, 0]:
                        scores = torch.full_like(scores, -1e9)
                    mixed.append((scores.softmax(0)[:, None] * value).sum(0))
                query = key = value = torch.stack(mixed)
            joined.append(value)
        result[index] = torch.cat(joined, dim=-1) @ network.fc.weight.T + items
    return network.layer_norm(result)


@pytest.mark.parametrize("length", [5, 11])
@pytest.mark.parametrize("passes", [1, 3])
def test_against_loops(passes, length):
    """Short sequences and long ones are computed in different ways."""
    torch.manual_seed(0)
    network = MultiHeadAttention(6, num_heads=2, head_width=3, passes=passes).double()
    sequence, attends = torch.randn(3, length, 6, dtype=torch.float64), torch.rand(3, length, 1) > 0.4
    torch.testing.assert_close(network(sequence, attends), naive(network, sequence, attends))
    everyone = torch.ones_like(attends)
    torch.testing.assert_close(network(sequence), naive(network, sequence, everyone))
    assert not torch.allclose(network(sequence), network(sequence, attends))


@pytest.mark.parametrize("length", [3, 9])
def test_gradients(length):
    torch.manual_seed(0)
    network = MultiHeadAttention(4, num_heads=2, head_width=2, passes=2).double()
    sequence = torch.randn(2, length, 4, dtype=torch.float64, requires_grad=True)
    attends = torch.arange(2 * length).reshape(2, length, 1) % 4 != 1
    assert torch.autograd.gradcheck(lambda x: network(x, attends), (sequence,))


def test_no_pass_at_all():
    with pytest.raises(ValueError, match="at least one pass"):
        MultiHeadAttention(4, passes=0)
