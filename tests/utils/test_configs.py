"""Configs saved by an earlier version of the package load."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, Mapping, Optional

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import yaml

from fewshot_ns.configs.dietnerf import dietnerf
from fewshot_ns.registry import METHODS, method_specification
from fewshot_ns.utils.configs import SavedConfig


def _without(value, names):
    """A copy of a config tree in which no object has the named attributes."""
    text = yaml.dump(value)
    restored = yaml.load(text, Loader=yaml.Loader)
    pending = [restored]
    while pending:
        one = pending.pop()
        for name, child in list(vars(one).items()):
            if name in names:
                del one.__dict__[name]
            elif hasattr(child, "__dataclass_fields__"):
                pending.append(child)
    return yaml.load(yaml.dump(restored), Loader=yaml.Loader)


def test_younger_fields_of_a_saved_config_get_their_defaults():
    younger = {"diffusion", "semantic", "views", "evaluation", "interval", "mono"}
    restored = _without(dietnerf, younger)
    pipeline = restored.pipeline
    assert pipeline.semantic.enabled is False and pipeline.semantic.interval == 10  # defaults, not dietnerf's
    assert pipeline.diffusion.enabled is False and pipeline.semantic.views.grid_size == 168
    assert pipeline.depth.mono is not None and pipeline.evaluation is not None
    assert pipeline.model == dietnerf.pipeline.model


@pytest.mark.parametrize("name", sorted(METHODS))
def test_saved_configs_are_restored_as_they_were(name):
    config = method_specification(name).config
    assert yaml.load(yaml.dump(config), Loader=yaml.Loader) == config


@dataclass
class Inner(SavedConfig):
    """A model that had a weight, which is a prior's today, and an option that is no more."""

    width: int = 64


@dataclass
class Prior(SavedConfig):
    enabled: bool = False
    weight: float = 0.1
    steps: Optional[int] = 10


@dataclass
class Middle(SavedConfig):
    moved_fields: ClassVar[Mapping[str, str]] = {"inner.prior_steps": "prior.steps", "depth": "inner.width"}
    inner: Inner = field(default_factory=Inner)
    prior: Prior = field(default_factory=Prior)

    @classmethod
    def upgrade(cls, state: Dict[str, Any], outdated: Dict[str, Any]) -> None:
        weight = outdated.pop("inner.prior_weight", 0.0)
        if weight < 0:
            raise ValueError("expected a weight of at least 0; train anew")
        if weight > 0:
            state["prior"].enabled, state["prior"].weight = True, weight


@dataclass
class Outer(SavedConfig):
    outermost: ClassVar[bool] = True
    middle: Middle = field(default_factory=Middle)


def _saved(**fields_of_inner: Any) -> str:
    """An Outer as a version saved it whose Inner had other fields."""
    outer = Outer()
    outer.middle.inner.__dict__.update(fields_of_inner)
    del outer.middle.prior
    return yaml.dump(outer)


def test_a_field_that_moved_is_carried_over(capsys: pytest.CaptureFixture) -> None:
    restored = yaml.load(_saved(prior_weight=0.5, width=32), Loader=yaml.Loader)
    assert restored == Outer(Middle(Inner(32), Prior(enabled=True, weight=0.5)))
    assert vars(restored.middle.inner) == {"width": 32}
    restored = yaml.load(_saved(prior_steps=None), Loader=yaml.Loader)
    assert restored == Outer(Middle(Inner(), Prior(steps=None)))
    outer = Outer()
    outer.middle.__dict__["depth"] = 8
    assert deepcopy(outer) == Outer(Middle(Inner(8)))
    assert capsys.readouterr().out == ""


def test_what_has_no_counterpart_is_named_in_one_line(capsys: pytest.CaptureFixture) -> None:
    restored = yaml.load(_saved(prior_weight=0.0, octaves=6, bias="none"), Loader=yaml.Loader)
    assert restored == Outer() and vars(restored.middle.inner) == {"width": 64}
    line = "Config of an earlier version: without effect today are middle.inner.bias, middle.inner.octaves.\n"
    assert capsys.readouterr().out == line
    yaml.load(yaml.dump(restored), Loader=yaml.Loader)
    deepcopy(restored)
    assert capsys.readouterr().out == ""


def test_what_cannot_be_carried_over_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a weight of at least 0"):
        yaml.load(_saved(prior_weight=-1.0), Loader=yaml.Loader)
