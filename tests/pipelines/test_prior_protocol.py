"""A prior from outside of the package (docs/add_a_prior.md) trains through the real trainer, on both pipelines."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, List

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
import tyro
from documented_code import page_module

from fewshot_ns import registry
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.priors.base import prior_configs


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ModuleType]:
    with page_module("add_a_prior.md", tmp_path) as module:
        yield module


def trained(config: Any, folder: Path, steps: int = 2) -> List[dict]:
    """Loss terms of each step of a run of the real trainer."""
    config.output_dir, config.experiment_name, config.timestamp = folder, "protocol", "run"
    config.vis, config.machine.device_type, config.max_num_iterations = "tensorboard", "cpu", steps
    config.steps_per_eval_image, config.steps_per_eval_all_images, config.steps_per_eval_batch = 0, 0, 0
    trainer = config.setup()
    trainer.setup()
    found, step_of = [], trainer.pipeline.get_train_loss_dict

    def recorded(step: int) -> Any:
        result = step_of(step)
        found.append({name: float(term.detach()) for name, term in result[1].items()})
        return result

    trainer.pipeline.get_train_loss_dict = recorded
    trainer.train()
    return found


def test_on_a_single_scene(
    page: ModuleType, tiny_llff_scene: Path, tiny_pipeline_config: Callable[[Any], Any], tmp_path: Path
) -> None:
    method = deepcopy(registry.method_specification("sparsenerf_lite").config)
    method.pipeline = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    config = page.with_opacity(method)
    config.pipeline.opacity.enabled = True
    losses = trained(config, tmp_path / "runs")
    assert len(losses) == 2
    for step in losses:
        # The field comes last in the config, and so does the term; those of the preset are all there.
        assert list(step)[-1] == "opacity" and step["opacity"] > 0
        assert {"depth_ranking", "distortion_loss", "plane_smoothness_loss"} <= step.keys()
    (run,) = (tmp_path / "runs").rglob("resolved.json")
    assert json.loads(run.read_text("utf8"))["opacity"] == {}


def test_on_many_scenes(page: ModuleType, tiny_pixelnerf: Callable[..., Any], tmp_path: Path) -> None:
    method = deepcopy(registry.method_specification("pixelnerf_lite").config)
    method.pipeline = tiny_pixelnerf()
    config = page.with_opacity(method)
    config.pipeline.opacity.enabled, config.pipeline.opacity.start_step = True, 1
    first, second = trained(config, tmp_path / "runs")
    assert "opacity" not in first and second["opacity"] > 0


def test_its_flags(page: ModuleType) -> None:
    config = page.with_opacity(deepcopy(registry.method_specification("freenerf_lite").config))
    assert list(prior_configs(config.pipeline))[-1] == "opacity"
    flags = ["--opacity.enabled", "True", "--opacity.weight", "0.5", "--opacity.stop-step", "7"]
    # The choice of a dataparser is nerfstudio's, and not what is tested.
    config.pipeline.datamanager = None
    parsed = tyro.cli(type(config.pipeline), default=config.pipeline, args=flags, config=(tyro.conf.FlagConversionOff,))
    assert parsed.opacity.enabled and parsed.opacity.weight == 0.5 and parsed.opacity.stop_step == 7
    # What the method had is there as before.
    assert parsed.occlusion.enabled and parsed.occlusion.num_samples == 1


def test_the_term_against_its_formula(page: ModuleType) -> None:
    opacity = torch.tensor([[0.5], [0.25]], dtype=torch.float64, requires_grad=True)
    expected = -(0.5 * 2 * torch.tensor(0.5, dtype=torch.float64).log())
    quarter = torch.tensor([0.25, 0.75], dtype=torch.float64)
    expected = 0.5 * (expected - (quarter * quarter.log()).sum())
    torch.testing.assert_close(page.opacity_entropy(opacity), expected)
    assert torch.autograd.gradcheck(page.opacity_entropy, (opacity,))
