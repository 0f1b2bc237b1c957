"""ID-NeRF's presets: numbers of the originals, and steps of each on a tiny set in MVSNet's layout."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Optional, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.engine.optimizers import Optimizers

from fewshot_ns import registry
from fewshot_ns.data.dataparsers.multi.mvsnet_dtu import MVSNetDTUDataParserConfig

METHODS = ("idnerf", "idnerf_released", "matchnerf", "idnerf_lite", "matchnerf_lite")


def config_of(name: str) -> Any:
    return deepcopy(registry.method_specification(name).config)


@pytest.mark.parametrize("name", METHODS)
def test_numbers_of_the_originals(name: str) -> None:
    config = config_of(name)
    manager, lite, plain = config.pipeline.datamanager, name.endswith("lite"), name == "matchnerf"
    assert config.method_name == name.replace("_", "-")
    assert (manager.scenes_per_batch, manager.target_views, manager.num_sources) == (1, 1, (3,))
    assert (manager.sources.mode, manager.sources.count, manager.sources.distance) == ("nearest", 3, "l1")
    assert config.pipeline.diffusion.enabled == (name == "idnerf")
    rates = {group: options["optimizer"].lr for group, options in config.optimizers.items()}
    field = 1e-3 if lite else 5e-4 if plain else 5e-5
    # All groups that any choice of options has.
    assert rates == {"encoder": 5e-5, "field": field, "latent": 1e-3}
    norms = {group: options["optimizer"].max_norm for group, options in config.optimizers.items()}
    assert norms == {"encoder": 1.0, "field": None, "latent": None}
    if lite:
        assert (config.pipeline.model.refinement == "off") == (name == "matchnerf_lite")
        assert all(group["scheduler"].max_steps == config.max_num_iterations for group in config.optimizers.values())
        return
    assert manager.dataparser.many_scenes
    assert (manager.rays_per_scene, manager.train_source_mode, manager.train_source_among) == (1024, "pairs", 5)
    steps = (12 if plain else 25) * 30184
    assert config.max_num_iterations == steps and config.steps_per_eval_all_images == 30184
    for group in config.optimizers.values():
        assert group["optimizer"].weight_decay == 1e-4 and group["scheduler"].max_steps == steps


LEARNING = {
    "idnerf": {"encoder", "field", "latent"},
    "idnerf_released": {"encoder", "field"},
    "matchnerf": {"encoder", "field"},
    "idnerf_lite": {"field", "latent"},
    "matchnerf_lite": {"field"},
}
"""Groups of parameters that a preset has."""
SWITCHED = {
    "idnerf_lite": ("encoder.frozen", False, {"encoder", "field", "latent"}),
    "idnerf_released": ("train_latent", True, {"encoder", "field", "latent"}),
    "matchnerf": ("refinement", "per-view", {"encoder", "field", "latent"}),
    "matchnerf_lite": ("refinement", "per-view", {"field", "latent"}),
}
"""An option of the model that brings further ones, its value, and all that there are then."""


CASES = [(name, None) for name in METHODS] + list(SWITCHED.items())


@pytest.mark.parametrize("name, switch", CASES)
def test_steps_on_a_tiny_set(name: str, switch: Optional[Tuple[str, Any, set]], tiny_mvsnet: Path) -> None:
    config = config_of(name)
    manager, model = config.pipeline.datamanager, config.pipeline.model
    manager.dataparser = MVSNetDTUDataParserConfig(data=tiny_mvsnet, num_views=6, train_lights=(2, 3))
    manager.rays_per_scene, manager.sources.pool, manager.targets.views = 16, (), (0, 3)
    model.num_samples, model.width = 6, 16
    if switch is not None:
        part, _, option = switch[0].rpartition(".")
        setattr(getattr(model, part) if part else model, option, switch[1])
    config.pipeline.diffusion.enabled = False
    config.pipeline.evaluation.metrics = ("psnr",)
    torch.manual_seed(0)
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    groups = pipeline.get_param_groups()
    assert set(groups) == (switch[2] if switch else LEARNING[name])
    # As the trainer makes them, which drops those without parameters.
    optimizers = Optimizers(deepcopy(config.optimizers), groups)
    before = {group: [value.detach().clone() for value in values] for group, values in groups.items()}
    for step in range(2):
        _, losses, metrics = pipeline.get_train_loss_dict(step)
        assert set(losses) == {"rgb_loss"} and metrics["psnr"].isfinite()
        optimizers.zero_grad_all()
        losses["rgb_loss"].backward()
        optimizers.optimizer_step_all()
    for group, values in groups.items():
        assert any(not torch.equal(old, new) for old, new in zip(before[group], values, strict=True)), group
        assert all(value.isfinite().all() for value in values)


def test_published_figures() -> None:
    results = registry.paper_results("matchnerf")
    assert {(r.dataset, r.num_views) for r in results} == {
        (f"matchnerf-{data}", 3) for data in ("dtu", "llff", "blender", "tanks")
    }
    assert [r.value for r in results if r.dataset == "matchnerf-dtu"] == [26.91, 0.934, 0.159]
    # None of ID-NeRF's own were at hand.
    assert not any(registry.paper_results(name) for name in METHODS if name != "matchnerf")
