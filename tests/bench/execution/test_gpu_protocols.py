"""The command of the protocols for GPU machines: its order, what it says is missing, and a budget that ends in a
training, on the CPU."""

from __future__ import annotations

import io
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from gpu_protocols import RENDERERS, Arguments, compared_renderers, main, without_splats
from gpu_report import Missing
from protocol_weights import absent_weights
from protocol_worth import BY_WORTH, is_splats, plan_by_worth, shortened, wanted
from pydantic import TypeAdapter
from rich.console import Console
from splat_renderers import Comparison, Measured

from fewshot_ns.bench.execution.cells import Outcome, WorkerResources
from fewshot_ns.bench.execution.estimate import Estimator
from fewshot_ns.bench.execution.local import Deadline, LocalExecutor
from fewshot_ns.bench.execution.progress import Board
from fewshot_ns.bench.execution.records import FAILED, last_step, read_record, write_record
from fewshot_ns.bench.recipes.yaml_file import find_recipe, load_recipe, recipe_names
from fewshot_ns.bench.results.csv_file import read_csv
from fewshot_ns.utils.processes import CommandError, CommandRunner


@pytest.fixture
def plan_of(data_root, tmp_path):
    """Function (recipe files, further arguments) -> what can be done of them, on the CPU."""

    def plan(*files, **options):
        recipes = wanted([str(file) for file in files])
        return plan_by_worth(recipes, data_root, tmp_path / "out", "cpu", **options)

    return plan


def test_every_protocol_recipe_is_ranked_once_with_a_reason():
    names = [worth.recipe for worth in BY_WORTH]
    assert len(set(names)) == len(names) and set(names) <= set(recipe_names())
    assert all(worth.reason for worth in BY_WORTH)
    published = {"llff", "dtu", "blender", "srn", "sn64", "pixelnerf", "matchnerf", "idnerf", "depth", "splats"}
    small = {"dtu-lite", "splats", "depth-losses", "llff-3-photos-depth", "llff-3-splats", "idnerf-lite"}
    of_papers = {name for name in recipe_names() if name.split("-")[0] in published and "lite" not in name} - small
    assert of_papers <= set(names)
    # Trainings of days come last, whatever their rounds.
    assert [worth.days for worth in BY_WORTH] == sorted(worth.days for worth in BY_WORTH)
    assert wanted([]) == BY_WORTH
    with pytest.raises(ValueError, match="llff-3 more than once"):
        wanted(["llff-3", "dtu-3", "llff-3"])


def test_one_scene_of_each_protocol_with_every_method_comes_first(write_recipe, data_root, plan_of):
    for name in ("hill", "lake"):
        shutil.copytree(data_root / "plane", data_root / name)
    two = ["mipnerf-fewshot-lite", "freenerf-lite"]
    scenes = ["plane", "hill", {"path": "lake", "protocol": "llff-4"}]
    one = write_recipe("one", methods=two, scenes=scenes, seeds=[3, 0])
    other = write_recipe("other", methods=two[:1], scenes=["hill"], seeds=[0])
    cells = plan_of(one, other).cells
    words = [f"{each.recipe} {each.cell.scene} {each.cell.method.split('-')[0]} {each.cell.seed}" for each in cells]
    assert words[:5] == [
        "one plane mipnerf 3",
        "one plane freenerf 3",
        "one lake mipnerf 3",
        "one lake freenerf 3",
        "other hill mipnerf 0",
    ]
    assert words[5:7] == ["one hill mipnerf 3", "one hill freenerf 3"]
    assert all(word.endswith("0") for word in words[7:]) and len(words) == 13
    # What failed waits until all else is done.
    write_record(cells[0].cell, FAILED)
    assert plan_of(one, other).cells[-1].cell == cells[0].cell


def test_what_is_missing_is_said_once_and_the_rest_is_planned(write_recipe, data_root, plan_of):
    shutil.copytree(data_root / "plane", data_root / "bare", ignore=shutil.ignore_patterns("depth_maps"))
    methods = ["mipnerf-fewshot-lite", "sparsenerf"]
    one = write_recipe("one", methods=methods, scenes=["bare", "absent", "gone/too"])
    other = write_recipe("other", scenes=["absent"])
    plan = plan_of(one, other)
    assert [each.cell.method for each in plan.cells] == ["mipnerf-fewshot-lite"]
    lines = Missing(plan, data_root, {"W": ("a", "b")}).lines()
    assert lines[:2] == [
        f"absent: not in {data_root}; wanted by one, other",
        f"gone/too: not in {data_root}; wanted by one",
    ]
    assert "one: methods[1] (sparsenerf): needs depth maps" in lines[2] and "ns-fewshot depth" in lines[2]
    assert lines[3] == "weights of W: not on this disk; wanted by a, b, downloaded if that can be" and len(lines) == 4


def test_weights_that_are_not_on_this_disk_are_named(write_recipe, plan_of, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    methods = [
        {
            "method": "dietnerf-lite",
            "overrides": {"pipeline.semantic.encoder": {"library": "torchvision", "model": "vgg16"}},
        },
        "mipnerf-fewshot-lite",
    ]
    lpips = {"metrics": ["psnr", "lpips"]}
    found = absent_weights(plan_of(write_recipe(methods=methods, evaluation=lpips)).cells)
    assert sorted(found.values()) == [("dietnerf-lite",), ("dietnerf-lite", "mipnerf-fewshot-lite")]
    assert any("LPIPS" in name for name in found) and any("torchvision vgg16" in name for name in found)
    assert absent_weights(plan_of(write_recipe(methods=["mipnerf-fewshot-lite"])).cells) == {}


def test_shortened_trainings_say_so_and_lie_apart(write_recipe, plan_of, small):
    long = {"method": "freenerf-lite", "overrides": {**small, "max-num-iterations": 900}, "as-published": True}
    methods = [
        {"method": "mipnerf-fewshot-lite", "overrides": small, "as-published": True},
        {**long, "budget": {"steps": 400}},
    ]
    file = write_recipe(methods=methods)
    as_it_is, shorter = plan_of(file).cells, plan_of(file, steps=50).cells
    assert [each.cell.steps for each in as_it_is] == [4, 900]
    assert [each.cell.steps for each in shorter] == [4, 50]
    assert [each.cell.as_published for each in shorter] == [True, False]
    assert not shorter[1].cell.own_length and "steps-50" in shorter[1].cell.folder.as_posix()
    assert {each.recipe for each in shorter} == {"tiny-steps-50"}
    # A flag of the recipe would have won over the budget.
    assert "900" in as_it_is[1].cell.flags and "900" not in shorter[1].cell.flags
    recipe = shortened(load_recipe(find_recipe("llff-3")), 100)
    assert all(method.budget.steps == 100 and not method.as_published for method in recipe.methods)
    assert "not as published" in recipe.description


def test_splats_can_do_without_kernels(write_recipe, plan_of):
    assert is_splats("sparse-splatfacto") and not is_splats("freenerf") and not is_splats("unknown")
    file = write_recipe(
        methods=["sparse-splatfacto-lite", "freenerf-lite"], dataparser={"ray-space": "metric"}, budget=None
    )
    flags = {each.cell.method: each.cell.flags for each in plan_of(file, torch_splats=True).cells}
    assert flags["sparse-splatfacto-lite"][-2:] == ("--pipeline.model.rasterizer", "torch")
    assert "torch" not in flags["freenerf-lite"]


def test_splats_are_left_out_where_the_kernels_do_not_run(write_recipe, data_root, plan_of):
    methods = ["sparse-splatfacto-lite", "freenerf-lite"]
    plan = plan_of(write_recipe(methods=methods, dataparser={"ray-space": "metric"}, budget=None, seeds=[0, 1]))
    to_do, missing = without_splats(list(plan.cells), Missing(plan, data_root, {}), "no compiler")
    assert [each.cell.method for each in to_do] == ["freenerf-lite"] * 2
    assert missing.lines() == ["2 cells of splats: no compiler; --splats torch trains them without kernels"]
    again, same = without_splats(to_do, missing, "no compiler")
    assert again == to_do and same == missing


def test_renderers_are_compared_in_a_process_of_their_own_or_it_is_said_why_not(tmp_path):
    on_cpu = compared_renderers(tmp_path, "cpu", 100.0, lambda: 0.0)
    late = compared_renderers(tmp_path, "cuda", 0.0, lambda: 0.0)
    assert "nothing was compared" in on_cpu.error and "more than half of the budget" in late.error
    kept = Comparison("GPU", {"torch": "2"}, (Measured("24x18", 9, "torch", 1.0, 2.0, None),))
    (tmp_path / RENDERERS).write_bytes(TypeAdapter(Comparison).dump_json(kept))
    assert compared_renderers(tmp_path, "cuda", 0.0, lambda: 0.0).measured == list(kept.measured)
    (tmp_path / RENDERERS).write_text("{}")
    with pytest.raises(ValueError, match=RENDERERS):
        compared_renderers(tmp_path, "cuda", 0.0, lambda: 0.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said without CUDA")
def test_the_process_that_compares_says_that_there_is_no_gpu(tmp_path):
    result = compared_renderers(tmp_path, "cuda", time.monotonic() + 1000.0, time.monotonic)
    assert result.error.startswith("no CUDA device") and "gsplat" in result.versions
    assert "no CUDA device" in (tmp_path / "splat_renderers.log").read_text()


def test_two_recipes_of_one_name_and_nothing_to_do_are_errors(write_recipe, data_root, plan_of, tmp_path):
    first, second = (write_recipe(name) for name in ("first", "second"))
    for file in (first, second):
        file.write_text(f"{file.read_text()}name: same\n")
    with pytest.raises(ValueError, match="a name of its own, found same again"):
        plan_of(first, second)
    empty = str(write_recipe(scenes=["absent"]))
    arguments = Arguments(data=data_root, output_dir=tmp_path / "out", recipes=(empty,), device="cpu")
    with pytest.raises(ValueError, match="none that can be trained on"):
        main(arguments)
    for wrong, said in (({"budget_minutes": 0.0}, "budget-minutes"), ({"steps": 0}, "steps"), ({"jobs": -1}, "jobs")):
        with pytest.raises(ValueError, match=said):
            main(replace(arguments, **wrong))
    assert not (tmp_path / "out").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(write_recipe, data_root, tmp_path, capsys):
    file = str(write_recipe(scenes=["plane", "absent"], seeds=[0, 1]))
    out = tmp_path / "out"
    assert main(Arguments(data=data_root, output_dir=out, recipes=(file,), device="cpu", dry_run=True)) == 0
    said = capsys.readouterr().out
    assert "missing: absent: not in" in said and said.count("1 new") == 2 and "given with --recipes" in said
    assert not out.exists()


def test_at_the_deadline_commands_end_and_others_do_not_begin(write_recipe, plan_of, tmp_path):
    """The executor with cells that sleep in a command of their own, one of them deaf to being asked."""
    cells = [each.cell for each in plan_of(write_recipe(seeds=[0, 1, 2])).cells]
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    log = tmp_path / "log"

    def run(cell, folder, resources, runner: CommandRunner, *_):
        with pytest.raises(CommandError):
            runner.run(["python3", "-c", deaf], log)
        return Outcome(cell.name, "interrupted", 0.0)

    plan = plan_of(write_recipe(seeds=[0, 1, 2])).plans[0]
    board = Board(Console(file=io.StringIO()), cells, Estimator(plan), 1, {cells[0].folder: "the first"})
    begun: List[float] = []

    def clock() -> float:
        """Stands until the command is up."""
        if not begun and log.is_file() and log.read_text():
            begun.append(time.monotonic())
        return time.monotonic() - begun[0] if begun else -1.0

    executor = LocalExecutor([WorkerResources()], run=run, deadline=Deadline(0.0, 1.0, clock))
    with board.showing():
        outcomes = executor.execute(cells, tmp_path, board)
    assert 0.9 < clock() < 50.0 and log.read_text() == "up\n"
    assert [outcome.status for outcome in outcomes.values()] == ["interrupted", "not begun", "not begun"]
    assert "interrupted the first" in board.console.file.getvalue()  # type: ignore[attr-defined]


class Hurrying:
    """A clock that is put forward to some second once a file is there, so that a slow machine needs no longer budget.

    Args:
        folder: where the file is looked for.
        pattern: of the file.
        to: seconds since the clock was made.
    """

    def __init__(self, folder: Path, pattern: str, to: float) -> None:
        self.folder, self.pattern, self.to = folder, pattern, to
        self.began, self.ahead = time.monotonic(), 0.0

    def __call__(self) -> float:
        passed = time.monotonic() - self.began
        if self.ahead == 0.0 and any(self.folder.glob(self.pattern)):
            self.ahead = max(self.to - passed, 1e-3)
        return passed + self.ahead


@pytest.mark.end_to_end
def test_a_budget_ends_with_a_checkpoint_and_the_next_call_goes_on(write_recipe, small, data_root, tmp_path, capsys):
    """A training that takes longer than the budget; the next call finishes it, and one more has nothing to do."""
    file = write_recipe(
        methods=[{"method": "mipnerf-fewshot-lite", "overrides": {**small, "steps-per-save": 20}}],
        budget={"steps": 1000},
        evaluation={"metrics": ["psnr"], "pictures": 0},
    )
    out = tmp_path / "out"
    folder = out / "tiny/cells/plane/mipnerf-fewshot-lite/seed-0"
    # So that an edit of the code while this runs does not count.
    arguments = Arguments(data_root, out, 10.0, "cpu", (str(file),), keep_older=True)

    def state() -> Dict[str, Any]:
        return read_record(folder) or {}

    # Trainings are asked to end half a minute before the end of the budget.
    clock = Hurrying(folder, "*/nerfstudio_models/*.ckpt", 60.0 * arguments.budget_minutes - 30.0)
    assert main(arguments, clock=clock) == 0 and clock.ahead > 0.0 and clock() < 60.0 * arguments.budget_minutes + 10.0
    said = capsys.readouterr().out
    assert (
        "0 of 1 cells are finished" in said and "next is tiny: plane / mipnerf-fewshot-lite / seed 0: the same" in said
    )
    step, first = last_step(folder / "mipnerf-fewshot-lite"), state()
    assert step is not None and step < 999 and "ends after this step" in (folder / "train-1.log").read_text()
    assert first["status"] == "interrupted" and first["seconds_training"] > 0.0
    page = (out / "gpu_report.md").read_text()
    assert "| tiny: plane / mipnerf-fewshot-lite / seed 0 | interrupted |" in page and "nothing was compared" in page
    assert f"1 resume at {step}" in page and read_csv(out / "results.csv").cells[0].status == "interrupted"

    assert main(arguments) == 0
    assert f"Resuming after step {step}" in (folder / "train-2.log").read_text()
    assert "1 of 1 cells are finished" in capsys.readouterr().out
    assert state()["status"] == "finished" and state()["seconds_training"] > first["seconds_training"]
    (row,) = read_csv(out / "results.csv").cells
    assert row.finished and row.steps == 1000 and row.gpu_name == ""
    assert row.training["cpu_seconds"] > 0.0 and row.training["wall_seconds"] > 0.0
    assert "| tiny | plane (llff-3) | mipnerf-fewshot-lite | 0 | 1000 |" in (out / "gpu_report.md").read_text()

    before = (folder / "cell.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (folder / "cell.json").stat().st_mtime_ns == before and "| nothing |" in (out / "gpu_report.md").read_text()


def test_with_no_time_left_nothing_begins(write_recipe, data_root, tmp_path, capsys):
    file, out = str(write_recipe()), tmp_path / "out"
    arguments = Arguments(data_root, out, 0.001, "cpu", (file,))
    assert main(arguments, started=time.monotonic() - 60.0) == 0
    assert "0 of 1 cells are finished" in capsys.readouterr().out and "1 new" in (out / "gpu_report.md").read_text()
    assert not (out / "tiny/cells").exists() and read_csv(out / "results.csv").cells[0].status == "not run"
