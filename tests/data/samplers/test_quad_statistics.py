"""Statistical properties of the original quads, one by one (README of the reference vectors, on the sampler)."""

from __future__ import annotations

from typing import Any, Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.data.samplers.quads import QuadSampler, QuadSamplerOptions

HEIGHT, WIDTH, BOX, VIEWS = 90, 120, 30, 3


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def sampler(**options: Any) -> QuadSampler:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(HEIGHT, WIDTH, generator=generator) for _ in range(VIEWS)]
    valid = [torch.ones(HEIGHT, WIDTH, dtype=torch.bool)] * VIEWS
    return QuadSampler(maps, valid, QuadSamplerOptions(**{"box_fraction": 1.0, "box_pixels": BOX, **options}))


def draw(quads: QuadSampler, count: int) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Indices (count, 3) of p0, p1, n0 and n1."""
    p0, p1, n0, n1 = quads.sample(count).reshape(-1, 4, 3).unbind(1)
    return p0, p1, n0, n1


def close(share: float, probability: float, count: int) -> bool:
    """Within five standard deviations of a binomial share."""
    return abs(share - probability) < 5 * (probability * (1 - probability) / count) ** 0.5 + 1e-12


def test_each_batch_is_of_one_photo_drawn_uniformly() -> None:
    quads = sampler()
    views = [quads.sample(4, single_image=True)[:, 0] for _ in range(3000)]
    assert all(len(view.unique()) == 1 for view in views)
    share = torch.bincount(torch.stack([view[0] for view in views]), minlength=VIEWS).float() / len(views)
    assert all(close(float(value), 1 / VIEWS, len(views)) for value in share)


@pytest.mark.parametrize("axis", [1, 2], ids=["rows", "columns"])
def test_differences_within_a_pair(axis: int) -> None:
    count = 40000
    p0, p1, _, _ = draw(sampler(), count)
    difference = (p0[:, axis] - p1[:, axis]).abs()
    assert difference.max() == BOX - 1
    share = torch.bincount(difference, minlength=BOX).float() / count
    for k, value in enumerate(share.tolist()):
        assert close(value, 1 / BOX if k == 0 else 2 * (BOX - k) / BOX**2, count), k
    assert float(difference.float().mean()) == pytest.approx((BOX**2 - 1) / (3 * BOX), rel=0.02)


def test_a_pixel_is_paired_with_itself_now_and_then() -> None:
    count = 40000
    p0, p1, _, _ = draw(sampler(box_pixels=6), count)
    assert close(float((p0 == p1).all(-1).float().mean()), 1 / 36, count)


@pytest.mark.parametrize("axis, size", [(1, HEIGHT), (2, WIDTH)], ids=["rows", "columns"])
def test_place_of_a_pixel_is_a_trapezoid(axis: int, size: int) -> None:
    p0, p1, _, _ = draw(sampler(), 20000)
    place = torch.cat([p0, p1])[:, axis].float()
    variance = ((size - BOX + 1) ** 2 - 1) / 12 + (BOX**2 - 1) / 12
    assert float(place.mean()) == pytest.approx((size - 1) / 2, rel=0.02)
    assert float(place.var()) == pytest.approx(variance, rel=0.03)
    # Its corners are rarer than its middle.
    probability = 1 / (BOX * (size - BOX + 1))
    assert close(float((place == 0).float().mean()), probability, len(place))


def test_a_box_as_large_as_the_photo_is_uniform() -> None:
    count = 20000
    p0, p1, _, _ = draw(sampler(box_pixels=None, box_fraction=1.0), count)
    share = torch.bincount(torch.cat([p0, p1])[:, 1], minlength=HEIGHT).float() / (2 * count)
    assert all(close(float(value), 1 / HEIGHT, 2 * count) for value in share)


def test_order_and_neighbours_belong_together() -> None:
    quads = sampler()
    p0, p1, n0, n1 = draw(quads, 5000)
    label = [quads.nearness.lookup(p)[:, 0] for p in (p0, p1)]
    assert (label[0] >= label[1]).all()
    for pixel, neighbour in ((p0, n0), (p1, n1)):
        offset = neighbour - pixel
        assert (offset[:, 0] == 0).all() and offset[:, 1:].min() == -3 and offset[:, 1:].max() == 2


def test_last_row_and_column_have_no_neighbours_in_them() -> None:
    quads = sampler(box_pixels=None)
    p0, _, n0, _ = draw(quads, 60000)
    assert n0[:, 1].max() == HEIGHT - 2 and n0[:, 2].max() == WIDTH - 2
    last = (p0[:, 1] == HEIGHT - 1) | (p0[:, 2] == WIDTH - 1)
    assert last.any() and not (p0 == n0)[last].all(-1).any()


# Rows and columns inside the window -> candidates, of which the nearest 30 %, rounded down, are drawn from.
CORNERS = {(40, 60): (36, 10), (0, 60): (18, 5), (40, 0): (18, 5), (0, 0): (9, 2), (HEIGHT - 1, 60): (18, 5)}


@pytest.mark.parametrize("place", CORNERS, ids=str)
def test_rank_of_a_neighbour_is_uniform(place: Tuple[int, int]) -> None:
    quads, count = sampler(), 8000
    candidates, nearest = CORNERS[place]
    pixel = torch.tensor([[0, *place]])
    neighbour = quads._neighbour(pixel.expand(count, -1))
    image = quads.nearness.pixels[: HEIGHT * WIDTH].reshape(HEIGHT, WIDTH)
    rows = slice(max(place[0] - 3, 0), min(place[0] + 3, HEIGHT - 1))
    columns = slice(max(place[1] - 3, 0), min(place[1] + 3, WIDTH - 1))
    difference = (image[rows, columns] - image[place]).abs().flatten()
    assert len(difference) == candidates
    drawn = (quads.nearness.lookup(neighbour)[:, 0] - image[place]).abs()
    rank = (difference[None] < drawn[:, None]).sum(-1)
    share = torch.bincount(rank, minlength=nearest).float() / count
    assert len(share) == nearest
    assert all(close(float(value), 1 / nearest, count) for value in share)
    # The pixel itself, difference 0, is one of them: a degenerate pair, unless it may not be.
    itself = float((neighbour == pixel).all(-1).float().mean())
    inside = place[0] < HEIGHT - 1 and place[1] < WIDTH - 1
    assert close(itself, 1 / nearest, count) if inside else itself == 0.0
    others = sampler(allow_self=False)._neighbour(pixel.expand(200, -1))
    assert not (others == pixel).all(-1).any()


@pytest.mark.parametrize("tie, nearer", [("second", 1), ("first", 0)])
def test_ties_go_by_the_order_of_drawing(tie: str, nearer: int) -> None:
    flat = QuadSampler(
        [torch.ones(HEIGHT, WIDTH)],
        [torch.ones(HEIGHT, WIDTH, dtype=torch.bool)],
        QuadSamplerOptions(box_fraction=1.0, tie=tie),  # type: ignore[arg-type]
    )
    torch.manual_seed(3)
    p0, p1, _, _ = draw(flat, 100)
    torch.manual_seed(3)
    drawn = flat._pairs(torch.randint(1, (100,)))
    assert torch.equal(p0, drawn[nearer]) and torch.equal(p1, drawn[1 - nearer])
