"""Sets of many scenes: one training with several evaluations, their tables, and what papers print for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Dict, Optional, Tuple

import pytest

from fewshot_ns.bench.execution.cells import evaluate_commands
from fewshot_ns.bench.execution.records import FINISHED, is_finished, write_record
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.problems import SchemaError
from fewshot_ns.bench.recipes.yaml_file import load_recipe
from fewshot_ns.bench.report.tables import category_table, image_table, scene_table, summary_table, title_of
from fewshot_ns.bench.results.cells import BenchResults, CellResult, read_results
from fewshot_ns.bench.results.csv_file import as_csv, merge_into, read_csv
from fewshot_ns.bench.results.status import CONDITIONS, differences, published, status_of
from fewshot_ns.bench.results.summary import groups_of
from fewshot_ns.presentation.tables import as_markdown
from fewshot_ns.scripts.cli import main

SMALL = {
    "pipeline": {
        "model": {"width": 16, "num-samples": 6, "min-eval-samples": 6, "compute-dtype": "float32"},
        "datamanager": {"rays-per-scene": 16, "scenes-per-batch": 2},
    },
    "pipeline.model.num-importance-samples": 3,
    "pipeline.model.num-depth-samples": 3,
}
OWN = [{"name": "one", "sources": {"views": [1]}}, {"name": "two", "sources": {"views": [1, 3]}}]


@pytest.fixture
def set_recipe(write_recipe, tiny_solids):
    """Function (keys) -> a recipe that trains pixelnerf-lite on the tiny solids and evaluates it in two ways."""

    def write(**keys):
        scene = {"path": tiny_solids.name, "parser": "srn-data", "dataparser": {"categories-in-names": True}}
        known = {"protocol": OWN, "scenes": [scene], "evaluation": {"metrics": ["psnr"], "pictures": 1}}
        methods = [{"method": "pixelnerf-lite", "overrides": SMALL}]
        return load_recipe(write_recipe(**{"methods": methods, **known, **keys}))

    return write


@pytest.fixture
def plan_of(set_recipe, tiny_solids, tmp_path):
    """Function (keys) -> plan of that recipe on the CPU."""
    return lambda **keys: make_plan(set_recipe(**keys), tiny_solids.parent, tmp_path / "out", "cpu")


def test_a_training_on_a_set_is_one_cell_with_all_its_evaluations(plan_of):
    (cell,) = plan_of().cells
    assert (cell.test_scenes, cell.all_test_scenes, cell.size) == (2, 2, (16, 16))
    files = ["eval-one.json", "pictures-one.json", "eval-two.json", "pictures-two.json"]
    commands = evaluate_commands(cell)
    assert [command[command.index("--output-path") + 1] for command in commands] == [
        str(cell.folder / file) for file in files
    ]
    start = commands[2].index("--source-views")
    assert commands[2][start : start + 3] == ("--source-views", "1", "3") and "--scenes" not in commands[2]
    assert commands[3][commands[3].index("--scenes") + 1] == cell.pictured_scene

    # Another way to evaluate is no reason to train again.
    write_record(cell, FINISHED, trained=True)
    for file in files:
        (cell.folder / file).write_text("{}")
    assert is_finished(cell)
    (other,) = plan_of(protocol=[OWN[0], {"name": "two", "sources": {"views": [1, 4]}}]).cells
    assert other.training_key == cell.training_key and not is_finished(other)
    assert other.evaluation_key != cell.evaluation_key
    (fewer,) = plan_of(evaluation={"metrics": ["psnr"], "pictures": 1, "max-scenes": 1}).cells
    assert fewer.test_scenes == 1 and fewer.training_key == cell.training_key and not is_finished(fewer)


def test_what_a_set_cannot_have_is_told_before_training(plan_of):
    with pytest.raises(SchemaError) as caught:
        plan_of(
            methods=["pixelnerf-lite", "freenerf-lite"],
            protocol=[*OWN, {"name": "listed", "sources": {"viewlist": "list.txt"}}],
            evaluation={"max-side": 16, "curve-steps": 2},
        )
    text = str(caught.value)
    for line in (
        "methods[1] (freenerf-lite): trains on one scene, but the protocol one",
        "list.txt: expected a list of source views, found no such file",
        "evaluation.max-side: not for sets",
        "evaluation.curve-steps: not for sets",
    ):
        assert line in text, line


def cell(protocol="srn-1", psnr=23.0, folder_name="cars", **changes):
    """A finished cell of pixelnerf-srn, as published."""
    baselines = {"baseline_mean_colour_psnr": 12.0, "baseline_nearest_view_psnr": 13.0}
    metrics: Dict[str, Optional[float]] = {"psnr": psnr, "ssim": 0.9, **baselines}
    objects = (("a", "airplane", psnr - 1.0), ("b", "airplane", psnr), ("c", "bench", psnr + 4.0))
    images = tuple(
        {"file_name": name, "view_index": number, "category": category, "psnr": value}
        for number, (name, category, value) in enumerate(objects)
    )
    known = CellResult(
        scene=folder_name,
        folder_name=folder_name,
        protocol=protocol,
        method="pixelnerf-srn",
        label="pixelnerf-srn",
        seed=0,
        as_published=True,
        status="finished",
        steps=400000,
        size=(128, 128),
        test_views=9,
        num_images=9,
        metrics=metrics,
        images=images,
        objects=704,
        test_objects=704,
        own_length=True,
        recipe="r",
        device="cuda",
        source="abc",
    )
    return replace(known, **changes)


def results(*cells):
    return BenchResults("r", "", cells)


def group(*cells):
    (found,) = groups_of(results(*cells), cells[0].protocol)
    return found


def test_published_figures_stand_beside_sets_of_the_same_name():
    assert published(group(cell()))["psnr"].value == 23.17
    assert published(group(cell("srn-2")))["psnr"].value == 25.66
    assert published(group(cell(folder_name="chairs")))["psnr"].value == 23.72
    assert status_of(group(cell())).word == "reproduced"
    assert not published(group(cell(folder_name="solids"))) and not published(group(cell("dtu-3")))
    changed: Tuple[Tuple[Dict[str, Any], str], ...] = (
        ({"objects": 3}, "3 objects instead of 704"),
        ({"test_views": None}, "not all test views"),
        ({"size": (64, 64)}, "64x64 pixels instead of 128x128"),
    )
    for changes, reason in changed:
        assert reason in status_of(group(cell(**changes))).reason
    for protocol, dataset, value in (("sn64-1", "sn64", 26.799), ("pixelnerf-dtu-3", "pixelnerf-dtu", 19.33)):
        conditions = CONDITIONS[dataset]
        found = group(cell(protocol, folder_name="any", size=conditions.size, objects=conditions.objects))
        assert published(found)["psnr"].value == value and not differences(found, published(found))
    values = {"true_depth_psnr": 26.9, "true_depth_ssim": 0.93, "psnr": 20.0}
    values |= {f"baseline_{name}_true_depth_psnr": 15.0 for name in ("mean_colour", "nearest_view")}
    found = group(cell("matchnerf-dtu-3", method="matchnerf", size=(640, 512), objects=16, metrics=values))
    assert status_of(found).word == "reproduced" and title_of(found.metric_name("psnr")) == "true-depth PSNR"


def test_tables_are_over_objects():
    found = results(cell("sn64-1"), cell("sn64-1", 25.0, seed=1))
    table = category_table(found, "sn64-1", "psnr", "PSNR", 2)
    assert table is not None and [list(row) for row in table.rows] == [
        ["airplane", 2, "23.50", "29.757"],
        ["bench", 1, "28.00", "26.351"],
    ]
    assert "| pixelnerf-srn | 704 | 1 | 2 | 24.00 ± 1.41 |" in as_markdown(summary_table(found, "sn64-1"))
    assert "mean over the objects (each the mean of its views)" in scene_table(found, "sn64-1", "psnr").caption
    assert [row[0] for row in image_table(found, "sn64-1", "cars").rows] == ["0: a", "1: b", "2: c"]
    one = replace(cell(), images=cell().images[:2])
    assert category_table(results(one), "srn-1", "psnr", "PSNR", 2) is None


def test_csv_counts_objects_only_where_there_are_sets(tmp_path):
    path = tmp_path / "results.csv"
    merge_into(path, results(cell(), cell(seed=1, status="failed", objects=None, metrics={})))
    (read, failed) = read_csv(path).cells
    assert (read.objects, read.test_objects, failed.objects) == (704, 704, None)
    assert status_of(group(read)).word == "reproduced" and set(read.metrics) == set(cell().metrics)
    assert as_csv(read_csv(path)) == path.read_text()
    alone = as_csv(results(cell(objects=None, test_objects=None)))
    assert "objects" not in alone.splitlines()[0].split(",")


@pytest.mark.end_to_end
def test_a_set_is_trained_once_and_evaluated_with_one_and_with_two_views(set_recipe, tiny_solids, tmp_path):
    recipe = set_recipe(evaluation={"metrics": ["psnr"], "pictures": 1, "max-views": 2})
    out = tmp_path / "out"
    flags = ["bench", recipe.origin, "--data", str(tiny_solids.parent), "--output-dir", str(out), "--device", "cpu"]
    assert main([*flags, "--keep-older"]) == 0
    folder = out / "cells" / tiny_solids.name / "pixelnerf-lite/seed-0"
    record = json.loads((folder / "cell.json").read_text())
    assert set(record["results"]) == {"one", "two"} and len(list(folder.glob("train-*.log"))) == 1
    found = read_results(out)
    one, two = found.cells
    assert (one.protocol, two.protocol, one.objects, one.num_images) == ("one", "two", 2, 4)
    assert one.metrics["psnr"] == pytest.approx(record["results"]["one"]["psnr"])
    assert one.metrics["psnr"] == pytest.approx(sum(image["psnr"] for image in one.images) / 2)
    assert one.metrics["psnr"] != two.metrics["psnr"] and one.images[0]["category"]
    assert {key[0] for key in found.pictures} == {"one", "two"}
    assert main(["report", str(out)]) == 0
    text = (out / "report/report.md").read_text()
    assert "## one" in text and "## two" in text and "PSNR by category" in text
    assert "working" in text  # As a word of the status, of its rules at least.
    assert len(list((out / "report/pictures").glob("*.jpg"))) == 2
