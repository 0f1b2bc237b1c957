"""Every method: it is built, takes a step through pipeline, optimizer and scheduler, and takes any prior."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from fewshot_ns import registry
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.models.compact import CompactModelConfig
from fewshot_ns.models.mipnerf import MipNeRFModelConfig

FAMILY = ("mipnerf_fewshot", "regnerf", "freenerf", "sparsenerf", "free_sparsenerf")
METHODS = [*FAMILY, *(f"{name}_lite" for name in FAMILY)]
METRIC_METHODS = ("depth_mipnerf", "depth_mipnerf_lite")
"""Methods that need depth of known scale."""
DEPTH_TERMS = {"depth_ranking", "depth_continuity"}


def config_of(name: str) -> Any:
    return deepcopy(registry.method_specification(name).config)


def make_small(config: Any, data: Any) -> Any:
    """The method on a scene, milliseconds per step."""
    manager, model = config.pipeline.datamanager, config.pipeline.model
    manager.dataparser = data
    manager.train_num_rays_per_batch = 64
    config.pipeline.evaluation.metrics = ("psnr",)
    config.pipeline.smoothness.num_patches, config.pipeline.smoothness.num_poses = 2, 5
    if config.pipeline.depth.num_quads is not None:
        config.pipeline.depth.num_quads = 8
    if config.pipeline.depth.box_fraction is None:
        config.pipeline.depth.box_pixels = 8
    model.width, model.num_layers, model.num_octaves, model.num_samples = 16, 3, 4, 8
    model.skip_layer = 1
    if hasattr(model, "proposal_resolution"):
        model.num_proposal_samples = model.proposal_resolution = 8
    if hasattr(model, "proposal_width"):
        model.num_proposal_samples, model.proposal_width = (8, 8), 16
    return config


@pytest.fixture(params=["ndc", "metric"])
def data(request: pytest.FixtureRequest) -> Any:
    if request.param == "metric":
        return DTUDataParserConfig(data=request.getfixturevalue("tiny_dtu_scene"), depth_polarity="distance")
    return LLFFDataParserConfig(data=request.getfixturevalue("tiny_llff_scene"))


@pytest.fixture
def step(data: Any) -> Callable[..., Any]:
    """Function (config) -> loss terms of one step, after which the optimizers have moved the parameters."""

    def run(config: Any, steps: int = 1, scene: Any = None) -> dict:
        make_small(config, data if scene is None else scene)
        torch.manual_seed(0)
        pipeline = config.pipeline.setup(device="cpu", test_mode="val")
        groups = pipeline.get_param_groups()
        assert set(groups) <= set(config.optimizers)
        optimizers, schedulers = [], []
        for name, parameters in groups.items():
            optimizer = config.optimizers[name]["optimizer"].setup(parameters)
            scheduler = config.optimizers[name]["scheduler"]
            scheduler.max_steps = scheduler.max_steps or 100
            optimizers.append(optimizer)
            schedulers.append(scheduler.setup().get_scheduler(optimizer, config.optimizers[name]["optimizer"].lr))
        before = [p.detach().clone() for group in groups.values() for p in group]
        losses: dict = {}
        for index in range(steps):
            pipeline.model.update_to_step(index)
            _, losses, _ = pipeline.get_train_loss_dict(index)
            for optimizer in optimizers:
                optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            for each in (*optimizers, *schedulers):
                each.step()
        after = [p for group in groups.values() for p in group]
        assert all(p.isfinite().all() for p in after)
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
        return losses

    return run


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_every_method(name: str, step: Any, data: Any) -> None:
    config = config_of(name)
    losses = step(config, steps=2)
    assert all(term.isfinite() for term in losses.values())
    assert (DEPTH_TERMS <= set(losses)) == ("sparsenerf" in name)
    metric = isinstance(data, DTUDataParserConfig)
    assert ("depth_smoothness" in losses) == (name.startswith("regnerf") or (name == "sparsenerf" and metric))
    assert ("occlusion_loss" in losses) == ("free" in name)
    lite = {"distortion_loss", "plane_smoothness_loss"}
    assert lite & set(losses) == (lite if name.endswith("lite") else set())


@pytest.mark.parametrize("name", METHODS)
def test_every_prior_can_be_switched_on(name: str, step: Any) -> None:
    config = config_of(name)
    config.pipeline.depth.enabled = config.pipeline.smoothness.enabled = True
    config.pipeline.smoothness.factor = 1.0
    losses = step(config)
    assert DEPTH_TERMS | {"depth_smoothness"} <= set(losses)
    assert ("depth_smoothness_coarse" in losses) == (not name.endswith("lite"))


@pytest.mark.parametrize("name", METHODS)
def test_names_and_backbones(name: str) -> None:
    config = config_of(name)
    assert config.method_name == name.replace("_", "-")
    expected = CompactModelConfig if name.endswith("lite") else MipNeRFModelConfig
    assert type(config.pipeline.model) is expected


def test_methods_do_not_share_their_configs() -> None:
    configs = [registry.method_specification(name).config for name in METHODS]
    for part in (lambda c: c.pipeline, lambda c: c.pipeline.model, lambda c: c.pipeline.depth, lambda c: c.optimizers):
        assert len({id(part(config)) for config in configs}) == len(configs)


def test_lite_presets_follow_the_field_of_sparsenerf_lite() -> None:
    lite = config_of("sparsenerf_lite")
    for name in METHODS:
        config = config_of(name)
        if name.endswith("lite"):
            for field in ("width", "num_layers", "num_samples", "num_octaves", "compute_dtype", "ema_decay"):
                assert getattr(config.pipeline.model, field) == getattr(lite.pipeline.model, field)
            assert config.optimizers == lite.optimizers and config.max_num_iterations == lite.max_num_iterations


def test_resolved_values_of_sparsenerf(data: Any) -> None:
    config = config_of("sparsenerf")
    config.pipeline.datamanager.dataparser = data
    if isinstance(data, LLFFDataParserConfig):
        # The tiny photos are smaller than the box of LLFF's pairs, 30 pixels, which is then the whole photo.
        expected, patches = 512, 0
        weights = {"num_quads": 128, "ranking_weight": 0.5, "continuity_weight": 0.005, "box_pixels": 30}
    else:
        expected, patches = 256, 4
        weights = {"ranking_weight": 0.2, "continuity_weight": 0.2, "box_pixels": None, "box_fraction": 1.0}
        weights |= {"num_quads": 64}
    resolved = config.pipeline.setup(device="cpu", test_mode="val").resolved()
    assert resolved["batch"] == {"rays": expected}
    assert {name: resolved["depth"][name] for name in weights} == weights
    factor = float(isinstance(data, DTUDataParserConfig))
    assert resolved["smoothness"] == {"factor": factor, "num_patches": patches}


def test_batches_of_sparsenerf_come_from_one_photo(data: Any) -> None:
    config = make_small(config_of("sparsenerf"), data)
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    views = set()
    for index in range(30):
        requests = pipeline.priors.requests(index, "pixels")
        rays, batch = pipeline.datamanager.next_train(index, list(requests.values()))
        assert len(requests["depth"].pixels) == 4 * 16 and rays.shape == (64,) and len(batch["indices"]) == 64
        assert len(batch["indices"][:, 0].unique()) == 1
        views.add(int(batch["indices"][0, 0]))
    assert views == {0, 1, 2}
    # Patches of unseen views come on top of the rays of photos.
    patches = pipeline.priors.requests(0, "cameras")
    assert len(patches) == int(isinstance(data, DTUDataParserConfig))
    assert all(request.cameras.shape == (2,) for request in patches.values())
    assert pipeline.get_train_loss_dict(0)[0].rgb.shape == (64, 3)


def test_steps_of_a_run_resolve_from_the_ray_space(data: Any, tmp_path: Path) -> None:
    config = make_small(config_of("regnerf"), data)
    config.output_dir, config.experiment_name, config.timestamp = tmp_path, "tiny", "run"
    config.vis, config.machine.device_type = "tensorboard", "cpu"
    trainer = config.setup()
    trainer.setup()
    length = 69768 if isinstance(data, LLFFDataParserConfig) else 43945
    assert trainer.config.max_num_iterations == length and trainer.schedule_lengths == [length]


def test_schedules_are_those_of_the_original_configs() -> None:
    lengths = {"mipnerf_fewshot": (69768, 43945), "regnerf": (69768, 43945), "freenerf": (69768, 43945)}
    lengths |= {"free_sparsenerf": (69768, 43945), "sparsenerf": (90000, 90000)}
    for name, expected in lengths.items():
        config = config_of(name)
        assert (config.ndc_iterations, config.metric_iterations) == expected
        optimizer, scheduler = config.optimizers["field"]["optimizer"], config.optimizers["field"]["scheduler"]
        assert (optimizer.lr, optimizer.eps, optimizer.clip_value, optimizer.clip_norm) == (2e-3, 1e-8, 0.1, 0.1)
        assert (scheduler.lr_final, scheduler.delay_steps, scheduler.delay_factor) == (2e-5, 512, 0.01)
        assert scheduler.max_steps == (90000 if name == "sparsenerf" else None)
        assert config.max_num_iterations == scheduler.max_steps
    smooth = config_of("regnerf").pipeline.smoothness
    assert (smooth.weight_start, smooth.weight_end, smooth.ramp_steps) == (400.0, 0.1, 512)


def test_unknown_fields_of_a_derivation_are_refused() -> None:
    from fewshot_ns.configs.variants import derive

    with pytest.raises(TypeError, match="depht_weight"):
        derive(config_of("regnerf"), "mine", model={"depht_weight": 1.0})


@pytest.mark.parametrize("name", METRIC_METHODS)
@pytest.mark.parametrize("loss", ["cdf", "l2", "urf", "ds-nerf", "ranking", "none"])
def test_steps_of_depth_mipnerf(name: str, loss: str, tiny_rgbd_scene: Path, step: Any) -> None:
    config = config_of(name)
    assert config.method_name == name.replace("_", "-")
    assert config.pipeline.depth.enabled and config.pipeline.depth.loss == "cdf"
    config.pipeline.depth.loss = loss
    losses = step(config, steps=2, scene=RGBDDataParserConfig(data=tiny_rgbd_scene))
    terms = {"l2": {"depth_l2"}, "ds-nerf": {"depth_ds_nerf"}, "none": set(), "ranking": DEPTH_TERMS}
    assert {term for term in losses if term.startswith("depth")} == terms.get(loss, {"depth_near", "depth_empty"})
    assert all(term.isfinite() for term in losses.values())
