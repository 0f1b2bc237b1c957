"""Middles of images and images that are black where the truth is unknown."""

from __future__ import annotations

import pytest
import torch

from fewshot_ns.evaluation.metrics.regions import black_outside, central_crop


def test_central_crop():
    image = torch.arange(25 * 31 * 3).view(25, 31, 3)
    assert torch.equal(central_crop(image), image[2:23, 3:28])
    assert torch.equal(central_crop(image[:9, :8]), image[:9, :8])


def test_black_outside():
    image = torch.rand(3, 4, 3) + 0.1
    valid = torch.rand(3, 4) > 0.5
    seen = black_outside(image, valid)
    assert torch.equal(seen, black_outside(image, valid[..., None]))
    assert not seen[~valid].any() and torch.equal(seen[valid], image[valid])
    with pytest.raises(ValueError, match="one value per pixel"):
        black_outside(image, valid[:2])
