"""Every method trains, evaluates, saves and resumes on a pretended CUDA device, with every prior that it can have."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from pretended_gpu import pretended_gpu
from small_methods import one_scene, save_networks, small

from fewshot_ns import registry
from fewshot_ns.models.conditioned_model import ConditionedModelConfig
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig
from fewshot_ns.priors.base import prior_configs

STEPS = 2


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Tiny random networks of the real classes."""
    pytest.importorskip("diffusers", reason="needs the extra 'priors'")
    return save_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def make_config(
    networks: Dict[str, Path], tiny_rgbd_scene: Path, tiny_solids: Path, tiny_mvsnet: Path, tmp_path: Path
) -> Callable[[str], Any]:
    """Function (method) -> its config made tiny, for a GPU, with every prior that it can have."""

    def build(method: str) -> Any:
        config = small(method, networks, tiny_rgbd_scene, tiny_solids, tiny_mvsnet)
        given: Any = registry.method_specification(method).config
        if isinstance(config.pipeline.model, ConditionedModelConfig):
            one_scene(config)
        else:
            config.pipeline.datamanager.whole_images = given.pipeline.datamanager.whole_images
        if isinstance(config.pipeline.model, SparseSplatfactoModelConfig):
            # gsplat's kernels need the device itself.
            config.pipeline.model.rasterizer = "torch"
        config.output_dir, config.experiment_name, config.timestamp = tmp_path, "gpu", method
        config.vis, config.machine.device_type, config.max_num_iterations = "tensorboard", "cuda", STEPS
        config.steps_per_eval_batch = config.steps_per_eval_image = 1
        config.steps_per_eval_all_images = 0
        return config

    return build


def trained(config: Any) -> Any:
    torch.manual_seed(42)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def with_own_priors(config: Any, method: str) -> Any:
    given: Any = registry.method_specification(method).config
    for name, prior in prior_configs(config.pipeline).items():
        prior.enabled = prior_configs(given.pipeline)[name].enabled
    return config


def with_all_priors(config: Any, method: str) -> Any:
    """The config with every prior on that the method does not refuse."""
    priors = prior_configs(config.pipeline)
    for prior in priors.values():
        prior.enabled = True
    refused: Optional[str] = ""
    while refused is not None:
        if refused:
            priors[refused].enabled = False
        refused = refused_prior(config)
    return config


def refused_prior(config: Any) -> Optional[str]:
    """Name of a prior that the method refuses."""
    try:
        deepcopy(config.pipeline).setup(device="cpu", test_mode="val")
    except ValueError as error:
        if not str(error).startswith("--pipeline."):
            raise
        return str(error).removeprefix("--pipeline.").split(".")[0].replace("-", "_")
    return None


@pytest.mark.parametrize("method", registry.METHODS)
def test_method(method: str, make_config: Callable[[str], Any]) -> None:
    with pretended_gpu() as places:
        trainer = trained(with_own_priors(make_config(method), method))
        assert {value.device.type for value in trainer.pipeline.parameters()} == {"cuda"}
    print(places)
