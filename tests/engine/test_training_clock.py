"""The cost of training counts what happens within iterations, over all resumes."""

import time

import pytest
import torch

from fewshot_ns.engine.training_clock import TrainingClock, used_gpu


def burn(cpu_seconds: float) -> None:
    end = time.process_time() + cpu_seconds
    while time.process_time() < end:
        pass


def test_only_what_lies_between_start_and_stop_counts():
    clock = TrainingClock()
    for _ in range(2):
        clock.start()
        burn(0.05)
        clock.stop(rays=100)
        burn(0.2)
    assert clock.steps == 2 and clock.rays == 200
    assert 0.1 <= clock.cpu_seconds < 0.3
    # The two clocks tick differently: CPU time may run a few milliseconds ahead of wall time.
    assert clock.wall_seconds > 0.08


def test_sleeping_is_no_cpu_time():
    clock = TrainingClock()
    clock.start()
    time.sleep(0.2)
    clock.stop(rays=1)
    assert clock.wall_seconds >= 0.2 and clock.cpu_seconds < 0.15


def test_sums_go_on_after_a_resume():
    clock = TrainingClock()
    clock.load_state_dict(TrainingClock(steps=10, rays=1000, cpu_seconds=4.0, wall_seconds=5.0).state_dict())
    clock.start()
    clock.stop(rays=100)
    summary = clock.summary()
    assert summary["steps"] == 11 and summary["rays"] == 1100
    assert 4.0 <= summary["cpu_seconds"] < 4.1
    assert summary["rays_per_cpu_second"] == summary["rays"] / summary["cpu_seconds"]
    assert summary["peak_memory_bytes"] is None or summary["peak_memory_bytes"] > 10_000_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said without CUDA")
def test_without_cuda_no_gpu_is_named():
    assert used_gpu() == (None, None)
    summary = TrainingClock().summary()
    assert summary["gpu_name"] is None and summary["peak_gpu_memory_bytes"] is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_is_named_once_something_is_on_it():
    kept = torch.zeros(1000, device="cuda")
    name, peak = used_gpu()
    assert name == torch.cuda.get_device_name() and peak is not None and peak >= kept.numel() * 4


def test_no_speed_before_the_first_step():
    assert TrainingClock().summary()["rays_per_cpu_second"] is None
