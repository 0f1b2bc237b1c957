"""dietnerf and its variants: the originals' numbers, and a step of each on a tiny scene with a tiny encoder."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_clip import save_image_encoder

from fewshot_ns import registry
from fewshot_ns.configs.paper_results import METRICS
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.models.compact import CompactModelConfig
from fewshot_ns.models.nerf import NeRFModelConfig
from fewshot_ns.utils.cache import CACHE_ENV

METHODS = ("dietnerf", "dietnerf_lite", "dietnerf_jax", "dietnerf_jax_coarse", "simplified_nerf")


def config_of(name: str) -> Any:
    return deepcopy(registry.method_specification(name).config)


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a tiny CLIP with random weights; the cache lies next to it."""
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    return save_image_encoder(tmp_path / "clip")


@pytest.mark.parametrize("name", METHODS)
def test_steps_with_and_without_the_term(name: str, encoder: Path, tiny_blender_scene: Path) -> None:
    config = config_of(name)
    assert config.method_name == name.replace("_", "-")
    pipeline_config, model = config.pipeline, config.pipeline.model
    pipeline_config.datamanager.dataparser = FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3)
    pipeline_config.datamanager.train_num_rays_per_batch = 16
    model.width, model.num_layers, model.skip_layer, model.num_octaves, model.num_samples = 16, 3, 1, 3, 6
    pipeline_config.evaluation.metrics = ("psnr",)
    semantic = pipeline_config.semantic
    semantic.encoder.weights, semantic.views.grid_size, semantic.start_step = encoder, 4, 0
    pipeline = pipeline_config.setup(device="cpu", test_mode="val")
    terms = {"dietnerf": {"semantic", "semantic_coarse"}, "dietnerf_lite": {"semantic"}, "simplified_nerf": set()}
    terms |= {"dietnerf_jax": {"semantic", "semantic_coarse"}, "dietnerf_jax_coarse": {"semantic_coarse"}}
    stop = semantic.stop_step or 10**6
    for step in (semantic.interval - 1, semantic.interval, stop - stop % semantic.interval + semantic.interval - 1):
        _, losses, _ = pipeline.get_train_loss_dict(step)
        counts = (step + 1) % semantic.interval == 0 and (semantic.stop_step is None or step < semantic.stop_step)
        expected = terms[name] if counts else set()
        assert {term for term in losses if term.startswith("semantic")} == expected
        assert all(term.isfinite() for term in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert set(pipeline.get_param_groups()) <= set(config.optimizers)


def test_numbers_of_the_originals() -> None:
    config = config_of("dietnerf")
    optimizer, scheduler = (config.optimizers["field"][part] for part in ("optimizer", "scheduler"))
    # 5e-4 * 0.1^(step / 500000)
    assert (optimizer.lr, scheduler.lr_final, scheduler.max_steps, scheduler.delay_steps) == (5e-4, 5e-5, 500000, 0)
    manager, model, semantic = config.pipeline.datamanager, config.pipeline.model, config.pipeline.semantic
    assert (manager.train_num_rays_per_batch, manager.crop_steps, manager.crop_fraction) == (1024, 500, 0.5)
    assert manager.single_image_batches and config.max_num_iterations == 200000
    assert (model.num_samples, model.num_importance_samples, model.num_octaves, model.view_octaves) == (64, 128, 10, 4)
    assert (model.num_layers, model.width, model.skip_layer, model.colour_width) == (8, 256, 5, 128)
    assert (semantic.fine_weight, semantic.coarse_weight, semantic.interval) == (0.1, 0.1, 10)
    assert (semantic.encoder.output, semantic.encoder.resize, semantic.views.grid_size) == (
        "cls_token",
        "bilinear",
        168,
    )
    jax = config_of("dietnerf_jax").pipeline.semantic
    assert (jax.fine_weight, jax.coarse_weight, jax.interval, jax.stop_step) == (0.01, 0.01, 16, 160000)
    assert (jax.encoder.output, jax.encoder.resize, jax.encoder.clamp) == ("projected", "keys", False)
    assert (jax.views.grid, jax.views.grid_size, jax.views.radius, jax.views.one_draw) == ("crop", 75, (2.0, 6.0), True)
    coarse = config_of("dietnerf_jax_coarse").pipeline
    assert coarse.semantic.fine_weight == 0 and coarse.model.num_importance_samples == 64
    simple = config_of("simplified_nerf")
    assert simple.optimizers["field"]["optimizer"].lr == 5e-5 and not simple.pipeline.semantic.enabled
    model = simple.pipeline.model
    assert (model.num_samples, model.num_importance_samples, model.num_octaves) == (128, 0, 6)
    assert not model.view_dependent


def test_backbones() -> None:
    for name in METHODS:
        expected = CompactModelConfig if name.endswith("lite") else NeRFModelConfig
        assert type(config_of(name).pipeline.model) is expected
    lite = config_of("dietnerf_lite").pipeline
    assert lite.model.annealing.steps == 0 and not lite.depth.enabled and lite.semantic.enabled


@pytest.mark.parametrize("name", ["dietnerf", "simplified_nerf"])
def test_published_figures(name: str) -> None:
    results = registry.paper_results(name)
    assert [result.metric for result in results] == list(METRICS[:3])
    assert all(result.dataset == "blender" and result.num_views == 8 for result in results)
    assert all(len(text) > 10 for result in results for text in (result.table, result.conditions, result.citation))


def test_variants_have_no_figures_of_their_own() -> None:
    assert all(registry.paper_results(name) == () for name in ("dietnerf_jax", "dietnerf_jax_coarse", "dietnerf_lite"))
