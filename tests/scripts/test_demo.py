"""`ns-fewshot demo`: its cells are what the demo means, an early end is taken up again, the whole works end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

import pytest
import torch

from fewshot_ns.bench.execution.records import read_record
from fewshot_ns.bench.planning.config_identity import resolve_config
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.yaml_file import load_recipe
from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP
from fewshot_ns.scripts.demo import DemoCommand
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene
from fewshot_ns.utils.processes import CommandError

LABELS = ("with-prior", "without-prior", "splats")


@pytest.fixture(scope="module")
def scene_root(tmp_path_factory):
    """A folder with a small built-in scene in it."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_scene(folder / "scene", DemoSceneConfig(width=32, height=24, columns=5, rows=1, supersample=1))
    return folder


def cells_of(scene_root: Path, **flags):
    command = DemoCommand(output_dir=scene_root, device="cpu", **flags)
    return make_plan(load_recipe(command.write_recipe()), scene_root, scene_root, "cpu").cells


def test_the_cells_are_what_the_demo_means(scene_root):
    cells = cells_of(scene_root, steps=123, seed=7)
    assert [cell.label for cell in cells] == list(LABELS)
    assert {cell.evaluation.pictures for cell in cells} == {4}
    configs: List[Any] = [resolve_config(cell.method, (*cell.flags, *cell.parser)) for cell in cells]
    assert [config.pipeline.depth.enabled for config in configs[:2]] == [True, False]
    methods = ["sparsenerf-lite", "sparsenerf-lite", "sparse-splatfacto-lite"]
    assert [config.method_name for config in configs] == methods
    for config in configs:
        assert config.max_num_iterations == 123 and config.machine.seed == 7
        assert config.machine.device_type == "cpu"
        assert config.pipeline.datamanager.dataparser.num_views == 3
        # The schedule of poses, which the demo does not refine, follows the run by itself.
        schedules = [group["scheduler"] for name, group in config.optimizers.items() if name != CAMERA_GROUP]
        assert {schedule.max_steps for schedule in schedules} == {123}
        assert not config.pipeline.evaluation.download_weights
    configs[1].pipeline.depth.enabled = True
    assert str(configs[0]) == str(configs[1])  # Nothing else differs between the first two.
    # The splats have what the photos say of depth, by stereo, and no maps.
    splats = configs[2].pipeline
    assert not splats.depth.enabled and splats.initial_points.source in ("auto", "stereo")
    assert splats.datamanager.dataparser.ray_space == "metric"


def test_without_flags_it_is_the_recipe_of_the_package(scene_root):
    from fewshot_ns.bench.recipes.yaml_file import find_recipe

    own = load_recipe(DemoCommand(output_dir=scene_root).write_recipe())
    shipped = load_recipe(find_recipe("demo"))
    assert (own.methods, own.scenes, own.seeds) == (shipped.methods, shipped.scenes, shipped.seeds)
    assert own.evaluation == shipped.evaluation


def test_cells_change_with_the_flags_that_decide_them(scene_root):
    def keys(**flags):
        return {cell.training_key for cell in cells_of(scene_root, **flags)}

    before = keys()
    assert len(before) == 3 and keys(frames=9, fps=5, download_weights=True) == before
    for change in ({"steps": 7}, {"seed": 1}, {"num_views": 4}):
        assert not keys(**change) & before


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"steps": 0}, "--steps: expected at least 1, got 0"), ({"num_views": 1}, "--num-views: expected at least 2")],
)
def test_impossible_demos_are_refused_at_once(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        DemoCommand(output_dir=tmp_path / "demo", **flags).main()
    assert not (tmp_path / "demo").exists()


def test_force_removes_what_an_earlier_demo_has_written_and_nothing_else(tmp_path):
    command = DemoCommand(output_dir=tmp_path)
    for name in ("cells", "scene"):
        (tmp_path / name).mkdir()
    command._remove_old()
    assert (tmp_path / "cells").is_dir() and (tmp_path / "scene").is_dir()
    (tmp_path / "bench.json").touch()
    (tmp_path / "scene" / "demo_scene.json").touch()
    command._remove_old()
    assert not (tmp_path / "cells").exists() and not (tmp_path / "scene").exists()


@pytest.mark.end_to_end
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine on which training on CUDA fails")
def test_without_cuda_it_says_so(tmp_path):
    command = DemoCommand(output_dir=tmp_path / "demo", device="cuda", width=32, steps=2)
    with pytest.raises(ValueError, match="--device cuda: this machine shows no CUDA device"):
        command.main()


@pytest.mark.end_to_end
def test_a_failed_training_is_reported(tmp_path, monkeypatch):
    # The wheel's console script is replaced by one that fails.
    monkeypatch.setattr("fewshot_ns.bench.execution.cells.console_script", lambda name: Path(sys.executable))
    command = DemoCommand(output_dir=tmp_path / "demo", device="cpu", width=32, steps=2)
    with pytest.raises(CommandError, match="3 of 3 cells failed:"):
        command.main()
    assert not (command.output_dir / "index.html").exists()


@pytest.mark.end_to_end
def test_ctrl_c_keeps_what_is_done(tmp_path):
    output = tmp_path / "demo"
    # Whoever runs the tests in the background lets its children ignore this signal.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heed + "from fewshot_ns.scripts.cli import entrypoint; entrypoint()"
    flags = ["demo", "--output-dir", str(output), "--device", "cpu", "--width", "32", "--steps", "5000"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # Two run at a time: the third has not begun.
    cells = [output / "cells/still-life" / label / "seed-42" for label in LABELS[:2]]
    configs = [cell / "sparsenerf-lite/config.yml" for cell in cells]
    deadline = time.monotonic() + 180
    while not all(config.exists() for config in configs) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(config.exists() for config in configs)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in said
    assert [(read_record(cell) or {})["status"] for cell in cells] == ["interrupted"] * 2
    assert not (output / "cells/still-life/splats/seed-42/sparse-splatfacto-lite").exists()
    assert sorted(entry.name for entry in output.iterdir()) == ["bench.json", "cells", "recipe.yaml", "scene"]
    assert not [entry for entry in output.rglob(".*") if entry.is_file()]


def ns_export(config: Path, folder: Path) -> bytes:
    """What nerfstudio's own command writes of a run of splats."""
    pytest.importorskip("open3d", exc_type=ImportError)
    command = ["gaussian-splat", "--load-config", config, "--output-dir", folder]
    program = Path(sys.executable).parent / "ns-export"
    done = subprocess.run(list(map(str, [program, *command])), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "splat.ply").read_bytes()


@pytest.mark.slow
@pytest.mark.end_to_end
def test_the_whole_demo_in_small(tmp_path):
    output = tmp_path / "demo"
    code = "from fewshot_ns.scripts.cli import entrypoint; entrypoint()"
    flags = ["demo", "--output-dir", str(output), "--device", "cpu", "--width", "48", "--steps", "20", "--frames", "4"]

    def run():
        done = subprocess.run(
            [sys.executable, "-c", code, *flags], capture_output=True, text=True, env={**os.environ, "COLUMNS": "160"}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    text = run()
    assert "finished still-life / with-prior / seed 42" in text and "PSNR" in text and "index.html" in text
    for name in ("results.json", "table.md", "contact_sheet.png", "training_views.png", "video.mp4", "index.html"):
        assert (output / name).stat().st_size > 100, name
    results = json.loads((output / "results.json").read_text())
    for variant in results["variants"].values():
        assert 5.0 < variant["metrics"]["psnr"] < 40.0
        assert len(variant["images"]) == 4 and variant["training"]["steps"] == 20
    assert results["training_views"] == ["view_01.png", "view_12.png", "view_23.png"]

    splats = results["variants"]["splats"]
    assert splats["initial_points"].startswith("stereo: ") and "view_12.png" in splats["initial_points"]
    file = output / splats["splats"]["file"]
    assert file.stat().st_size == splats["splats"]["bytes"] > 4 * 17 * splats["splats"]["gaussians"] > 0

    kept = [output / results["variants"]["with-prior"]["config"], file]
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = run()
    # The scene, three videos, the .ply; three cells.
    assert again.count("done before") == 5 and again.count(" reused ") == 3
    assert [path.stat().st_mtime_ns for path in kept] == stamps

    exported = ns_export(output / splats["config"], tmp_path / "exported")
    assert f"element vertex {splats['splats']['gaussians']}\n".encode() in exported
    assert file.read_bytes().split(b"end_header\n", 1)[1] == exported.split(b"end_header\n", 1)[1]
