"""The cost of training counts what happens within iterations, over all resumes."""

import time

from fewshot_ns.engine.training_clock import TrainingClock


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


def test_no_speed_before_the_first_step():
    assert TrainingClock().summary()["rays_per_cpu_second"] is None
