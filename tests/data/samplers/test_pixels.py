"""The quad sampler has the statistical properties of the original's (goldens' README, section on the sampler)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fewshot_ns.data.samplers.pixels import ImageStack, MaskedPixelSampler
from fewshot_ns.data.samplers.quads import QuadSampler, QuadSamplerOptions

HEIGHT, WIDTH = 60, 80


def sampler(box: float = 0.5, valid: torch.Tensor | None = None, views: int = 3, **options) -> QuadSampler:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool) if valid is None else valid
    maps, masks = [torch.rand(mask.shape, generator=generator) for _ in range(views)], [mask] * views
    return QuadSampler(maps, masks, QuadSamplerOptions(box_fraction=box, **options))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def labels(quads: QuadSampler, indices: torch.Tensor) -> torch.Tensor:
    return quads.nearness.lookup(indices)[:, 0].reshape(-1, 4)


def test_first_pixel_of_a_pair_is_nearer() -> None:
    quads = sampler()
    label = labels(quads, quads.sample(5000))
    assert (label[:, 0] >= label[:, 1]).all()


def test_pairs_share_a_box_with_the_original_distribution() -> None:
    indices = sampler(box=0.5).sample(20000).reshape(-1, 4, 3)
    rows = (indices[:, 0, 1] - indices[:, 1, 1]).abs().float()
    box = HEIGHT // 2
    assert rows.max() <= box - 1
    assert rows.mean().item() == pytest.approx((box**2 - 1) / (3 * box), rel=0.03)
    assert (rows == 0).float().mean().item() == pytest.approx(1 / box, rel=0.15)
    row = indices[:, 0, 1].float()
    variance = ((HEIGHT - box + 1) ** 2 - 1) / 12 + (box**2 - 1) / 12
    assert row.mean().item() == pytest.approx((HEIGHT - 1) / 2, rel=0.02)
    assert row.var().item() == pytest.approx(variance, rel=0.05)


def test_neighbours_lie_in_the_window() -> None:
    indices = sampler().sample(20000).reshape(-1, 4, 3)
    offset = indices[:, 2, 1:] - indices[:, 0, 1:]
    assert offset.min() == -3 and offset.max() == 2
    interior = ((indices[:, 0, 1:] >= 3) & (indices[:, 0, 1:] < torch.tensor([HEIGHT - 3, WIDTH - 3]))).all(-1)
    same = (offset == 0).all(-1)[interior].float().mean().item()
    assert same == pytest.approx(0.1, abs=0.01)
    assert indices[:, 2:, 1].max() == HEIGHT - 2 and indices[:, 2:, 2].max() == WIDTH - 2
    assert (indices[:, 0, 0] == indices[:, 2, 0]).all() and (indices[:, 1, 0] == indices[:, 3, 0]).all()


def test_neighbour_rank_is_uniform_over_the_ten_nearest() -> None:
    quads = sampler()
    indices = quads.sample(4000).reshape(-1, 4, 3)
    ranks = []
    for pixel, neighbour in zip(indices[:, 0].tolist(), indices[:, 2].tolist(), strict=True):
        view, row, column = pixel
        if not (3 <= row < HEIGHT - 3 and 3 <= column < WIDTH - 3):
            continue
        image = quads.nearness.pixels.reshape(3, HEIGHT, WIDTH)[view]
        window = image[row - 3 : row + 3, column - 3 : column + 3]
        difference = (window - image[row, column]).abs().flatten()
        ranks.append(int((difference < (image[neighbour[1], neighbour[2]] - image[row, column]).abs()).sum()))
    counts = torch.bincount(torch.tensor(ranks), minlength=10)
    assert len(counts) == 10
    assert (counts.float() / counts.sum() - 0.1).abs().max() < 0.03


def test_gaps_do_not_depend_on_scale_and_shift_of_the_prior() -> None:
    first = sampler()
    maps = [7.0 * value[..., 0] - 3.0 for value in first.nearness.pixels.reshape(3, HEIGHT, WIDTH, 1)]
    second = QuadSampler(maps, [torch.ones(HEIGHT, WIDTH, dtype=torch.bool)] * 3, first.options)
    indices = first.sample(500)
    gaps = first.gaps(indices)
    assert gaps.shape == (500,) and (gaps >= 0).all()
    assert torch.allclose(gaps, second.gaps(indices), atol=1e-4)
    label = labels(first, indices)
    assert torch.allclose(gaps, (label[:, 0] - label[:, 1]) / 0.9, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("few", [0, 1, 8])
def test_gaps_of_a_prior_that_is_constant_but_for_a_few_pixels(few: int) -> None:
    """A small object before a background of one depth: gaps are shares of what there is, not multiples of nothing."""
    torch.manual_seed(0)
    value = torch.full((20, 20), 65535.0)
    value.view(-1)[:few] = torch.linspace(1000.0, 3000.0, 8)[:few]
    quads = QuadSampler([value], [torch.ones(20, 20, dtype=torch.bool)], QuadSamplerOptions(1.0))
    gaps = quads.gaps(quads.sample(2000))
    assert gaps.min() >= 0 and gaps.max() <= 1.0
    assert bool((gaps > 0.9).any()) == (few > 0)


def test_self_neighbour_can_be_excluded() -> None:
    indices = sampler(allow_self=False).sample(5000).reshape(-1, 4, 3)
    assert not (indices[:, 0] == indices[:, 2]).all(-1).any()


def test_tie_order() -> None:
    flat = [torch.ones(HEIGHT, WIDTH)]
    valid = [torch.ones(HEIGHT, WIDTH, dtype=torch.bool)]
    drawn = []
    for tie in ("first", "second"):
        torch.manual_seed(1)
        quads = QuadSampler(flat, valid, QuadSamplerOptions(1.0, tie=tie)).sample(50)  # type: ignore[arg-type]
        drawn.append(quads.reshape(-1, 4, 3))
    assert torch.equal(drawn[0][:, 0], drawn[1][:, 1]) and torch.equal(drawn[0][:, 1], drawn[1][:, 0])


def test_invalid_pixels_are_never_drawn() -> None:
    valid = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    valid[10:30, 20:60] = True
    valid[15, 25] = False
    indices = sampler(box=0.4, valid=valid).sample(5000)
    assert valid[indices[:, 1], indices[:, 2]].all()


def test_a_handful_of_valid_pixels_is_enough() -> None:
    valid = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    valid[0, 0] = valid[59, 79] = valid[30, 40] = True
    indices = sampler(box=0.05, valid=valid).sample(100)
    assert valid[indices[:, 1], indices[:, 2]].all()


def test_single_image_batches() -> None:
    assert len(sampler().sample(200, single_image=True)[:, 0].unique()) == 1
    assert len(sampler().sample(200)[:, 0].unique()) == 3


def test_images_of_different_sizes() -> None:
    images = [torch.arange(12.0).reshape(3, 4, 1), 100 + torch.arange(10.0).reshape(5, 2, 1)]
    stack = ImageStack(images)
    pixels = MaskedPixelSampler([torch.ones_like(image, dtype=torch.bool) for image in images]).sample(400)
    assert len(pixels.unique(dim=0)) == 22
    for view, row, column in pixels.tolist():
        assert stack.lookup(torch.tensor([[view, row, column]])).item() == images[view][row, column, 0].item()


def test_masked_pixels_are_not_drawn() -> None:
    mask = torch.zeros(6, 8, 1, dtype=torch.bool)
    mask[2:4, 3:5] = True
    pixels = MaskedPixelSampler([mask, ~mask])
    first = pixels.sample(200, view=0)
    assert (first[:, 0] == 0).all() and mask[first[:, 1], first[:, 2]].all()
    everywhere = pixels.sample(2000)
    assert set(everywhere[:, 0].tolist()) == {0, 1}
    with pytest.raises(ValueError, match="the mask of training view 1: expected pixels to train on"):
        MaskedPixelSampler([mask, torch.zeros_like(mask)])


@pytest.mark.parametrize("options", [{"box": 0.0}, {"box": 1.5}, {"neighbour_fraction": 0.0}])
def test_bad_options_are_named(options: dict) -> None:
    with pytest.raises(ValueError, match=r"expected .*fraction in \(0, 1\]"):
        sampler(**options)


def test_view_without_valid_depth_is_named() -> None:
    with pytest.raises(ValueError, match="training view 0 has 0 pixels"):
        sampler(valid=torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))


def scattered(rows: int = 60, columns: int = 80) -> torch.Tensor:
    """A mask with valid pixels in two far corners, few in one of them."""
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[:12, :12] = torch.rand(12, 12) > 0.5
    mask[-3:, -3:] = True
    return mask


def test_boxes_with_enough_valid_pixels_alone() -> None:
    mask = scattered()
    quads = sampler(valid=mask, box_pixels=5, min_valid=11)
    indices = quads.sample(8000).reshape(-1, 4, 3)
    assert quads.valid.lookup(indices.reshape(-1, 3)).all()
    apart = (indices[:, 0, 1:] - indices[:, 1, 1:]).abs()
    assert apart.max() == 4
    # Nine valid pixels in the lower right corner are too few.
    assert indices[..., 1:].max() < 12
    label = labels(quads, indices.reshape(-1, 3))
    assert (label[:, 0] >= label[:, 1]).all()


def test_boxes_are_those_of_a_naive_count_and_pixels_uniform_in_them() -> None:
    mask = scattered(14, 14)
    quads = sampler(valid=mask, box_pixels=4, min_valid=7, views=1)
    expected = [
        (row, column)
        for row in range(14 - 4 + 1)
        for column in range(14 - 4 + 1)
        if int(mask[row : row + 4, column : column + 4].sum()) >= 7
    ]
    assert [tuple(corner) for corner in quads.corners[0].tolist()] == expected
    first, _ = quads._draw_among_valid(torch.zeros(60000, dtype=torch.long))
    share = torch.zeros(14, 14, dtype=torch.float64)
    for row, column in expected:
        box = mask[row : row + 4, column : column + 4].double()
        share[row : row + 4, column : column + 4] += box / box.sum() / len(expected)
    found = torch.zeros(14 * 14, dtype=torch.float64)
    found.index_add_(0, first[:, 1] * 14 + first[:, 2], torch.ones(60000, dtype=torch.float64))
    torch.testing.assert_close(found.reshape(14, 14) / 60000, share, atol=0.005, rtol=0.1)


def test_no_box_with_enough_valid_pixels_is_an_error() -> None:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[::5, ::5] = True
    with pytest.raises(ValueError, match="training view 0 has no box of 5x5 pixels with 11 valid ones, at most 1"):
        sampler(valid=mask, box_pixels=5, min_valid=11)


def test_single_pixels_of_boxes_are_a_corner_plus_an_offset() -> None:
    valid = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    valid[:, 40:] = True
    indices = sampler(valid=valid, box_pixels=30, min_valid=11).sample_singles(60000)
    for axis, size in ((1, HEIGHT), (2, WIDTH)):
        corners, offsets = torch.ones(size - 30 + 1), torch.ones(30)
        expected = torch.nn.functional.conv1d(corners[None, None], offsets[None, None], padding=29)[0, 0]
        drawn = torch.bincount(indices[:, axis], minlength=size).float()
        assert (drawn / 60000 - expected / expected.sum()).abs().max() < 3e-3
    assert (torch.bincount(indices[:, 0], minlength=3) > 19000).all()
    assert (sampler(box_pixels=30).sample_singles(50, view=1)[:, 0] == 1).all()


def test_views_without_a_prior_are_left_out_where_asked_for() -> None:
    torch.manual_seed(0)
    maps = [torch.rand(8, 10) for _ in range(3)]
    valid = [torch.rand(8, 10) < 0.3, torch.zeros(8, 10, dtype=torch.bool), torch.rand(8, 10) < 0.3]
    with pytest.raises(ValueError, match="training view 1 has 0 pixels with a valid depth prior, need 2"):
        QuadSampler(maps, valid, QuadSamplerOptions(1.0))
    quads = QuadSampler(maps, valid, QuadSamplerOptions(1.0, leave_out_views=True))
    for single in (False, True):
        drawn = torch.cat([quads.sample(50, single) for _ in range(20)])
        assert set(drawn[:, 0].tolist()) == {0, 2} and quads.valid.lookup(drawn).all()
        assert quads.gaps(drawn).isfinite().all()
    assert set(quads.sample_singles(100)[:, 0].tolist()) == {0, 1, 2}
    # In boxes too, where one view has pixels but no box with enough of them.
    valid[1][0, 0] = valid[1][7, 9] = True
    boxes = QuadSamplerOptions(1.0, box_pixels=4, min_valid=2, leave_out_views=True)
    assert set(QuadSampler(maps, valid, boxes).sample(100)[:, 0].tolist()) == {0, 2}
    with pytest.raises(ValueError, match="training view 1 has no box of 4x4 pixels with 2 valid ones, at most 1"):
        QuadSampler(maps, valid, replace(boxes, leave_out_views=False))
    with pytest.raises(ValueError, match="training view 0 has 0 pixels"):
        QuadSampler(maps, [torch.zeros_like(mask) for mask in valid], boxes)


def test_leaving_no_view_out_draws_the_same_pixels() -> None:
    maps, valid = [torch.rand(8, 10) for _ in range(3)], [torch.rand(8, 10) < 0.5 for _ in range(3)]
    drawn = []
    for leave_out in (False, True):
        torch.manual_seed(0)
        drawn.append(QuadSampler(maps, valid, QuadSamplerOptions(1.0, leave_out_views=leave_out)).sample(20))
    assert torch.equal(*drawn)
