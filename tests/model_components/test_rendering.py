"""Rendering: what is done to its pixels is done to every tensor of every level."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import torch
from torch import Tensor

from fewshot_ns.model_components.rendering import RaySamples, Rendering

SAMPLES = 4


def rendering(shape: Tuple[int, ...], seed: int = 0, coarse: bool = True, samples: bool = True) -> Rendering:
    """Random pixels, each tensor of other values and of the channels that it really has."""
    generator = torch.Generator().manual_seed(seed)

    def values(*channels: int) -> Tensor:
        return torch.rand(*shape, *channels, generator=generator)

    along = RaySamples(values(SAMPLES), values(SAMPLES + 1), values(SAMPLES, 3), values(SAMPLES))
    return Rendering(
        *(values(3), values(1), values(1), values(1)),
        viewdirs=values(3) if samples else None,
        samples=along if samples else None,
        coarse=rendering(shape, seed + 1, False, samples) if coarse else None,
        extras={"weights_proposal_0": values(7), "t_proposal_0": values(8)},
    )


def tensors(record: Any, prefix: str = "") -> Iterator[Tuple[str, Tensor]]:
    """Every tensor of a record and of those inside it, by its path."""
    for each in fields(record):
        value = getattr(record, each.name)
        if isinstance(value, Tensor):
            yield f"{prefix}{each.name}", value
        elif isinstance(value, dict):
            yield from ((f"{prefix}{each.name}.{name}", part) for name, part in value.items())
        elif value is not None:
            yield from tensors(value, f"{prefix}{each.name}.")


def same(found: Rendering, expected: Dict[str, Tensor]) -> None:
    values = dict(tensors(found))
    assert values.keys() == expected.keys() and len(values) > 4
    for name, value in values.items():
        assert torch.equal(value, expected[name]), name


KINDS = [{}, {"coarse": False}, {"samples": False}, {"samples": False, "coarse": False}]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=["both", "one level", "no samples", "image"])


@each_kind
def test_map_changes_every_tensor(kind: Dict[str, bool]) -> None:
    given = rendering((5,), **kind)
    seen: List[Tensor] = []

    def double(value: Tensor) -> Tensor:
        seen.append(value)
        return 2 * value

    same(given.map(double), {name: 2 * value for name, value in tensors(given)})
    assert len(seen) == len(dict(tensors(given)))
    assert (given.map(double).samples is None) == (given.samples is None)
    assert (given.map(double).coarse is None) == (given.coarse is None)


@each_kind
def test_cat_puts_pixels_after_each_other(kind: Dict[str, bool]) -> None:
    parts = [rendering((count,), 10 * count, **kind) for count in (2, 3, 1)]
    whole = Rendering.cat(parts)
    assert whole.shape == (6,)
    named = [dict(tensors(part)) for part in parts]
    same(whole, {name: torch.cat([part[name] for part in named]) for name in named[0]})
    # Each part comes back as it was.
    for start, part in ((0, parts[0]), (2, parts[1]), (5, parts[2])):
        same(whole[start : start + part.shape[0]], dict(tensors(part)))
    assert Rendering.cat(parts[:1]) is parts[0]


@pytest.mark.parametrize(
    "index", [slice(1, 4), torch.tensor([3, 0, 3]), torch.tensor([True, False, True, True, False]), 2]
)
def test_pixels_by_index(index: Any) -> None:
    given = rendering((5,))
    found = given[index]
    same(found, {name: value[index] for name, value in tensors(given)})
    assert found.shape == torch.zeros(5)[index].shape


def test_first_dimension_of_images_is_the_camera() -> None:
    given = rendering((2, 3, 4))
    assert given[1].shape == (3, 4)
    same(given[1], {name: value[1] for name, value in tensors(given)})


def test_reshape_and_flatten_are_inverse() -> None:
    flat = rendering((24,))
    image = flat.reshape(2, 3, 4)
    assert image.shape == (2, 3, 4) and image.samples is not None and image.samples.t.shape == (2, 3, 4, SAMPLES + 1)
    assert image.coarse is not None and image.coarse.shape == (2, 3, 4) and image.coarse.samples is not None
    assert image.coarse.samples.rgb is not None and image.coarse.samples.rgb.shape == (2, 3, 4, SAMPLES, 3)
    # Pixels are in row-major order: camera, row, column.
    same(image[1], {name: value[12:].reshape(3, 4, *value.shape[1:]) for name, value in tensors(flat)})
    same(image.flatten(), dict(tensors(flat)))
    same(flat.flatten(), dict(tensors(flat)))
    same(flat.reshape(-1, 4), dict(tensors(flat.reshape(6, 4))))


def test_gradients_pass() -> None:
    given = rendering((6,)).map(lambda value: value.requires_grad_())
    changed = Rendering.cat([given[:2], given[2:]]).reshape(2, 3).flatten()[torch.tensor([4])]
    assert changed.samples is not None and given.samples is not None
    (changed.depth.sum() + changed.samples.weights.sum()).backward()
    for leaf in (given.depth, given.samples.weights):
        assert leaf.grad is not None and leaf.grad[4].all() and not leaf.grad[[0, 1, 2, 3, 5]].any()
    assert given.rgb.grad is None


def test_outputs_have_nerfstudios_names() -> None:
    given = rendering((5,))
    names = {"rgb", "depth", "accumulation", "weights_proposal_0", "t_proposal_0"}
    assert set(given.outputs()) == names
    assert given.outputs()["rgb"] is given.rgb and given.outputs()["depth"] is given.depth
