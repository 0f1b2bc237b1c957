"""Timing: the clock starts and stops when the device is idle."""

from __future__ import annotations

import time

import pytest
import torch

from fewshot_ns.evaluation.runners.evaluator import timed


def test_result_and_seconds():
    result, seconds = timed(lambda: time.sleep(0.02) or "done", torch.device("cpu"))
    assert result == "done" and 0.02 <= seconds < 1.0


def test_cuda_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch):
    """What is still queued before does not count, what the call has queued does."""
    events = []

    def synchronize(device: torch.device) -> None:
        events.append(f"wait for {device}")
        time.sleep(0.05)

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    _, seconds = timed(lambda: events.append("call"), torch.device("cuda", 1))
    assert events == ["wait for cuda:1", "call", "wait for cuda:1"]
    assert 0.05 <= seconds < 0.1
    events.clear()
    timed(lambda: events.append("call"), torch.device("cpu"))
    assert events == ["call"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_work_on_the_gpu_counts():
    device = torch.device("cuda")
    # About 0.1 s at 1 to 2 GHz; the launch returns at once.
    _, seconds = timed(lambda: torch.cuda._sleep(200_000_000), device)
    assert seconds > 0.05
