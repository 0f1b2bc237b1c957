"""Every method trains and evaluates on a pretended CUDA device (`pretended_gpu.py`), so that what would mix devices on
a real one is found where there is none. A method of the registry is checked without a word here."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Set

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from pretended_gpu import pretended_gpu
from small_methods import one_scene, small

from fewshot_ns import registry
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.model_components.splatting.densification import DensificationConfig
from fewshot_ns.model_components.splatting.rasterization import rasterization, rasterization_of
from fewshot_ns.models.conditioned_model import ConditionedModelConfig
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig
from fewshot_ns.priors.base import prior_configs
from fewshot_ns.priors.distortion import DistortionPrior

STEPS = 2
SLOW = (
    *("idnerf_released", "matchnerf", "idnerf", "idnerf_lite", "matchnerf_lite"),
    *("pixelnerf_srn", "pixelnerf_sn64_unseen", "pixelnerf_multi_object"),
)
"""Whose matching network is as large as published, or who differ from another only in what tiny scenes do not show."""
WITH_ALL_PRIORS = ("sparsenerf", "sparsenerf_lite", "sparse_splatfacto_lite", "pixelnerf_lite")
"""One of each kind of backbone."""
WAITS: Dict[str, str] = {
    "cameras.pinholes:check_pinholes": "kinds of cameras",
    "cameras.pixel_grids:grid_cameras": "sizes of cameras that a prior draws",
    "cameras.ray_space:camera_rays": "nerfstudio's rays: which cameras are distorted, and of which kind",
    "data.datamanagers.fewshot:_batch": "nerfstudio's rays of the training pixels, the same",
    "data.datamanagers.fewshot:setup_eval": "nerfstudio's grid of pixels, once",
    "data.datamanagers.fewshot:setup_train": "nerfstudio's grid of pixels, once",
    "data.samplers.unseen_views:__init__": "bounds of the cameras, once",
    "engine.checks:check_gradients": "a gradient that is not finite ends the run",
    "engine.trainer:train": "nerfstudio's log",
    "evaluation.metrics.image:_checked": "an image that is not finite has no figure",
    "evaluation.metrics.suite:value_of": "figures of an evaluation",
    "model_components.losses:depth_gap_slope": "pairs that break the order",
    "model_components.splatting.compositing:_starts": "Gaussians of each pixel",
    "model_components.splatting.densification:step": "Gaussians that are added and taken away",
    "model_components.splatting.fragments:_repeat": "fragments of each Gaussian",
    "model_components.splatting.fragments:bands": "fragments of a part of the image",
    "model_components.splatting.fragments:rows_of": "Gaussians of a part of the image",
    "model_components.splatting.rasterization:rasterization": "Gaussians that a camera sees",
    "models.fewshot_model:get_image_metrics_and_images": "nerfstudio's colours of a depth image",
    "models.pose_refinement:_say_pose_changes": "the same in words",
    "models.ray_model:get_outputs_for_camera": "nerfstudio's rays of a camera",
    "models.sparse_splatfacto:learning_rate_scales": "size of a pixel, once",
    "models.sparse_splatfacto:render_cameras": "size of the image",
    "pipelines.fewshot_pipeline:get_eval_image_metrics_and_images": "number of pixels, for the log",
    "pipelines.fewshot_pipeline:get_eval_loss_dict": "nerfstudio's rays of test pixels",
    "pipelines.fewshot_pipeline:training_poses": "how far refined poses have moved, for the record",
    "pipelines.generalizable_pipeline:_eval_image": "number of pixels, for the log",
}
"""Places in the package that wait for the device, `module:function`, and why they may: what they do depends on values
that lie there. One that is not listed fails, and so does one that is listed and waits no more."""
WAITS_OF_SLOW = {"evaluation.metrics.image:masked_psnr": "pixels of the object"}
"""The same, where only methods of `SLOW` come to."""
seen: Dict[str, Set[str]] = {}
"""Those of the tests that ran, by their names."""


@pytest.fixture
def make_config(
    networks: Dict[str, Path], tiny_rgbd_scene: Path, tiny_solids: Path, tiny_mvsnet: Path, tmp_path: Path
) -> Callable[[str], Any]:
    """Function (method) -> its config made tiny, with the priors that are its own, for a GPU."""

    def build(method: str) -> Any:
        config = small(method, networks, tiny_rgbd_scene, tiny_solids, tiny_mvsnet)
        given: Any = registry.method_specification(method).config
        for name, prior in prior_configs(config.pipeline).items():
            prior.enabled = prior_configs(given.pipeline)[name].enabled
        if isinstance(config.pipeline.model, ConditionedModelConfig):
            one_scene(config)
        else:
            config.pipeline.datamanager.whole_images = given.pipeline.datamanager.whole_images
        if isinstance(config.pipeline.model, SparseSplatfactoModelConfig):
            # See `test_gsplats_kernels_are_what_is_left_out`.
            config.pipeline.model.rasterizer = "torch"
            config.pipeline.model.densification = DensificationConfig(
                start_step=0, every=1, gradient=1e-9, stop_fraction=1.0
            )
        config.output_dir, config.experiment_name, config.timestamp = tmp_path, "gpu", method
        config.vis, config.machine.device_type, config.max_num_iterations = "tensorboard", "cuda", STEPS
        config.steps_per_eval_batch = config.steps_per_eval_image = 1
        config.steps_per_eval_all_images = 0
        return config

    return build


def train(config: Any) -> Any:
    """What nerfstudio's script does in one process: the first checkpoint is written, too."""
    torch.manual_seed(42)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def check(config: Any, name: str) -> Any:
    """Trains on the pretended device, and holds the run to have been there."""
    with pretended_gpu() as places:
        trainer = train(config)
        seen[name] = set(places)
        lying = {value.device.type for value in (*trainer.pipeline.parameters(), *trainer.pipeline.buffers())}
        assert lying == {"cuda"}
        states = [state for one in trainer.optimizers.optimizers.values() for state in one.state.values()]
        assert states and all(state["exp_avg"].device.type == "cuda" for state in states if "exp_avg" in state)
    (checkpoint,) = (trainer.base_dir / "nerfstudio_models").glob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["step"] == config.max_num_iterations - 1
    unknown = {place: sorted(places[place]) for place in places if place not in {**WAITS, **WAITS_OF_SLOW}}
    assert not unknown, f"places that wait for the device and have no reason in WAITS: {unknown}"
    return trainer


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in registry.METHODS]
)
def test_every_method(method: str, make_config: Callable[[str], Any]) -> None:
    check(make_config(method), method)


def refused_prior(config: Any) -> Optional[str]:
    """Name of a prior that the method refuses."""
    try:
        deepcopy(config.pipeline).setup(device="cpu", test_mode="val")
    except ValueError as error:
        if not str(error).startswith("--pipeline."):
            raise
        return str(error).removeprefix("--pipeline.").split(".")[0].replace("-", "_")
    return None


@pytest.mark.parametrize("method", WITH_ALL_PRIORS)
def test_every_prior_that_a_method_can_have(method: str, make_config: Callable[[str], Any]) -> None:
    config = make_config(method)
    priors = prior_configs(config.pipeline)
    for prior in priors.values():
        prior.enabled = True
    refused = refused_prior(config)
    while refused is not None:
        priors[refused].enabled = False
        refused = refused_prior(config)
    assert sum(prior.enabled for prior in priors.values()) >= 3
    check(config, f"{method}, all priors")


@pytest.mark.parametrize("method", ["freenerf_lite", "sparse_splatfacto_lite"])
def test_photos_with_alpha_whole_images_refined_poses_and_a_checkpoint_of_a_cpu(
    method: str, make_config: Callable[[str], Any], tiny_blender_scene: Path
) -> None:
    """Resumed on the GPU, evaluated on all views, with the best checkpoint kept."""
    config = make_config(method)
    config.pipeline.datamanager.dataparser = FewShotBlenderDataParserConfig(data=tiny_blender_scene)
    config.pipeline.datamanager.whole_images = True
    config.pipeline.silhouette.enabled = config.pipeline.edge_smoothness.enabled = True
    config.pipeline.model.camera_optimizer = CameraOptimizerConfig(mode="SO3xR3")
    first = deepcopy(config)
    first.machine.device_type, first.timestamp, first.max_num_iterations = "cpu", "first", 1
    begun = train(first)
    config.load_dir = begun.base_dir / "nerfstudio_models"
    config.keep_best, config.keep_best_every, config.steps_per_eval_all_images = "psnr", 1, 1
    trainer = check(config, f"{method}, resumed")
    assert (trainer.base_dir / "best.json").is_file() and len(list(trainer.base_dir.glob("eval/*.jsonl"))) == 1


def test_gsplats_kernels_are_what_is_left_out() -> None:
    """A GPU renders by them, and nothing else can run them; the same in torch takes their place here."""
    assert rasterization_of(torch.device("cuda")) is not rasterization
    assert rasterization_of(torch.device("cuda"), "torch") is rasterization


def test_a_prior_that_makes_a_tensor_where_the_model_is_not_is_found(
    make_config: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = DistortionPrior.loss_dict

    def wrong(self: DistortionPrior, *args: Any) -> Dict[str, torch.Tensor]:
        return {name: (term * torch.ones(1)).sum() for name, term in right(self, *args).items()}

    monkeypatch.setattr(DistortionPrior, "loss_dict", wrong)
    config = make_config("freenerf_lite")
    with pretended_gpu(), pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        train(config)
    config.machine.device_type, config.timestamp = "cpu", "cpu"
    train(config)


def test_every_place_that_may_wait_still_does() -> None:
    """Runs last: a listed place that no method waits in any more is to be taken off the list."""
    if missing := set(registry.METHODS) - set(SLOW) - set(seen):
        pytest.skip(f"needs the whole file to have run, {len(missing)} methods have not")
    listed = {*WAITS, *(WAITS_OF_SLOW if set(SLOW) <= set(seen) else ())}
    assert listed - set().union(*seen.values()) == set()
