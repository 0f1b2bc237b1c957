"""Which scenes a step takes, alone and among several ranks."""

from collections import Counter
from itertools import islice

import pytest
import torch

from fewshot_ns.data.multiscene.order import SceneOrder, step_generator


def taken(order: SceneOrder, step: int) -> list:
    return list(islice(order.scenes(step), order.per_step))


@pytest.mark.parametrize("num_scenes, per_step, world_size", [(12, 2, 1), (12, 2, 3), (13, 3, 2)])
def test_a_pass_of_all_ranks_takes_no_scene_twice(num_scenes: int, per_step: int, world_size: int):
    orders = [SceneOrder(num_scenes, per_step, seed=7, rank=rank, world_size=world_size) for rank in range(world_size)]
    steps = num_scenes // (per_step * world_size)
    assert orders[0].steps_per_pass == steps
    for number in range(5):
        seen = [scene for order in orders for step in range(steps) for scene in taken(order, number * steps + step)]
        assert len(seen) == len(set(seen)) == steps * per_step * world_size


def test_every_scene_gets_its_turn_and_no_two_passes_are_alike():
    order = SceneOrder(13, 3, seed=0)
    passes = [tuple(scene for step in range(4) for scene in taken(order, 4 * number + step)) for number in range(60)]
    counts = Counter(scene for seen in passes for scene in seen)
    assert set(counts) == set(range(13)) and min(counts.values()) > 40
    assert len(set(passes)) == 60


def test_a_step_is_a_function_of_its_number():
    order = SceneOrder(9, 2, seed=3)
    forward = [taken(order, step) for step in range(20)]
    assert [taken(order, step) for step in reversed(range(20))] == forward[::-1]
    assert forward != [taken(SceneOrder(9, 2, seed=4), step) for step in range(20)]


def test_fewer_scenes_than_the_ranks_take():
    orders = [SceneOrder(3, 2, seed=1, rank=rank, world_size=4) for rank in range(4)]
    for order in orders:
        assert len(set(taken(order, 5))) == 2
    assert SceneOrder(3, 8, seed=1).per_step == 3


def test_others_follow_to_take_the_places_of_unusable_ones():
    assert sorted(SceneOrder(6, 2, seed=1).scenes(4)) == list(range(6))


def test_a_step_needs_a_scene():
    with pytest.raises(ValueError, match="--pipeline.datamanager.scenes-per-batch: expected at least 1, got 0"):
        SceneOrder(3, 0, seed=1)


def test_random_numbers_of_a_step_and_rank():
    def draw(*key: int) -> list:
        return torch.rand(4, generator=step_generator(*key)).tolist()

    assert draw(1, 5, 0) == draw(1, 5, 0)
    assert len({tuple(draw(*key)) for key in ((1, 5, 0), (1, 5, 1), (1, 6, 0), (2, 5, 0))}) == 4
