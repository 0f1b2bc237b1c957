"""`ns-fewshot demo`: its commands are valid, an early end leaves nothing half-written, the whole works end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console

from fewshot_ns.scripts.demo import VARIANTS, DemoCommand
from fewshot_ns.scripts.demo_work import DemoWork
from fewshot_ns.scripts.progress import StageBoard
from fewshot_ns.utils.errors import CommandError
from fewshot_ns.utils.processes import CommandRunner


def test_flags_mean_to_the_host_what_the_demo_means(tmp_path):
    import tyro
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    command = DemoCommand(output_dir=tmp_path, steps=123, seed=7, device="cpu")
    configs = [tyro.cli(AnnotatedBaseConfigUnion, args=command.train_flags(variant)) for variant in VARIANTS]
    assert [config.pipeline.depth.enabled for config in configs] == [True, False]
    for config in configs:
        assert config.method_name == "sparsenerf-lite" and config.vis == "tensorboard"
        assert config.max_num_iterations == 123 and config.machine.seed == 7
        assert config.machine.device_type == "cpu"
        assert config.pipeline.datamanager.dataparser.num_views == 3
        assert {group["scheduler"].max_steps for group in config.optimizers.values()} == {123}
        assert not config.pipeline.evaluation.download_weights
    configs[1].pipeline.depth.enabled = True
    assert str(configs[0]) == str(configs[1])  # Nothing else differs between the two trainings.


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"steps": 0}, "--steps: expected at least 1, got 0"), ({"num_views": 1}, "--num-views: expected at least 2")],
)
def test_impossible_demos_are_refused_at_once(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        DemoCommand(output_dir=tmp_path / "demo", **flags).main()
    assert not (tmp_path / "demo").exists()


def test_records_change_with_what_they_depend_on(tmp_path):
    def keys(**flags):
        command = DemoCommand(output_dir=tmp_path, device="cpu", **flags)
        board = StageBoard(Console())
        return [DemoWork(command, variant, board, CommandRunner(), 0).train_record().key for variant in VARIANTS]

    assert keys() == keys() and len(set(keys())) == 2
    assert keys(frames=9, fps=5) == keys()
    for change in ({"steps": 7}, {"width": 64}, {"seed": 1}, {"num_views": 4}):
        assert not set(keys(**change)) & set(keys())


@pytest.mark.end_to_end
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine on which training on CUDA fails")
def test_a_failed_training_is_reported_and_removed(tmp_path):
    command = DemoCommand(output_dir=tmp_path / "demo", device="cuda", width=32, steps=2)
    with pytest.raises(CommandError, match="ns-train ended with status 1; the whole log is") as caught:
        command.main()
    assert "cuda" in str(caught.value).lower()
    assert not command.run_dir(VARIANTS[0]).exists()
    assert (command.output_dir / "logs" / "train-with-prior.log").is_file()


@pytest.mark.end_to_end
def test_ctrl_c_leaves_nothing_half_written(tmp_path):
    command = DemoCommand(output_dir=tmp_path / "demo", device="cpu", width=32, steps=5000)
    # Whoever runs the tests in the background lets its children ignore this signal.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heed + "from fewshot_ns.scripts.cli import entrypoint; entrypoint()"
    flags = ["demo", "--output-dir", str(command.output_dir), "--device", "cpu", "--width", "32", "--steps", "5000"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    configs = [command.run_dir(variant) / "config.yml" for variant in VARIANTS]
    deadline = time.monotonic() + 180
    while not all(config.exists() for config in configs) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(config.exists() for config in configs)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in output
    assert not any(command.run_dir(variant).exists() for variant in VARIANTS)
    assert sorted(entry.name for entry in command.output_dir.iterdir()) == ["logs", "runs", "scene"]
    assert not [entry for entry in command.output_dir.rglob(".*") if entry.is_file()]


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
    assert "train with the depth prior: 20/20" in text and "PSNR" in text and "index.html" in text
    for name in ("results.json", "table.md", "contact_sheet.png", "training_views.png", "video.mp4", "index.html"):
        assert (output / name).stat().st_size > 100, name
    results = json.loads((output / "results.json").read_text())
    for variant in results["variants"].values():
        assert 5.0 < variant["metrics"]["psnr"] < 40.0
        assert len(variant["images"]) == 4 and variant["training"]["steps"] == 20
    assert results["training_views"] == ["view_01.png", "view_12.png", "view_23.png"]

    stamp = (output / "runs/demo/sparsenerf-lite/with-prior/config.yml").stat().st_mtime_ns
    assert run().count("done before") == 7  # The scene, two trainings, two evaluations, two renderings.
    assert (output / "runs/demo/sparsenerf-lite/with-prior/config.yml").stat().st_mtime_ns == stamp
