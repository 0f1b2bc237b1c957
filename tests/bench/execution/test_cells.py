"""Cells: records, locks, what is set aside, and the whole way of a benchmark that is killed and taken up again."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from fewshot_ns.bench.execution.cells import WorkerResources, run_cell
from fewshot_ns.bench.execution.local import local_workers
from fewshot_ns.bench.execution.plan_summary import cell_state
from fewshot_ns.bench.execution.records import (
    FINISHED,
    CellBusyError,
    is_finished,
    last_step,
    locked,
    read_record,
    set_aside,
    write_record,
)
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.yaml_file import load_recipe
from fewshot_ns.bench.results.cells import read_results
from fewshot_ns.scripts.cli import main
from fewshot_ns.utils.disk_space import DiskFullError


@pytest.fixture
def cell(write_recipe, data_root, tmp_path):
    """The cell of the smallest recipe."""
    (cell,) = make_plan(load_recipe(write_recipe()), data_root, tmp_path / "out", "cpu").cells
    return cell


def test_a_cell_is_finished_only_for_what_it_was_asked(cell):
    write_record(cell, FINISHED, trained=True)
    assert not is_finished(cell)  # The figures themselves are not there.
    (cell.folder / "eval.json").write_text("{}")
    assert is_finished(cell) and cell_state(cell, False) == "finished"
    assert not is_finished(replace(cell, evaluation=replace(cell.evaluation, max_views=1)))
    for name in ("config", "scene", "source", "metrics"):
        other = replace(cell, keys={**cell.keys, name: "other"})
        if name == "config":
            other = replace(other, config={**cell.config, "machine.seed": "9"})
        assert not is_finished(other)
        assert is_finished(other, any_source=True) == (name == "source")
    # A field that came with a later version of the code is no reason, if that version is taken.
    later = replace(cell, keys={**cell.keys, "config": "other"}, config={**cell.config, "pipeline.new.field": "1"})
    assert not is_finished(later) and is_finished(later, any_source=True)
    assert cell_state(replace(cell, keys={**cell.keys, "scene": "other"}), False) == "made otherwise"


def test_work_with_other_settings_is_moved_not_deleted(cell, tmp_path):
    for number in (1, 2):
        write_record(cell, FINISHED)
        moved = set_aside(cell, tmp_path / "out")
        assert moved is not None and moved == tmp_path / f"out/superseded/plane/mipnerf-fewshot-lite/seed-0-{number}"
        assert (moved / "cell.json").is_file() and read_record(cell.folder) is None
    assert set_aside(cell, tmp_path / "out") is None


def test_a_cell_belongs_to_one_process_and_to_the_commands_it_started(cell):
    code = "import time; print('up', flush=True); time.sleep(60)"
    with locked(cell.folder) as handles:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, pass_fds=handles)
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
    try:
        # We have let go, but the command is still running, as after a kill -9 of the benchmark.
        with pytest.raises(CellBusyError, match="another process is working"), locked(cell.folder):
            pass
        outcome = run_cell(cell, cell.folder.parents[3], WorkerResources())
        assert outcome.status == "failed" and "another process" in outcome.error and read_record(cell.folder) is None
    finally:
        child.kill()
        child.wait()
    with locked(cell.folder):
        pass


def test_a_full_disk_ends_a_cell_and_not_the_benchmark(cell, monkeypatch):
    def full(*_, **__):
        raise DiskFullError("cell.json: the disk full")

    monkeypatch.setattr("fewshot_ns.bench.execution.cells.write_record", full)
    outcome = run_cell(cell, cell.folder.parents[3], WorkerResources())
    assert outcome.status == "failed" and outcome.error.count("the disk full") == 2
    assert "not recorded" in outcome.error


@pytest.mark.parametrize(
    "content", ["[]", '{"status": "finished"}', '{"status": 3, "keys": {}, "cell": {}}', "{", "\xff"]
)
def test_a_cell_with_a_damaged_record_is_run_again(cell, tmp_path, content):
    write_record(cell, FINISHED, trained=True)
    (cell.folder / "eval.json").write_text("{}")
    assert is_finished(cell)
    (cell.folder / "cell.json").write_bytes(content.encode("latin-1"))
    assert not is_finished(cell) and cell_state(cell, False) == "new"
    moved = set_aside(cell, tmp_path / "out")
    assert moved is not None and (moved / "cell.json").is_file()


def test_stray_files_beside_checkpoints_are_no_steps(cell):
    models = cell.run_dir / "nerfstudio_models"
    models.mkdir(parents=True)
    for name in ("step-abc.ckpt", "step-.ckpt", "step-000000003.ckpt"):
        (models / name).touch()
    (models / "step-000000009.ckpt").mkdir()
    assert last_step(cell.run_dir) == 3


def test_the_cores_are_parted(monkeypatch):
    monkeypatch.setattr("fewshot_ns.bench.execution.local.usable_cores", lambda: 8)
    assert local_workers("cpu", 0, 0) == [WorkerResources(1)] * 8
    assert local_workers("cpu", 3, 0) == [WorkerResources(2)] * 3
    assert local_workers("cpu", 0, 4) == [WorkerResources(4)] * 2
    monkeypatch.setattr("fewshot_ns.bench.execution.local.visible_gpus", lambda: ["0", "3"])
    assert local_workers("cuda", 0, 0) == [WorkerResources(4, "0"), WorkerResources(4, "3")]
    assert local_workers("cuda", 3, 1) == [WorkerResources(1, "0"), WorkerResources(1, "3"), WorkerResources(1, "0")]
    monkeypatch.setattr("fewshot_ns.bench.execution.local.visible_gpus", lambda: [])
    with pytest.raises(ValueError, match="no CUDA device"):
        local_workers("cuda", 0, 0)


def test_each_worker_sees_its_gpu_alone():
    assert WorkerResources(2).environment("cpu")["CUDA_VISIBLE_DEVICES"] == ""
    assert WorkerResources(2, "3").environment("cuda")["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in WorkerResources(2).environment("cuda")
    assert WorkerResources(2).environment("cpu")["OMP_NUM_THREADS"] == "2"


LONG = {"steps-per-save": 20}


@pytest.mark.end_to_end
def test_a_benchmark_that_is_killed_goes_on_where_it_was(write_recipe, small, data_root, tmp_path, capsys):
    """One cell finishes its training, one is killed in it, one fails; the second run does what is missing."""
    quads = {**small, "pipeline.depth.num-quads": 100}
    recipe = write_recipe(
        methods=[
            {"method": "mipnerf-fewshot-lite", "label": "short", "overrides": small},
            {
                "method": "mipnerf-fewshot-lite",
                "label": "long",
                "overrides": {**small, **LONG},
                "budget": {"steps": 600},
            },
            {"method": "sparsenerf-lite", "label": "broken", "overrides": quads},
        ],
        evaluation={"metrics": ["psnr", "ssim"], "pictures": 1, "curve-steps": 300},
    )
    out = tmp_path / "out"
    # So that an edit of the code while this runs does not count.
    flags = ["bench", str(recipe), "--data", str(data_root), "--output-dir", str(out), "--device", "cpu"]
    flags.append("--keep-older")
    code = "from fewshot_ns.scripts.cli import entrypoint; entrypoint()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *flags, "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    short, long, broken = (out / "cells/plane" / label / "seed-0" for label in ("short", "long", "broken"))

    def ready():
        checkpoint = any((long / "mipnerf-fewshot-lite/nerfstudio_models").glob("*.ckpt"))
        return checkpoint and (read_record(short) or {}).get("trained")

    deadline = time.monotonic() + 240
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in output, output
    assert (read_record(long) or {})["status"] == "interrupted"
    config = (short / "mipnerf-fewshot-lite/config.yml").stat().st_mtime_ns

    assert main([*flags, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "1 trained" in plan and re.search(r"1 resume at \d+", plan) and "1 new" in plan, plan
    assert main([*flags, "--jobs", "2"]) == 1
    said = capsys.readouterr()
    assert "1 of 3 cells failed" in said.err and "100 quads need 400 rays" in said.err
    assert "2 of 3 cells are finished" in said.out

    assert (short / "mipnerf-fewshot-lite/config.yml").stat().st_mtime_ns == config  # Not trained again.
    assert "Resuming after step" in (long / "train-2.log").read_text()
    record = json.loads((long / "cell.json").read_text())
    assert record["status"] == "finished" and record["attempts"] == 2 and record["step"] == 599
    assert record["training"]["steps"] == 600  # Both parts together, each step once.
    assert 0.0 < record["results"]["psnr"] < 60.0 and record["results"]["ssim"] is not None
    failed = json.loads((broken / "cell.json").read_text())
    assert failed["status"] == "failed" and "100 quads need 400 rays" in failed["error"]
    assert (long / "eval.jsonl").read_text().count("\n") == 2 and (long / "views/view-0000.npz").is_file()

    assert main([*flags, "--dry-run"]) == 0
    assert "3 cells, 1 to do" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    assert (out / "report/index.html").stat().st_size > 1e6
    results = {cell.label: cell for cell in read_results(out).cells}
    (point,) = results["long"].curve
    assert point.step == 300 and point.cpu_seconds is not None
    assert 0.0 < point.cpu_seconds < results["long"].training["cpu_seconds"]
    assert (results["long"].metrics["baseline_nearest_view_psnr"] or 0.0) > 0.0 and not results["short"].curve
    run = long / results["long"].method
    resolved = {**json.loads((run / "resolved.json").read_text()), "initial_points": {"source": "stereo: 9 points"}}
    (run / "resolved.json").write_text(json.dumps(resolved))
    started = {cell.label: cell.initial_points for cell in read_results(out).cells}
    assert started == {"short": "", "long": "stereo: 9 points", "broken": ""}
    text = (out / "report/report.md").read_text()
    assert "plane, broken, seed 0: failed; " in text and "100 quads need 400 rays" in text
