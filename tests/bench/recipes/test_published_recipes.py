"""What ns-train would get from the recipes of the papers' protocols, number by number."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional, Tuple

import pytest

from fewshot_ns import registry
from fewshot_ns.bench.planning.config_identity import resolve_config
from fewshot_ns.bench.planning.planner import training_flags
from fewshot_ns.bench.planning.trainings import flag_values, same_value
from fewshot_ns.bench.recipes.recipe import Recipe, RecipeMethod, RecipeScene
from fewshot_ns.bench.recipes.yaml_file import find_recipe, load_recipe
from fewshot_ns.configs.published_trainings import TRAININGS, published_training

LLFF = ("fern", "flower", "fortress", "horns", "leaves", "orchids", "room", "trex")
DTU = tuple(f"scan{number}" for number in (8, 21, 30, 31, 34, 38, 40, 41, 45, 55, 63, 82, 103, 110, 114))
BLENDER = ("chair", "drums", "ficus", "hotdog", "lego", "materials", "mic", "ship")
STEPS = {"llff-3": 69768, "llff-6": 139535, "llff-9": 209303, "dtu-3": 43945, "dtu-6": 87891, "dtu-9": 131836}
"""RegNeRF, mip-NeRF and FreeNeRF."""
RESOLVED: Dict[Tuple[str, str], Any] = {}
"""Configs by what they are made of: a parse takes a third of a second."""


def scenes_of(name: str, method: str) -> Iterator[Tuple[str, Any]]:
    """(scene, config of ns-train) of a row of a recipe of the package."""
    recipe = load_recipe(find_recipe(name))
    (row,) = [entry for entry in recipe.methods if entry.label == method]
    for scene in recipe.scenes:
        yield scene.name, resolved(recipe, row, scene)


def resolved(recipe: Recipe, row: RecipeMethod, scene: RecipeScene) -> Any:
    words = (*training_flags(recipe, row, scene, "cpu"), scene.parser, *scene.flags)
    key = (row.method, " ".join(words))
    if key not in RESOLVED:
        RESOLVED[key] = resolve_config(row.method, words)
    return RESOLVED[key]


def length(config: Any, protocol: str) -> Tuple[Optional[int], Optional[int]]:
    """Steps of the training and of its schedule; None is resolved by the trainer from the scene's ray space."""
    scheduled = config.optimizers["field"]["scheduler"].max_steps
    own = config.ndc_iterations if protocol.startswith("llff") else config.metric_iterations
    return config.max_num_iterations or own, scheduled or own


@pytest.mark.parametrize("method", ["mipnerf-fewshot", "regnerf", "freenerf"])
@pytest.mark.parametrize("protocol", STEPS)
def test_steps_follow_the_number_of_views(protocol: str, method: str) -> None:
    for _, config in scenes_of(protocol, method):
        assert length(config, protocol) == (STEPS[protocol], STEPS[protocol])
        assert config.pipeline.datamanager.train_num_rays_per_batch == 4096
        assert config.pipeline.datamanager.single_image_batches
        optimizer, scheduler = config.optimizers["field"]["optimizer"], config.optimizers["field"]["scheduler"]
        assert (optimizer.lr, optimizer.eps, optimizer.clip_value, optimizer.clip_norm) == (2e-3, 1e-8, 0.1, 0.1)
        assert (scheduler.lr_final, scheduler.delay_steps, scheduler.delay_factor) == (2e-5, 512, 0.01)
        parser = config.pipeline.datamanager.dataparser
        assert (parser.background, parser.num_views) == ("black", int(protocol[-1]))


@pytest.mark.parametrize("protocol", STEPS)
def test_regnerf_anneals_with_three_and_six_views_alone(protocol: str) -> None:
    for _, config in scenes_of(protocol, "regnerf"):
        # None is mip-NeRF's own: RegNeRF's 512 steps in NDC, 256 in metric scenes.
        assert config.pipeline.model.annealing.steps == (0 if protocol.endswith("9") else None)
        smooth = config.pipeline.smoothness
        assert (smooth.weight_start, smooth.weight_end, smooth.ramp_steps, smooth.num_poses) == (400.0, 0.1, 512, 10000)
    for method in ("mipnerf-fewshot", "freenerf"):
        assert {config.pipeline.model.annealing.steps for _, config in scenes_of(protocol, method)} == {0}


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [("llff-3", None), ("llff-6", 97675), ("llff-9", 104651), ("dtu-3", None), ("dtu-6", 61524), ("dtu-9", 65918)],
)
def test_freenerfs_mask_ends_where_its_configs_say(protocol: str, steps: Optional[int]) -> None:
    for _, config in scenes_of(protocol, "freenerf"):
        # None is 62791 in NDC and 39550 in metric scenes.
        assert config.pipeline.model.frequency_mask.steps == steps
        assert config.pipeline.occlusion.weight == 0.01


@pytest.mark.parametrize("method", ["sparsenerf", "free-sparsenerf"])
def test_sparsenerfs_boxes_by_scene(method: str) -> None:
    llff: Dict[str, Tuple[Optional[int], Optional[float]]]
    llff = {"leaves": (180, None), "horns": (60, None), "room": (None, 1.0), "fortress": (None, 1.0)}
    dtu: Dict[str, Tuple[Optional[int], Optional[float]]] = {f"scan{number}": (100, None) for number in (34, 38, 82)}
    for protocol, names, boxes in (("llff-3", LLFF, llff), ("dtu-3", DTU, dtu)):
        depths = {name: config.pipeline.depth for name, config in scenes_of(protocol, method)}
        found = {name: (depth.box_pixels, depth.box_fraction) for name, depth in depths.items()}
        # Both None: 30 pixels in NDC, the whole photo in metric scenes.
        assert found == {name: boxes.get(name, (None, None)) for name in names}
        assert {(depth.enabled, depth.loss) for depth in depths.values()} == {(True, "ranking")}


def test_the_rest_of_sparsenerf() -> None:
    for protocol in ("llff-3", "dtu-3"):
        for _, config in scenes_of(protocol, "sparsenerf"):
            assert length(config, protocol) == (90000, 90000)
            # None: 512 rays in NDC, 256 in metric scenes; 0.5 and 0.005, 0.2 and 0.2; the whole batch.
            assert config.pipeline.datamanager.train_num_rays_per_batch is None
            depth, smooth = config.pipeline.depth, config.pipeline.smoothness
            assert (depth.ranking_weight, depth.continuity_weight, depth.num_quads) == (None, None, None)
            assert (smooth.num_patches, smooth.num_poses) == (4, 1000)
        for _, config in scenes_of(protocol, "free-sparsenerf"):
            assert length(config, protocol)[0] == STEPS[protocol]
            assert config.pipeline.depth.ranking_weight == 0.5
            assert config.pipeline.datamanager.train_num_rays_per_batch == 4096


def test_other_methods_of_a_scene_with_a_box_keep_their_own() -> None:
    for _, config in scenes_of("llff-3", "freenerf"):
        assert not config.pipeline.depth.enabled and config.pipeline.depth.box_pixels is None


def test_nvs_rgbd() -> None:
    found = dict(scenes_of("nvs-rgbd", "sparsenerf"))
    assert len(found) == 20
    for name, config in found.items():
        assert length(config, "llff") == (60000, 60000)
        scheduler = config.optimizers["field"]["scheduler"]
        assert (config.optimizers["field"]["optimizer"].lr, scheduler.lr_final) == (2e-3, 2e-5)
        parser = config.pipeline.datamanager.dataparser
        assert (parser.num_views, parser.view_protocol) == (3, f"nvs-{name.split('-')[0]}")
        depth = config.pipeline.depth
        assert depth.protocol_boxes and (depth.box_pixels, depth.num_quads, depth.continuity_weight) == (None,) * 3


@pytest.mark.parametrize(("name", "near"), [("depth-mipnerf-scannet", 0.1), ("depth-mipnerf-matterport", 0.05)])
def test_depth_mipnerf_on_real_rooms(name: str, near: float) -> None:
    for _, config in scenes_of(name, "depth-mipnerf"):
        optimizer, scheduler = config.optimizers["field"]["optimizer"], config.optimizers["field"]["scheduler"]
        assert (config.max_num_iterations, scheduler.max_steps) == (150000, 150000)
        assert (optimizer.lr, scheduler.lr_final, scheduler.delay_steps) == (2e-3, 2e-5, 512)
        assert optimizer.clip_norm == 1e-3 and config.pipeline.datamanager.train_num_rays_per_batch == 8192
        depth, distortion = config.pipeline.depth, config.pipeline.distortion
        assert (depth.loss, depth.metric.near_weight, depth.metric.empty_weight) == ("cdf", near, 1.0)
        assert (distortion.enabled, distortion.weight, distortion.normalised) == (True, 1e-4, False)
        model = config.pipeline.model
        assert (model.embedding_size, model.view_octaves) == (4, 2)
        assert (model.num_proposal_samples, model.num_samples) == ((64, 64), 32)
        parser = config.pipeline.datamanager.dataparser
        assert (parser.background, parser.num_views) == ("black", 0)


def test_depth_mipnerf_on_lego() -> None:
    for _, config in scenes_of("depth-mipnerf-lego", "cdf"):
        optimizer, scheduler = config.optimizers["field"]["optimizer"], config.optimizers["field"]["scheduler"]
        assert (config.max_num_iterations, optimizer.lr, scheduler.lr_final) == (50000, 3e-3, 2e-5)
        assert config.pipeline.datamanager.dataparser.background == "white"


def test_dietnerfs_scenes() -> None:
    for _, config in scenes_of("blender-8", "dietnerf"):
        scheduler = config.optimizers["field"]["scheduler"]
        assert (config.max_num_iterations, scheduler.max_steps, scheduler.lr_final) == (200000, 500000, 5e-5)
        assert config.pipeline.datamanager.train_num_rays_per_batch == 1024
        parser = config.pipeline.datamanager.dataparser
        assert (parser.background, parser.downscale_factor, parser.num_views) == ("white", 2, 8)
    simple = {name: (False, 6, 5e-5, 5e-6) for name in BLENDER}
    simple |= {"lego": (True, 6, 5e-5, 5e-6), "hotdog": (False, 5, 1e-5, 1e-6), "materials": (False, 6, 1e-5, 1e-6)}
    for name, config in scenes_of("blender-8", "simplified-nerf"):
        group, model = config.optimizers["field"], config.pipeline.model
        rates = (group["optimizer"].lr, group["scheduler"].lr_final)
        assert (model.view_dependent, model.num_octaves, *rates) == simple[name]
        assert config.max_num_iterations == 200000


PROTOCOLS = (*STEPS, "blender-8")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_rows_that_say_as_published_have_every_published_setting(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    checked = 0
    for row in recipe.methods:
        for scene in recipe.scenes:
            training = published_training(row.method, str(scene.protocol.dataset), scene.protocol.num_views, scene.name)
            given = flag_values((*row.overrides, *row.on_scenes.get(scene.name, ())))
            assert all(same_value(given.get(flag), value) for flag, value in training.flags.items())
            if training.steps is not None:
                assert row.as_published and set(given) == set(training.flags)
                assert length(resolved(recipe, row, scene), name)[0] == training.steps
                checked += 1
    assert checked >= 2 * len(recipe.scenes)


def test_flags_of_published_trainings_are_known_to_nerfstudio() -> None:
    for method, trainings in TRAININGS.items():
        assert registry.METHODS[method].paper_results is not None
        for flags in {tuple(training.flags.items()) for training in trainings}:
            words = [word for name, value in flags for word in (f"--{name}", value)]
            assert resolve_config(method.replace("_", "-"), words) is not None
        assert all(len(training.source) > 20 for training in trainings)


def test_what_is_known_of_a_scene_is_one_record() -> None:
    assert published_training("regnerf", "llff", 9, "fern").flags == {"pipeline.model.annealing.steps": "0"}
    leaves = published_training("sparsenerf", "llff", 3, "leaves")
    assert (leaves.steps, leaves.flags) == (90000, {"pipeline.depth.box-pixels": "180"})
    assert leaves.source.count(";") == 1
    assert published_training("sparsenerf-lite", "llff", 3, "leaves").flags == {}
    assert published_training("freenerf", "llff", 4, "fern").steps is None
