"""Training of one scene by two real processes that talk by gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import numpy as np
import pytest
import torch

STEPS = 3
TIMEOUT_SECONDS = 300
TESTS = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")


def processes_of(folder: Path, arguments: Sequence[Any], ranks: int = 2) -> List[Tuple[int, str]]:
    """What processes of one training end with, and what they print."""
    script = Path(__file__).with_name("one_rank_of_a_scene.py")
    paths = os.pathsep.join([str(TESTS), str(TESTS / "goldens"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(ranks), str(folder), *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        printed = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, printed, strict=True)]


def train(
    folder: Path, scene: Path, run: str, steps: int, *more: str, method: str = "freenerf_lite", ranks: int = 2
) -> List[Any]:
    """What each rank of a training has drawn, and its weights."""
    ended = processes_of(folder, [scene, run, method, steps, *more], ranks)
    assert [code for code, _ in ended] == [0] * ranks, "\n".join(text[-4000:] for _, text in ended)
    return [json.loads((folder / f"{run}-{rank}.json").read_text()) for rank in range(ranks)]


def test_two_ranks_draw_other_pixels_agree_and_resume(tiny_rgbd_scene: Path, tmp_path: Path) -> None:
    first, second = train(tmp_path, tiny_rgbd_scene, "whole", STEPS)
    assert len(first["drawn"]) == len(second["drawn"]) == STEPS
    assert all(ours != theirs for ours, theirs in zip(first["drawn"], second["drawn"], strict=True))
    assert first["weights"] == second["weights"], "ranks that agree in their gradients agree in their weights"
    assert np.abs(first["weights"]["camera_optimizer.pose_adjustment"]).max() > 0
    run = next(tmp_path.rglob("whole/nerfstudio_models")).parent
    (checkpoint,) = run.rglob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["step"] == STEPS - 1, "rank 0 alone saves"
    assert len(list((run / "eval").glob("*.jsonl"))) == 1

    # One step for the CPU time: as one process takes it, no other waits for its gradients.
    more = f"load_dir={run / 'nerfstudio_models'}", "max_train_cpu_seconds=1e-6"
    first, second = train(tmp_path, tiny_rgbd_scene, "resumed", 2 * STEPS, *more)
    assert len(first["drawn"]) == len(second["drawn"]) == 1 and first["drawn"] != second["drawn"]
    assert first["weights"] == second["weights"]
    (checkpoint,) = run.with_name("resumed").rglob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["step"] == STEPS


def test_two_ranks_of_splats_agree_while_their_number_changes(tiny_rgbd_scene: Path, tmp_path: Path) -> None:
    method, means = "sparse_splatfacto_lite", "gauss_params.means"
    first, second = train(tmp_path, tiny_rgbd_scene, "whole", 2 * STEPS, method=method)
    views = [[{row[0] for row in step} for step in rank["drawn"]] for rank in (first, second)]
    assert all(len(ours) == 1 and ours != theirs for ours, theirs in zip(*views, strict=True)), "each has its own photo"
    assert first["began"] == second["began"] != [len(first["weights"][means])]
    # Splits draw random numbers, which ranks draw apart but for these.
    assert first["weights"] == second["weights"]
    number = len(first["weights"][means])
    (pose,) = (value for name, value in first["weights"].items() if name.endswith("pose_adjustment"))
    assert np.abs(pose).max() > 0

    # A checkpoint of another number of Gaussians than a new run begins with.
    run = next(tmp_path.rglob("whole/nerfstudio_models")).parent
    more = (f"load_dir={run / 'nerfstudio_models'}",)
    first, second = train(tmp_path, tiny_rgbd_scene, "resumed", 3 * STEPS, *more, method=method)
    assert len(first["drawn"]) == STEPS and first["weights"] == second["weights"]
    assert first["began"] == [number]
