"""What processes of one training tell each other, with two real processes that talk by gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fewshot_ns.utils.ranks import drawn_alike, in_several, shared_seed

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")

RANK = """
import json, sys
import torch
import torch.distributed as dist
from fewshot_ns.model_components.splatting.densification import count_seen_by_all
from fewshot_ns.utils.ranks import (
    average_gradients, drawn_alike, in_several, of_all, shared_seed, state_of_first, take_from_first
)

rank, meeting = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
torch.manual_seed(5 + rank)
first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
first.grad = torch.tensor([1.0, 4.0]) if rank == 0 else torch.tensor([3.0, -4.0])
if rank == 0:
    second.grad = torch.ones(2)
average_gradients([first, second])
model = torch.nn.Linear(2, 1 + rank)
with drawn_alike(7, 3, torch.device("cpu")):
    alike = torch.rand(2).tolist()
means = torch.zeros(1, 2, 2, requires_grad=True)
means.grad = torch.full((1, 2, 2), 1.0 + rank)
statistics = {"grad2d": torch.ones(2), "count": torch.ones(2)}
radii = torch.tensor([[1 - rank, 3]])
for shape in (radii, torch.stack([radii, radii], dim=-1)):
    count_seen_by_all({"means2d": means, "radii": shape, "width": 8 - 4 * rank, "height": 4}, statistics)
taken = torch.nn.Parameter(torch.full((2,), float(rank)))
take_from_first([taken])
try:
    take_from_first([torch.nn.Parameter(torch.zeros(2 + rank))])
    error = ""
except RuntimeError as raised:
    error = str(raised)
print(json.dumps({
    "gradients": [first.grad.tolist(), second.grad.tolist()],
    "several": in_several(),
    "seed": shared_seed(),
    "alike": alike,
    "apart": torch.rand(2).tolist(),
    "of_all": of_all(torch.tensor([float(rank)])).tolist(),
    "state": {name: value.tolist() for name, value in state_of_first(model).items()},
    "own": {name: value.tolist() for name, value in model.state_dict().items()},
    "statistics": {name: value.tolist() for name, value in statistics.items()},
    "taken": taken.tolist(),
    "error": error,
}))
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "meeting")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), printed
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in printed)
    # One without a gradient counts as 0.
    assert first["gradients"] == second["gradients"] == [[2.0, 0.0], [0.5, 0.5]]
    assert first["several"] and first["seed"] == second["seed"] == 5
    assert first["alike"] == second["alike"] and first["apart"] != second["apart"]
    assert first["of_all"] == second["of_all"] == [[0.0], [1.0]]
    assert first["state"] == second["state"] == first["own"] != second["own"]
    # Gradients of 1 and 2 in halves of photos of 8x4 and 4x4 pixels: (4, 2) and (4, 4). The second photo does not see
    # the first Gaussian. All of it twice, with a radius and with one for each axis.
    norms = [20.0**0.5, 20.0**0.5 + 32.0**0.5]
    assert first["statistics"] == second["statistics"]
    assert first["statistics"]["grad2d"] == pytest.approx([1.0 + 2.0 * norm for norm in norms], rel=1e-6)
    assert first["statistics"]["count"] == [3.0, 5.0]
    assert first["taken"] == second["taken"] == [0.0, 0.0]
    assert first["error"] == second["error"] and "different numbers of primitives: [2, 3]" in first["error"]


def test_one_process_alone() -> None:
    assert not in_several()
    torch.manual_seed(11)
    assert shared_seed() == 11
    cpu = torch.device("cpu")
    after = torch.rand(2)
    torch.manual_seed(11)
    drawn = []
    for step in (3, 3, 4):
        with drawn_alike(7, step, cpu):
            drawn.append(torch.rand(2))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.rand(2), after), "what is drawn afterwards is what would have been drawn"
