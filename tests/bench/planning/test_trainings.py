"""What rows do otherwise than the published trainings, said before and after they run."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Optional, Tuple

import pytest
from rich.console import Console

from fewshot_ns.bench.execution.estimate import Estimator
from fewshot_ns.bench.execution.plan_summary import print_plan, published_lines
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.planning.trainings import (
    flag_values,
    has_figures,
    same_value,
    training_differences,
    variant_words,
)
from fewshot_ns.bench.recipes.yaml_file import load_recipe


@dataclass(frozen=True)
class Training:
    """A training of sparsenerf on leaves as published, but for what is given."""

    method: str = "sparsenerf"
    protocol: str = "llff-3"
    folder_name: str = "leaves"
    overrides: Tuple[str, ...] = ("--pipeline.depth.box-pixels", "180")
    as_published: bool = True
    own_length: bool = True
    steps: Optional[int] = 90000


def test_flags_by_name():
    words = ("first", "--a_b", "1", "2", "--c", "--d=x=y", "--a-b", "3", "--c.e", "-5")
    assert flag_values(words) == {"c": "", "d": "x=y", "a-b": "3", "c.e": "-5"}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [("1e-5", "1e-05", True), ("1.0", "1", True), ("True", "False", False), (None, "1", False), ("a", "a", True)],
)
def test_values_of_flags(first, second, same):
    assert same_value(first, second) is same


def test_nothing_is_said_of_what_is_as_published():
    assert training_differences([Training(), Training(folder_name="fern", overrides=())]) == []
    # Explicit steps, and a number written otherwise, are the same.
    whole = Training(folder_name="room", overrides=("--pipeline.depth.box_fraction", "1"), own_length=False)
    assert training_differences([whole]) == []
    assert training_differences([Training(steps=None)]) == []


@pytest.mark.parametrize(
    ("trainings", "said"),
    [
        ([Training(overrides=())], "leaves without --pipeline.depth.box-pixels 180"),
        (
            [Training(folder_name=name, overrides=()) for name in ("fern", "room", "fortress")],
            "room, fortress without --pipeline.depth.box-fraction 1.0",
        ),
        ([Training(overrides=("--pipeline.depth.box-pixels", "60"))], "leaves without --pipeline.depth.box-pixels 180"),
        ([Training(steps=60000), Training(steps=70000)], "60000 to 70000 steps instead of 90000"),
        (
            [Training("regnerf", "llff-9", name, (), steps=69768) for name in ("fern", "room")],
            "without --pipeline.model.annealing.steps 0; 69768 steps instead of 209303",
        ),
        (
            [Training("dietnerf", "blender-8", "lego", ("--x", "1"), False, steps=200000)],
            "a variant of the method (--x 1)",
        ),
        (
            [Training("depth-mipnerf", "blender-first-3", "lego", (), True, False, 9)],
            "another length of training (9 steps)",
        ),
    ],
)
def test_what_differs_is_said(trainings, said):
    assert "; ".join(training_differences(trainings)) == said


def test_own_flags_are_told_without_the_published_ones():
    published = Training().overrides
    assert variant_words([Training()]) == ""
    own = Training(overrides=(*published, "--a", "1", "--b.c", "2", "--d"), as_published=False)
    assert training_differences([own, own]) == ["a variant of the method (--a 1, --b.c 2 and 1 more)"]


def test_figures_are_those_of_the_protocol():
    assert has_figures(Training()) and has_figures(Training("free-sparsenerf", folder_name="leaves"))
    assert not has_figures(Training("free-sparsenerf", folder_name="horns"))
    assert not has_figures(Training("sparsenerf-lite")) and not has_figures(Training("nerfacto"))
    assert not has_figures(Training(protocol="llff-6")) and not has_figures(Training(protocol="mine"))


def test_the_plan_says_it_of_every_row(write_recipe, data_root, tmp_path):
    (data_root / "plane").rename(data_root / "leaves")
    box = {"leaves": {"pipeline.depth.box-pixels": 180}}
    methods = [
        {"method": "sparsenerf", "label": "paper", "on-scenes": box, "as-published": True},
        {"method": "sparsenerf", "label": "short", "budget": {"steps": 9}},
        "freenerf-lite",
        "regnerf",
    ]
    recipe = load_recipe(write_recipe(methods=methods, scenes=["leaves"], budget=None))
    plan = make_plan(recipe, data_root, tmp_path / "out", "cpu")
    lines = published_lines(plan.cells)
    assert lines == [
        "paper, llff-3: trained as published",
        "short, llff-3: not as published: leaves without --pipeline.depth.box-pixels 180; 9 steps instead of 90000",
        "regnerf, llff-3: not as published: the paper's figures are with a normalising flow, which its released code "
        "does not have",
    ]
    text = io.StringIO()
    print_plan(plan, Estimator(plan), 1, False, Console(file=text, width=200))
    assert all(line in text.getvalue() for line in lines) and "by the method" not in text.getvalue()
