"""Features that are kept: equal to the encoder's, made once per view and pair, gone when a weight changes."""

from __future__ import annotations

from itertools import combinations
from typing import List, Literal

import pytest
import torch
from torch import Tensor

from fewshot_ns.encoders.gmflow import MatchingEncoder
from fewshot_ns.encoders.matching_cache import MatchingCache


def build(num_scales: Literal[1, 2] = 1, fine_splits: int = 2) -> MatchingEncoder:
    torch.manual_seed(0)
    return MatchingEncoder(num_scales, num_layers=2, fine_splits=fine_splits)


def views(number: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, number, 32, 64, 3, generator=torch.Generator().manual_seed(3))


def calls(encoder: MatchingEncoder) -> List[int]:
    """Number of images that the backbone, and of pairs that the transformer is given from now on."""
    counts = [0, 0]
    encoder.backbone.register_forward_hook(lambda module, given, result: _add(counts, 0, len(given[0])))
    encoder.transformer.register_forward_hook(lambda module, given, result: _add(counts, 1, len(given[0])))
    return counts


def _add(counts: List[int], place: int, number: int) -> None:
    counts[place] += number


@pytest.mark.parametrize("kind", [(1, 2), (2, 2), (2, 0)])
@pytest.mark.parametrize("number", [2, 4])
def test_features_are_the_encoders(kind, number):
    encoder, images = build(*kind), views(number, batch=2)
    cache = MatchingCache(encoder, 64)
    # Again from what is kept, and in another order of the views.
    for order in (list(range(number)), list(range(number)), [1, 0, *range(2, number)]):
        with torch.no_grad():
            expected = encoder(images[:, order])
        for own, other in zip(cache(images[:, order]), expected, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_views_and_pairs_are_encoded_once():
    encoder, images = build(), views(5)
    counts, cache = calls(encoder), MatchingCache(encoder, 64)
    for chosen in ((0, 1, 2), (2, 1, 0), (1, 2, 3), (0, 1, 2)):
        cache(images[:, list(chosen)])
    assert counts == [4, 5]
    seen = {frozenset(pair) for chosen in ((0, 1, 2), (1, 2, 3)) for pair in combinations(chosen, 2)}
    assert len(seen) == 5


def test_what_does_not_fit_is_made_again():
    encoder, images = build(), views(2)
    counts, cache = calls(encoder), MatchingCache(encoder, 0)
    cache(images)
    once = list(counts)
    cache(images)
    assert counts == [2 * each for each in once] and len(cache.kept) == 0


@pytest.mark.parametrize("change", ["step", "load", "other image"])
def test_changes_are_seen(change):
    encoder, images = build(), views(2)
    cache = MatchingCache(encoder, 64)
    before = cache(images)
    if change == "step":
        optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
        sum(each.square().mean() for each in encoder(images)).backward()  # type: ignore[union-attr]
        optimizer.step()
    elif change == "load":
        torch.manual_seed(1)
        encoder.load_state_dict(MatchingEncoder(num_layers=2).state_dict())
    else:
        images = images.clone()
        images[0, 0, 0, 0, 0] += 0.5
    with torch.no_grad():
        expected = encoder(images)
    for own, other, old in zip(cache(images), expected, before, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(own, old, rtol=1e-4, atol=1e-5)


def test_half_precision_is_kept_in_half_precision():
    encoder, images = build(), views(3)
    cache = MatchingCache(encoder, 64)
    full, half = cache(images), cache(images, torch.bfloat16)
    for own, other in zip(half, full, strict=True):
        assert own.dtype == torch.bfloat16
        torch.testing.assert_close(own.float(), other, rtol=1e-2, atol=1e-2)
