"""Estimates of time, and what the screen says of it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fewshot_ns.bench.execution.cells import Outcome
from fewshot_ns.bench.execution.estimate import Estimator, duration
from fewshot_ns.bench.execution.progress import Board
from fewshot_ns.bench.execution.records import FINISHED, write_record
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.yaml_file import load_recipe


@pytest.fixture
def plan_of(write_recipe, data_root, tmp_path):
    """Function (keys of a recipe) -> plan on the CPU."""

    def plan(**keys):
        return make_plan(load_recipe(write_recipe(**keys)), data_root, tmp_path / "out", "cpu")

    return plan


def finish(cell, seconds):
    write_record(cell, FINISHED, trained=True, seconds_training=seconds - 1.0, seconds_evaluation=1.0)


def test_cells_alike_say_how_long_it_takes(plan_of):
    plan = plan_of(methods=["mipnerf-fewshot-lite", "freenerf-lite"], seeds=[0, 1, 2])
    estimator = Estimator(plan)
    assert estimator.seconds(plan.cells[0]) is None and estimator.total(plan.cells, 2) is None
    finish(plan.cells[0], 10.0)
    finish(plan.cells[2], 20.0)
    estimator = Estimator(plan)
    assert estimator.seconds(plan.cells[4]) == 15.0 and estimator.seconds(plan.cells[1]) is None
    finish(plan.cells[1], 100.0)
    estimator.learn(plan.cells[1])
    assert estimator.total(plan.cells[3:5], 1) == 115.0
    assert estimator.total(plan.cells[3:5], 2) == 100.0  # None is done before the longest.
    assert estimator.total([], 2) == 0.0


def test_a_limit_stands_in_where_nothing_has_run(plan_of):
    plan = plan_of(budget={"steps": 4, "cpu-seconds": 60})
    seconds = Estimator(plan).seconds(plan.cells[0])
    assert seconds is not None and 60.0 < seconds < 120.0


def test_the_screen_counts_what_is_done_what_failed_and_what_is_left(plan_of):
    plan = plan_of(seeds=[0, 1, 2])
    text = io.StringIO()
    board = Board(Console(file=text, width=200), plan.cells, Estimator(plan), 1)
    with board.showing():
        board.ended(plan.cells[0], Outcome(plan.cells[0].name, "failed", 3.0, "no scene\nand more"))
        finish(plan.cells[1], 200.0)
        board.ended(plan.cells[1], Outcome(plan.cells[1].name, "finished", 200.0))
        board.ended(plan.cells[2], Outcome(plan.cells[2].name, "reused", 0.0))
    lines = text.getvalue().splitlines()
    name = "plane / mipnerf-fewshot-lite / seed"
    assert lines[0] == f"1/3 failed {name} 0 (3 s; 1 failed, time left unknown) no scene"
    assert lines[1] == f"2/3 finished {name} 1 (3 min; 1 failed, about 3 min left)"
    assert lines[2] == f"3/3 reused {name} 2 (0 s; 1 failed)"


def test_durations_are_said_as_people_do():
    assert [duration(seconds) for seconds in (5.2, 100, 7200, 90000)] == ["5 s", "2 min", "2.0 h", "25.0 h"]
