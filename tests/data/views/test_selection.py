"""Protocols and explicit indices."""

from __future__ import annotations

import pytest

from fewshot_ns.data.views.selection import (
    BLENDER_8_VIEWS,
    BLENDER_ONE_SIDED_VIEWS,
    DTU_BAD_EXPOSURE,
    blender_protocol,
    dtu_protocol,
    every_eighth_protocol,
    photos_protocol,
    select_views,
)


def test_llff_rounds_half_way_positions_to_even():
    # Pool of 7 for 8 images: positions 0, 1.5, 3, 4.5, 6 -> 0, 2, 3, 4, 6.
    selection = select_views(every_eighth_protocol(8), 5)
    assert selection.train == (1, 3, 4, 5, 7)
    assert selection.test == (0,)
    assert selection.protocol == "llff-5"


@pytest.mark.parametrize("count", [20, 25, 34, 62])
@pytest.mark.parametrize("views", [2, 3, 6, 9])
def test_llff_train_and_test_are_disjoint_and_distinct(count, views):
    selection = select_views(every_eighth_protocol(count), views)
    assert len(set(selection.train)) == views
    assert not set(selection.train) & set(selection.test)


def test_dtu_test_views_do_not_depend_on_the_number_of_views():
    tests = {select_views(dtu_protocol(49, "pixelnerf"), views).test for views in (2, 3, 6, 9)}
    assert len(tests) == 1
    (test,) = tests
    assert len(test) == 25
    assert not set(test) & {25, 22, 28, 40, 44, 48, 0, 8, 13, *DTU_BAD_EXPOSURE}


def test_blender_first_and_seeded_frames():
    assert select_views(blender_protocol(100, 200, 8, "first"), 3).train == (0, 1, 2)
    seeded = [select_views(blender_protocol(100, 200, 8, "seeded", 7), count) for count in (3, 6)]
    assert seeded[0].train == seeded[1].train[:3] and len(set(seeded[1].train)) == 6
    assert seeded[0].protocol == "blender-seed7-3"
    # Numpy's stream for a seed is the same everywhere.
    assert seeded[0].train == (37, 26, 78)
    with pytest.raises(ValueError, match="unknown Blender view protocol 'last'"):
        blender_protocol(10, 4, 2, "last")  # type: ignore[arg-type]


def test_blender_uses_the_published_list_then_equal_steps():
    rule = blender_protocol(100, 200, 8)
    assert select_views(rule, 8).train == BLENDER_8_VIEWS
    assert select_views(rule, 4).train == BLENDER_8_VIEWS[:4]
    assert select_views(rule, 4).test == tuple(range(100, 300, 8))
    assert select_views(rule, 10).train == (0, 11, 22, 33, 44, 55, 66, 77, 88, 99)
    assert select_views(blender_protocol(10, 4, 2), 3).train == (0, 4, 9)


def test_explicit_indices_win_and_keep_their_order():
    selection = select_views(every_eighth_protocol(20), 3, train_indices=(9, 2), test_indices=(0, 1))
    assert selection.train == (9, 2) and selection.test == (0, 1) and selection.protocol == "indices"


def test_one_explicit_list_takes_its_views_from_the_other():
    rule = every_eighth_protocol(20)
    assert select_views(rule, 3, train_indices=(0, 5)).test == (8, 16)
    selection = select_views(rule, 3, test_indices=(1, 10))
    assert not set(selection.train) & {1, 10} and len(selection.train) == 3
    assert select_views(dtu_protocol(49, "pixelnerf"), 3, test_indices=(22,)).train == (25, 28, 40)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"train_indices": (0, 20)}, r"scene: --train-indices must lie in 0..19 \(20 views\), got \[20\]"),
        ({"test_indices": (-1,)}, r"--test-indices must lie in 0..19"),
        ({"train_indices": (1, 2, 1)}, r"each view once, got \[1\]"),
        (
            {"train_indices": (1, 2), "test_indices": (2, 3)},
            r"views \[2\] are in --train-indices and in --test-indices",
        ),
        ({"train_indices": (4,)}, "at least 2 views, got 1"),
        ({"train_indices": ()}, "at least 2 views, got 0"),
        ({"num_views": 1}, "at least 2 views, got 1"),
        ({"num_views": 18}, r"--num-views must lie in 2..17 .* got 18"),
        ({"num_views": -3}, "--num-views must lie in"),
    ],
)
def test_bad_choices_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        select_views(every_eighth_protocol(20), **{"num_views": 3, **flags})


def test_protocol_that_does_not_fit_the_scene_is_refused():
    with pytest.raises(ValueError, match=r"trains on views \[25, 22, 28\], but the scene has only 10"):
        select_views(dtu_protocol(10, "pixelnerf"), 3)


def test_unknown_dtu_rule_is_refused():
    with pytest.raises(ValueError, match="unknown DTU"):
        dtu_protocol(49, "other")  # pyright: ignore[reportArgumentType]


def test_one_sided_lists_are_taken_whole_and_leave_the_other_poses_in_the_pool():
    for kind, views in BLENDER_ONE_SIDED_VIEWS.items():
        for count in (8, 0):
            selection = select_views(blender_protocol(100, 20, 8, kind), count)
            assert selection.train == views and selection.protocol == f"blender-{kind}-14"
            assert selection.pool == tuple(range(100)) and selection.test == (100, 108, 116)
        with pytest.raises(ValueError, match=rf"{kind} trains on frames .* has only {max(views)}"):
            blender_protocol(max(views), 20, 8, kind)


def test_the_pool_holds_every_candidate():
    assert select_views(every_eighth_protocol(10), 3).pool == (1, 2, 3, 4, 5, 6, 7, 9)
    assert select_views(every_eighth_protocol(10), 3, train_indices=(0, 1)).pool == (1, 2, 3, 4, 5, 6, 7, 9)
    assert select_views(blender_protocol(10, 4, 2), 0).train == tuple(range(10))


def test_nothing_is_held_out_where_all_views_are_asked_for():
    three = every_eighth_protocol(3)
    for chosen in (select_views(three, None), select_views(three, 3), select_views(three, 3, (0, 1, 2))):
        assert chosen.train == (0, 1, 2) and chosen.test == ()
    assert select_views(three, 2).test == (0,)
    assert select_views(every_eighth_protocol(20), 20).train == tuple(range(20))
    assert select_views(every_eighth_protocol(20), 3, test_indices=()).test == ()


def test_a_capture_says_itself_what_is_held_out():
    assert select_views(photos_protocol(5, []), None).train == (0, 1, 2, 3, 4)
    chosen = select_views(photos_protocol(5, [3]), None)
    assert (chosen.protocol, chosen.train, chosen.test) == ("photos-4", (0, 1, 2, 4), (3,))
    assert select_views(photos_protocol(5, [3]), 2).train == (0, 4)
