"""Configs saved by an earlier version of the package load."""

from __future__ import annotations

import nerfstudio.configs.method_configs  # noqa: F401 - the host's modules import each other in this order only
import pytest
import yaml

from fewshot_ns.configs.dietnerf import dietnerf
from fewshot_ns.registry import METHODS, method_specification


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
