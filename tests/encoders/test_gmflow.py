"""The matching encoder: its parts against naive twins, its pairs, its sizes."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from fewshot_ns.encoders.gmflow import MatchingEncoder
from fewshot_ns.encoders.gmflow_transformer import MatchingTransformer, add_positions, sine_positions, window_attention


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def encoder() -> MatchingEncoder:
    torch.manual_seed(0)
    return MatchingEncoder(num_layers=2)


def views(number: int, height: int = 32, width: int = 64, batch: int = 1) -> Tensor:
    return torch.rand(batch, number, height, width, 3, generator=torch.Generator().manual_seed(number))


def test_numbers_of_parameters():
    encoder = MatchingEncoder()
    assert encoder.featup_net is not None
    parts = [count(part) for part in (encoder.backbone, encoder.transformer, encoder.featup_net)]
    assert parts == [1_049_120, 3_150_336, 442_752]


def masked_attention(query: Tensor, key: Tensor, value: Tensor, splits: int, shifted: bool) -> Tensor:
    """Swin's form: the map is rolled, cut into equal windows, and what is no neighbour is masked."""
    height, width = query.shape[1:3]
    size = height // splits, width // splits
    shift = tuple(side // 2 if shifted and splits > 1 else 0 for side in size)
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), dim=-1)
    flat = [torch.roll(each, (-shift[0], -shift[1]), (1, 2)).flatten(1, 2) for each in (query, key, value)]
    rolled = torch.roll(place, (-shift[0], -shift[1]), (0, 1)).flatten(0, 1)
    window = torch.stack([place[..., axis] // size[axis] for axis in (0, 1)], dim=-1).flatten(0, 1)
    together = (window[:, None] == window[None]).all(dim=-1)
    for axis, sides in enumerate((height, width)):
        # Neighbours in the rolled map that were at opposite ends before are no neighbours.
        first = rolled[:, axis] >= sides - size[axis] + shift[axis] if shift[axis] else rolled[:, axis] < 0
        second = rolled[:, axis] < shift[axis]
        together &= ~((first[:, None] & second[None]) | (second[:, None] & first[None]))
    scores = (flat[0] @ flat[1].mT / query.shape[-1] ** 0.5).masked_fill(~together, -torch.inf)
    result = (scores.softmax(dim=-1) @ flat[2]).view_as(query)
    return torch.roll(result, shift, (1, 2))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("splits", [1, 2, 3])
def test_windows_are_those_of_the_masked_form(splits: int, shifted: bool):
    q, k, v = torch.randn(3, 2, 6, 18, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(window_attention(q, k, v, splits, shifted), masked_attention(q, k, v, splits, shifted))


def test_windows_of_odd_size():
    q, k, v = torch.randn(3, 1, 6, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(window_attention(q, k, v, 2, True), masked_attention(q, k, v, 2, True))


def test_shifted_windows_are_others():
    q, k, v = torch.randn(3, 1, 8, 8, 4, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(window_attention(q, k, v, 2, False), window_attention(q, k, v, 2, True), atol=1e-2)


def test_transformer_refuses_windows_that_do_not_fit():
    transformer = MatchingTransformer(num_layers=1)
    maps = torch.zeros(1, 5, 8, 128)
    with pytest.raises(ValueError, match="multiples of 2 windows, got 5x8"):
        transformer(maps, maps, 2)


def test_positions_repeat_in_every_window():
    added = add_positions(torch.zeros(1, 6, 8, 16), 2)[0]
    torch.testing.assert_close(added[:3, :4], sine_positions(3, 4, 16, added))
    torch.testing.assert_close(added[:3, :4], added[3:, 4:])
    assert len(added[:3, :4].flatten(0, 1).unique(dim=0)) == 12


@pytest.mark.parametrize("number", [2, 3, 4])
def test_each_view_holds_its_part_of_every_pair(encoder: MatchingEncoder, number: int):
    images = views(number)
    with torch.no_grad():
        together = encoder(images)
        alone = {(a, b): encoder(images[:, [a, b]]) for a, b in combinations(range(number), 2)}
    for scale, maps in enumerate(together):
        assert maps.shape[1:] == (number, (4, 8)[scale], (8, 16)[scale], (number - 1) * 128)
        for view in range(number):
            others = [other for other in range(number) if other != view]
            parts = [alone[min(view, o), max(view, o)][scale][0, int(o < view)] for o in others]
            torch.testing.assert_close(maps[0, view], torch.cat(parts, dim=-1), rtol=1e-4, atol=1e-4)


def test_scenes_of_a_batch_do_not_mix(encoder: MatchingEncoder):
    images = views(2, batch=2)
    with torch.no_grad():
        both, second = encoder(images), encoder(images[1:])
    for together, alone in zip(both, second, strict=True):
        torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def test_order_of_views_only_orders_features(encoder: MatchingEncoder):
    images = views(2)
    with torch.no_grad():
        forth, back = encoder(images), encoder(images.flip(1))
    for maps, turned in zip(forth, back, strict=True):
        torch.testing.assert_close(maps, turned.flip(1), rtol=1e-4, atol=1e-4)


def test_other_sizes_are_enlarged_corner_on_corner(encoder: MatchingEncoder):
    images = views(2, 40, 50)
    whole = torch.nn.functional.interpolate(
        images[0].movedim(-1, 1), size=(64, 64), mode="bilinear", align_corners=True
    )
    with torch.no_grad():
        enlarged, expected = encoder(images), encoder(whole.movedim(1, -1)[None])
    assert [tuple(maps.shape[2:4]) for maps in enlarged] == [(8, 8), (16, 16)]
    for maps, others in zip(enlarged, expected, strict=True):
        torch.testing.assert_close(maps, others, rtol=1e-3, atol=1e-3)


def test_one_view_is_refused(encoder: MatchingEncoder):
    with pytest.raises(ValueError, match="at least 2 source views, got 1"):
        encoder(views(1))


@pytest.mark.parametrize("num_scales", [1, 2])
def test_every_parameter_learns(num_scales):
    torch.manual_seed(0)
    encoder = MatchingEncoder(num_scales, num_layers=2)
    maps = encoder(views(3))
    torch.stack([(each * torch.randn_like(each)).sum() for each in maps]).sum().backward()
    without = [
        name for name, value in encoder.named_parameters() if value.grad is None or not bool(value.grad.abs().any())
    ]
    assert without == []


def test_finer_map_of_two_scales():
    torch.manual_seed(0)
    images = views(3)
    matched, plain = MatchingEncoder(2, num_layers=1), MatchingEncoder(2, num_layers=1, fine_splits=0)
    plain.load_state_dict(matched.state_dict())
    with torch.no_grad():
        (coarse, fine), (same, raw) = matched(images), plain(images)
        backbone = matched.backbone(((images[0] - images.new_tensor([0.485, 0.456, 0.406]))
                                     / images.new_tensor([0.229, 0.224, 0.225])).movedim(-1, 1))  # fmt: skip
    torch.testing.assert_close(coarse, same)
    assert fine.shape == raw.shape == (1, 3, 8, 16, 256)
    torch.testing.assert_close(raw[0], backbone[1].movedim(1, -1).repeat(1, 1, 1, 2))
    assert not torch.allclose(fine, raw, atol=1e-2)
