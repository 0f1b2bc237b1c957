"""Plans: resolved flags, hashes that change with what decides a result and with nothing else, early errors."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewshot_ns import registry
from fewshot_ns.bench.planning.config_identity import registered_methods, resolve_config, schedule_flags
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.problems import SchemaError
from fewshot_ns.bench.recipes.yaml_file import load_recipe


@pytest.fixture
def plan_of(write_recipe, data_root, tmp_path):
    """Function (keys of a recipe) -> plan on the CPU."""

    def plan(**keys):
        return make_plan(load_recipe(write_recipe(**keys)), data_root, tmp_path / "out", "cpu")

    return plan


def test_cells_are_the_product_of_methods_scenes_and_seeds(plan_of, tmp_path):
    plan = plan_of(methods=["mipnerf-fewshot-lite", "freenerf-lite"], seeds=[3, 1])
    names = [cell.folder.relative_to(tmp_path / "out").as_posix() for cell in plan.cells]
    assert names == [
        f"cells/plane/{label}/seed-{seed}" for seed in (3, 1) for label in ("mipnerf-fewshot-lite", "freenerf-lite")
    ]
    assert {cell.test_views for cell in plan.cells} == {2} and {cell.size for cell in plan.cells} == {(32, 24)}
    assert len({cell.training_key for cell in plan.cells}) == 4


def test_learning_rates_follow_the_steps_and_the_recipe_has_the_last_word(plan_of):
    overrides = {"optimizers.planes.scheduler.max-steps": 77, "steps-per-save": 3}
    methods = ["freenerf-lite", {"method": "freenerf-lite", "label": "own", "overrides": overrides}]
    for cell, planes in zip(plan_of(methods=methods, budget={"steps": 50}).cells, (50, 77), strict=True):
        config = resolve_config(cell.method, (*cell.flags, *cell.parser))
        lengths = {name: group["scheduler"].max_steps for name, group in config.optimizers.items()}
        assert config.max_num_iterations == cell.steps == 50
        # That of poses is as long as the run by itself.
        assert lengths == {"field": 50, "planes": planes, "proposal": 50, "camera_opt": None}


def test_flags_of_a_scene_reach_the_method_that_they_are_for(plan_of, data_root):
    shutil.copytree(data_root / "plane", data_root / "leaves")
    box = {"pipeline.depth.box-pixels": 9}
    methods = [
        {"method": "sparsenerf-lite", "overrides": {"pipeline.depth.box-pixels": 7}, "on-scenes": {"leaves": box}},
        "freenerf-lite",
    ]
    found = {}
    for cell in plan_of(methods=methods, scenes=["plane", "leaves"]).cells:
        config: Any = resolve_config(cell.method, (*cell.flags, *cell.parser))
        found[cell.method, cell.scene] = config.pipeline.depth.box_pixels
        assert cell.config["pipeline.depth.box_pixels"] == str(config.pipeline.depth.box_pixels)
        assert cell.as_published == (cell.method == "freenerf-lite")
    assert found == {
        ("sparsenerf-lite", "plane"): 7,
        ("sparsenerf-lite", "leaves"): 9,
        ("freenerf-lite", "plane"): None,
        ("freenerf-lite", "leaves"): None,
    }
    # A method that has no such field need not stand back from the scene.
    splats = {"method": "sparse-splatfacto-lite"}
    assert len(plan_of(methods=[methods[0], splats], scenes=["plane", "leaves"]).cells) == 4


def test_steps_that_a_method_takes_from_the_scene_are_known(plan_of):
    methods = ["regnerf", {"method": "regnerf", "label": "own", "overrides": {"ndc-iterations": 7}}]
    cells = plan_of(methods=methods, budget=None).cells
    assert [cell.steps for cell in cells] == [69768, 7]
    scene = {"path": "plane", "dataparser": {"ray-space": "metric"}}
    (metric,) = plan_of(methods=["regnerf"], scenes=[scene], budget=None).cells
    assert metric.steps == 43945
    # The key is made of what ns-train gets, which finds out by itself.
    assert metric.config["max_num_iterations"] == "None"


def test_a_schedule_that_is_longer_than_its_training_stays_so():
    registered_methods()  # nerfstudio's modules import each other in this order only.
    for name, length in (("dietnerf", "125"), ("freenerf", "50")):
        config = registry.method_specification(name).config
        assert schedule_flags(config, 50) == ("--optimizers.field.scheduler.max-steps", length)


def test_the_key_changes_with_what_decides_the_result(plan_of, data_root):
    def key(**keys):
        (cell,) = plan_of(**keys).cells
        return cell.training_key

    before = key()
    assert before == key()
    # Names, metrics and how often it is saved decide nothing.
    save = {"method": "mipnerf-fewshot-lite", "label": "x", "overrides": {"steps-per-save": 2}}
    assert key(methods=["mipnerf-fewshot-lite"]) == key(methods=[save], evaluation={"metrics": ["lpips"]})
    changed = [
        key(methods=["mipnerf-fewshot-lite"]),
        key(methods=["freenerf-lite"]),
        key(seeds=[5]),
        key(budget={"steps": 5}),
        key(budget={"steps": 4, "cpu-seconds": 9}),
        key(protocol="llff-4"),
    ]
    assert len({before, *changed}) == 1 + len(changed)
    shutil.move(str(data_root / "plane"), str(data_root / "moved"))
    assert key(scenes=["moved"]) == before
    bounds = np.load(data_root / "moved" / "poses_bounds.npy")
    bounds[:, 15:] *= 1.5
    np.save(data_root / "moved" / "poses_bounds.npy", bounds)
    assert key(scenes=["moved"]) != before


def test_the_curve_of_some_seeds_alone(plan_of):
    def steps(**evaluation):
        plan = plan_of(methods=["freenerf-lite"], seeds=[0, 1], evaluation=evaluation)
        resolved = [resolve_config(cell.method, (*cell.flags, *cell.parser)) for cell in plan.cells]
        found = [config.steps_per_eval_all_images for config in resolved]
        keys = [cell.training_key for cell in plan.cells]
        # What the key is made of is what ns-train gets.
        assert found == [int(cell.config["steps_per_eval_all_images"]) for cell in plan.cells]
        return found, keys

    every, keys = steps(**{"curve-steps": 2})
    one, keys_of_one = steps(**{"curve-steps": 2, "curve-seeds": [0]})
    assert every == [2, 2] and one == [2, 0] and steps()[0] == [0, 0]
    assert keys[0] == keys_of_one[0] and keys[1] != keys_of_one[1]


def test_the_photos_themselves_count(plan_of, data_root):
    (before,) = plan_of().cells
    photos = sorted((data_root / "plane" / "images_4").iterdir())
    photos[1].write_bytes(photos[2].read_bytes())  # The first training view of llff-3.
    (after,) = plan_of().cells
    assert before.keys["scene"] != after.keys["scene"] and before.keys["config"] == after.keys["config"]


def test_figures_depend_on_the_evaluation_too(plan_of):
    (first,) = plan_of().cells
    (second,) = plan_of(evaluation={"metrics": ["psnr"]}).cells
    assert first.training_key == second.training_key and first.evaluation_key != second.evaluation_key
    assert replace(first, seed=9).evaluation_key == first.evaluation_key


def test_everything_wrong_is_told_before_anything_starts(plan_of, tmp_path, data_root):
    shutil.copytree(data_root / "plane", data_root / "bare", ignore=shutil.ignore_patterns("depth_maps"))
    methods = [
        "no-such-method",
        {"method": "freenerf-lite", "label": "typo", "overrides": {"pipeline.dept.enabled": True}},
        {"method": "freenerf-lite", "label": "value", "overrides": {"pipeline.depth.enabled": "maybe"}},
        {"method": "sparsenerf"},
        {"method": "sparsenerf-lite"},
    ]
    with pytest.raises(SchemaError) as caught:
        plan_of(methods=methods, scenes=["plane", "bare", "nowhere"], evaluation={"metrics": ["psnr", "sharpness"]})
    text = str(caught.value)
    for line in (
        "methods[0].method: 'no-such-method' is not registered; registered by this package are depth-mipnerf,",
        "methods[1] (typo) on scenes[0] (plane): ns-train does not take these flags: "
        "Unrecognized options: --pipeline.dept.enabled",
        "methods[2] (value)",
        "invalid choice 'maybe'",
        "methods[3] (sparsenerf): needs depth maps",
        f"scenes[2] (nowhere): {data_root / 'nowhere'}: expected the folder of a scene",
        "evaluation.metrics: unknown metric 'sharpness'",
    ):
        assert line in text, line
    # It takes depth from the photos.
    assert "methods[4]" not in text
    assert not (tmp_path / "out").exists()


def test_dtu_without_masks_is_an_error(write_recipe, tiny_dtu_scene, tmp_path):
    recipe = load_recipe(write_recipe(protocol="dtu-3", scenes=["Rectified/scan1"]))
    root = tmp_path / "dtu"
    (cell,) = make_plan(recipe, root, tmp_path / "out", "cpu").cells
    assert cell.test_views == 25
    shutil.rmtree(root / "idrmasks")
    with pytest.raises(SchemaError, match="has no object masks"):
        make_plan(recipe, root, tmp_path / "out", "cpu")


def test_a_scene_that_holds_nothing_out_has_no_figures(plan_of, make_llff_scene, data_root, tmp_path):
    make_llff_scene(data_root / "three", 3)
    with pytest.raises(SchemaError) as caught:
        plan_of(scenes=["plane", "three"])
    assert "scenes[1] (three)" in str(caught.value) and "found none: all 3 views train" in str(caught.value)
    measured = {"method": "freenerf-lite", "overrides": {"pipeline.evaluation.split": "train"}}
    with pytest.raises(SchemaError, match="tables are of held-out views"):
        plan_of(methods=[measured], scenes=["plane"])
