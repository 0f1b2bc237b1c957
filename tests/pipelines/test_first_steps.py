"""The first 20 steps of every method, with its own priors, under torch's anomaly detection: no gradient on the way is
not a number, and parameters stay finite."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Iterator

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.engine.optimizers import Optimizers
from small_methods import one_scene, save_networks, small

from fewshot_ns import registry
from fewshot_ns.models.conditioned_model import ConditionedModelConfig
from fewshot_ns.priors.base import prior_configs
from fewshot_ns.utils.cache import CACHE_ENV

METHODS = tuple(registry.METHODS)
STEPS = 20


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Tiny random networks of the real classes."""
    pytest.importorskip("diffusers")
    return save_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_ENV, str(tmp_path_factory.getbasetemp() / "first_steps_cache"))


@pytest.fixture
def anomalies() -> Iterator[None]:
    """Backward passes in which a gradient is not a number raise."""
    with torch.autograd.set_detect_anomaly(True):
        yield


def with_own_priors(config: Any, method: str) -> Any:
    """A small config with those priors on that the method has on, from the first step."""
    own: Any = registry.method_specification(method).config.pipeline
    small_ones = prior_configs(config.pipeline)
    for name, prior in prior_configs(own).items():
        small_ones[name].enabled = prior.enabled
    config.pipeline.depth.loss = own.depth.loss
    config.pipeline.datamanager.whole_images = getattr(
        registry.method_specification(method).config.pipeline.datamanager, "whole_images", False
    )
    return config


FULL_SIZE = ("idnerf_released", "matchnerf", "idnerf")
"""Whose networks are as large as published; the lite forms take the same way through the code."""
TERMS = {
    "sparsenerf": "depth_ranking",
    "regnerf_lite": "depth_smoothness",
    "freenerf": "occlusion_loss",
    "dietnerf": "semantic",
    "depth_mipnerf": "depth_near",
}
"""A term of a prior that a method has on, which must have been there."""


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow if name in FULL_SIZE else ()) for name in METHODS]
)
def test_no_anomaly(
    method: str,
    networks: Dict[str, Path],
    tiny_rgbd_scene: Path,
    tiny_solids: Path,
    tiny_mvsnet: Path,
    anomalies: None,
) -> None:
    config = with_own_priors(small(method, networks, tiny_rgbd_scene, tiny_solids, tiny_mvsnet), method)
    if isinstance(config.pipeline.model, ConditionedModelConfig):
        one_scene(config)
    torch.manual_seed(0)
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    groups = pipeline.get_param_groups()
    optimizers = Optimizers(deepcopy(config.optimizers), groups)
    before = [value.detach().clone() for values in groups.values() for value in values]
    seen = set()
    for step in range(STEPS):
        pipeline.model.update_to_step(step)
        _, losses, _ = pipeline.get_train_loss_dict(step)
        assert all(term.isfinite() for term in losses.values()), (step, losses)
        seen |= set(losses)
        optimizers.zero_grad_all()
        torch.stack(list(losses.values())).sum().backward()
        optimizers.optimizer_step_all()
        optimizers.scheduler_step_all(step)
    after = [value for values in groups.values() for value in values]
    assert all(value.isfinite().all() for value in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert TERMS.get(method, "rgb_loss") in seen, seen
