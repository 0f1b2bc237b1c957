"""Encodings and frequency masks."""

from __future__ import annotations

import math

import pytest
import torch

from fewshot_ns.field_components.encodings import (
    frequency_mask,
    integrated_positional_encoding,
    level_visibility,
    octave_mask,
    positional_encoding,
)


def test_positional_encoding_equals_loop() -> None:
    x = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    encoded = positional_encoding(x, 3)[0].tolist()
    expected = x[0].tolist()
    for function in (math.sin, math.cos):
        expected += [function(2**octave * value) for octave in range(3) for value in x[0].tolist()]
    assert torch.allclose(torch.tensor(encoded), torch.tensor(expected))


def test_integrated_encoding_is_the_mean_over_the_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.tensor([0.4, -0.2, 0.9]), torch.tensor([0.02, 0.3, 0.1])
    points = mean + variance.sqrt() * torch.randn(400_000, 3, generator=generator)
    expected = positional_encoding(points, 3, include_input=False).mean(0)
    actual = integrated_positional_encoding(mean[None], variance[None], 3)[0]
    assert torch.allclose(actual, expected, atol=5e-3)


def test_integrated_encoding_without_extent_is_the_plain_one() -> None:
    means = torch.rand(4, 5, 3)
    actual = integrated_positional_encoding(means, torch.zeros_like(means), 6)
    assert torch.allclose(actual, positional_encoding(means, 6, include_input=False), atol=1e-5)


def test_frequency_mask_grows_to_one() -> None:
    sums = [frequency_mask(99, step, 100).sum().item() for step in range(0, 101, 10)]
    assert sums == sorted(sums)
    assert (frequency_mask(99, 0, 100)[:3] > 0.99).all() and frequency_mask(99, 0, 100)[3:].max() < 1e-6
    assert (frequency_mask(99, 100, 100) == 1).all()
    assert (frequency_mask(99, 0, 0) == 1).all()


def test_octave_mask_opens_sine_and_cosine_together() -> None:
    mask = octave_mask(4, 3, 50, 100)
    sines, cosines = mask[:12].reshape(4, 3), mask[12:].reshape(4, 3)
    assert torch.equal(sines, cosines)
    assert sines[:, 0].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert octave_mask(4, 3, 100, 100).min() == 1.0


def test_levels_open_one_after_the_other() -> None:
    steps = [level_visibility(4, step, start_step=100, end_step=400).tolist() for step in (0, 100, 150, 200, 350, 400)]
    expected = [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0.5, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0.5], [1, 1, 1, 1]]
    assert steps == [pytest.approx(values) for values in expected]


def test_levels_without_a_schedule_are_all_open() -> None:
    assert level_visibility(3, 0, 0, 0).tolist() == [1.0, 1.0, 1.0]
    assert level_visibility(3, 5, 5, 5).tolist() == [1.0, 1.0, 1.0]
