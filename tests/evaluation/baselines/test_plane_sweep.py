"""Plane sweep: a known plane is found, against a naive loop; what is seen once, and what is never seen."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_ns.evaluation.baselines.sources import plane_sweep

SIZE, LENS = (12, 16), torch.tensor([16.0, 16.0, 8.0, 6.0])


def pose(x: float) -> Tensor:
    found = torch.eye(4)[:3].clone()
    found[0, 3] = x
    return found


def photo(x: float, depth: float) -> Tensor:
    """A camera at (x, 0, 0) that looks down -z at a smooth picture on the plane z = -depth."""
    rows, columns = torch.meshgrid(torch.arange(12) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    across, down = x + (columns - 8.0) / 16.0 * depth, (rows - 6.0) / 16.0 * depth
    waves = [torch.sin(5 * across), torch.cos(4 * down + across), torch.sin(3 * across - 2 * down)]
    return 0.5 + 0.4 * torch.stack(waves, dim=-1)


def sweep(depth: float = 2.0, **changes) -> Tensor:
    places = (-0.25, 0.25)
    options = dict(near=1.0, far=4.0, planes=7, window=3)
    return plane_sweep(
        torch.stack([photo(x, depth) for x in places]),
        torch.stack([pose(x) for x in places]),
        LENS.expand(2, 4),
        *(pose(0.0), LENS, SIZE),
        **{**options, **changes},
    )


@pytest.mark.parametrize("depth", [1.0, 1.6, 4.0])
def test_the_plane_is_found(depth):
    # Of the 7 inverse depths 1, 0.875, ..., 0.25 each of these is one.
    truth, found = photo(0.0, depth), sweep(depth)
    inner = (slice(2, -2), slice(5, -5))
    torch.testing.assert_close(found[inner], truth[inner], atol=0.03, rtol=0.0)
    assert (sweep(depth, near=depth * 0.4, far=depth * 0.5)[inner] - truth[inner]).abs().max() > 0.2


def test_of_one_plane_it_is_the_mean_of_the_warped_photos():
    """Naive: every pixel by itself, nearest neighbours of a fine photo."""
    torch.manual_seed(0)
    photos, places = torch.rand(2, 12, 16, 3), (-0.5, 0.5)
    # At depth 4 half a unit is two pixels: photos are read at whole pixels.
    found = plane_sweep(
        photos, torch.stack([pose(x) for x in places]), LENS.expand(2, 4), pose(0.0), LENS, SIZE, 4.0, 4.0001, planes=1
    )
    for row in range(12):
        for column in range(16):
            seen = [photos[n, row, column - shift] for n, shift in ((0, -2), (1, 2)) if 0 <= column - shift < 16]
            np.testing.assert_allclose(found[row, column], torch.stack(seen).mean(0), atol=1e-3)


def test_what_no_photo_sees_has_the_mean_colour():
    photos = torch.rand(2, 12, 16, 3)
    behind = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    away = torch.cat([behind, torch.zeros(3, 1)], dim=1).expand(2, 3, 4)
    found = plane_sweep(photos, away, LENS.expand(2, 4), pose(0.0), LENS, SIZE, 1.0, 4.0)
    torch.testing.assert_close(found, photos.flatten(0, 2).mean(0).expand(12, 16, 3))


def test_bad_ranges():
    for changes in ({"near": 0.0}, {"near": 4.0}, {"window": 4}):
        with pytest.raises(ValueError, match="expected 0 < near < far and an odd window"):
            sweep(**changes)
