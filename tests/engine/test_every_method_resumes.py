"""2N steps in one go are N steps, an end, and N more from the checkpoint, bit for bit: every method there is."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from small_methods import small
from tiny_training import MODELS, differences, state_of

from fewshot_ns import registry
from fewshot_ns.engine.best import BEST_KEY
from fewshot_ns.model_components.splatting.densification import DensificationConfig
from fewshot_ns.models.compact import CompactModelConfig
from fewshot_ns.models.conditioned_model import ConditionedModelConfig
from fewshot_ns.models.pixelnerf import PixelNeRFModelConfig
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig
from fewshot_ns.priors.base import prior_configs
from fewshot_ns.utils.cache import CACHE_ENV

HALF = 3
TWINS = ("pixelnerf_srn", "pixelnerf_sn64_unseen", "pixelnerf_multi_object", "dietnerf_jax_coarse", "idnerf_released")
"""Methods that differ from another only in what tiny scenes do not show."""


@pytest.fixture
def make_config(
    networks: Dict[str, Path],
    tiny_rgbd_scene: Path,
    tiny_solids: Path,
    tiny_mvsnet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Any]:
    """Function (method) -> its config made tiny, with the priors that are its own, from the first step on."""
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))

    def build(method: str) -> Any:
        config = small(method, networks, tiny_rgbd_scene, tiny_solids, tiny_mvsnet)
        given: Any = registry.method_specification(method).config
        for name, prior in prior_configs(config.pipeline).items():
            prior.enabled = prior_configs(given.pipeline)[name].enabled
            if prior.enabled and hasattr(prior, "views"):
                # In every second step, so that a resumed run has to know which.
                prior.interval = 2
        if isinstance(config.pipeline.model, PixelNeRFModelConfig):
            config.pipeline.model.encoder.backbone = "resnet18"
        if not isinstance(config.pipeline.model, ConditionedModelConfig):
            config.pipeline.datamanager.whole_images = given.pipeline.datamanager.whole_images
            config.pipeline.datamanager.crop_steps = 0 if given.pipeline.datamanager.whole_images else HALF + 1
            if isinstance(config.pipeline.model, CompactModelConfig):
                # Planes open and near and far move in the second half too.
                config.pipeline.model.coarse_steps, config.pipeline.model.fine_steps = 2, 5
                config.pipeline.model.annealing.steps = 5
        if isinstance(config.pipeline.model, SparseSplatfactoModelConfig):
            model: Any = config.pipeline.model
            # In the second half: densified and pruned, with dropout and decay.
            model.densification = DensificationConfig(start_step=HALF, every=2, gradient=1e-9, stop_fraction=1.0)
            model.dropout_start_step, model.dropout_ramp_steps, model.decay_start_step = 1, 2, HALF + 1
        config.output_dir, config.experiment_name, config.vis = tmp_path, "every", "tensorboard"
        config.machine.device_type, config.max_num_iterations, config.steps_per_save = "cpu", 2 * HALF, HALF - 1
        config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 0
        config.save_only_latest_checkpoint = False
        return config

    return build


def train(config: Any, name: str, **changes: Any) -> Any:
    """What nerfstudio's script does in one process."""
    config = deepcopy(config)
    config.timestamp = name
    for key, value in changes.items():
        assert hasattr(config, key)
        setattr(config, key, value)
    random.seed(42)
    np.random.seed(42)
    torch.manual_seed(42)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def check(config: Any) -> Any:
    """Holds a run that was resumed in the middle to the one in one go; gives the state in which both end."""
    whole = train(config, "whole")
    between, end = HALF - 1, 2 * HALF - 1
    resumed = train(config, "resumed", load_dir=whole.base_dir / MODELS, load_step=between)
    expected, middle = state_of(whole.base_dir, end), state_of(whole.base_dir, between)
    assert differences(expected, state_of(resumed.base_dir, end)) == []
    # Or nothing would be shown by it.
    assert differences(middle["pipeline"], expected["pipeline"]) and expected["training_clock"]["steps"] == 2 * HALF
    assert any(group["state"] for group in expected["optimizers"].values())
    return expected


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow if name in TWINS else ()) for name in registry.METHODS]
)
def test_every_method(method: str, make_config: Callable[[str], Any]) -> None:
    check(make_config(method))


def test_splats_that_are_densified_in_the_second_half(make_config: Callable[[str], Any]) -> None:
    expected = check(make_config("sparse_splatfacto_lite"))["pipeline"]
    assert len(expected["_model.gauss_params.means"]) > 60


@pytest.mark.parametrize("method", ["sparsenerf", "freenerf_lite", "sparse_splatfacto_lite"])
def test_refined_poses_and_the_best_checkpoint(method: str, make_config: Callable[[str], Any]) -> None:
    config = make_config(method)
    config.pipeline.model.camera_optimizer = CameraOptimizerConfig(mode="SO3xR3")
    config.keep_best, config.keep_best_every, config.keep_best_views = "psnr", 2, (2,)
    expected = check(config)
    assert expected["pipeline"]["_model.camera_optimizer.pose_adjustment"].abs().max() > 0
    assert expected[BEST_KEY]["views"] == [2]


def test_priors_that_begin_and_end_and_evaluation_between(make_config: Callable[[str], Any]) -> None:
    """A prior that ends in the first half, one that begins in the second, and draws of the evaluation."""
    config = make_config("sparsenerf_lite")
    config.pipeline.depth.stop_step, config.pipeline.smoothness.enabled = HALF - 1, True
    config.pipeline.smoothness.start_step = HALF + 1
    config.steps_per_eval_batch, config.steps_per_eval_image = 1, 2
    check(config)


def test_parts_of_the_network_that_stay_as_they_are(make_config: Callable[[str], Any]) -> None:
    config = make_config("idnerf_lite")
    config.pipeline.model.encoder.frozen = True
    expected = check(config)
    assert not expected["optimizers"].get("encoder", {}).get("state")


def test_a_run_that_had_nothing_left_to_train(make_config: Callable[[str], Any]) -> None:
    """Its checkpoint is the one that it was given, random states and all."""
    config = make_config("sparsenerf_lite")
    whole = train(config, "whole")
    source = whole.base_dir / MODELS
    again = train(config, "again", load_dir=source, load_step=HALF - 1, max_num_iterations=HALF)
    given, found = state_of(whole.base_dir, HALF - 1), state_of(again.base_dir, HALF - 1)
    assert differences(given["random_states"], found["random_states"]) == []
    resumed = train(config, "resumed", load_dir=again.base_dir / MODELS)
    end = 2 * HALF - 1
    assert differences(state_of(whole.base_dir, end)["pipeline"], state_of(resumed.base_dir, end)["pipeline"]) == []
