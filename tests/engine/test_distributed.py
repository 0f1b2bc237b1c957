"""Generalizable training by two real processes that talk by gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

STEPS = 3
TIMEOUT_SECONDS = 300


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")
def test_two_ranks_see_other_scenes_and_agree_on_the_weights(tiny_solids: Path, tmp_path: Path):
    script = Path(__file__).with_name("one_rank.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [str(tmp_path / "meeting"), str(tiny_solids), str(tmp_path), str(STEPS)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(text[-4000:] for text in printed)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert len(first["drawn"]) == len(second["drawn"]) == STEPS
    for ours, theirs in zip(first["drawn"], second["drawn"], strict=True):
        assert not set(ours["scenes"]) & set(theirs["scenes"])
        assert ours["pixels"] != theirs["pixels"]
    assert first["weights"] == second["weights"], "ranks that agree in their gradients agree in their weights"
    checkpoints = list((tmp_path / "two-ranks").rglob("*.ckpt"))
    assert len(checkpoints) == 1, "rank 0 alone saves"
    assert torch.load(checkpoints[0], weights_only=True)["step"] == STEPS - 1
