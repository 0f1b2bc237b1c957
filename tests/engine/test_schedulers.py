"""Learning rates in closed form; tests/goldens compares them with the reference vectors."""

import numpy as np
import pytest
import torch
from torch.nn import Parameter

from fewshot_ns.engine.schedulers import (
    DelayedLogLinearSchedulerConfig,
    RunLengthSchedulerConfig,
    WarmupCosineSchedulerConfig,
    delayed_log_linear,
    warmup_cosine,
)


def learning_rates(config, lr: float, count: int) -> list:
    """Learning rate that each of the first `count` optimisation steps is taken with."""
    optimizer = torch.optim.SGD([Parameter(torch.zeros(1))], lr=lr)
    scheduler = config.setup().get_scheduler(optimizer, lr_init=lr)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_the_first_optimisation_step_is_step_one():
    config = DelayedLogLinearSchedulerConfig(lr_final=2e-5, max_steps=90000, delay_steps=512, delay_factor=0.01)
    expected = [delayed_log_linear(step, 2e-3, 2e-5, 90000, 512, 0.01) for step in (1, 2, 3)]
    assert learning_rates(config, 2e-3, 3) == pytest.approx(expected, rel=1e-12)


def test_delay_can_be_off_and_the_rate_stays_after_the_end():
    config = DelayedLogLinearSchedulerConfig(lr_final=1e-3, max_steps=2, delay_steps=0)
    assert learning_rates(config, 1e-1, 4) == pytest.approx([1e-2, 1e-3, 1e-3, 1e-3])


def test_a_rate_of_zero_holds_parameters_still_and_a_decay_to_zero_is_refused():
    config = DelayedLogLinearSchedulerConfig(lr_final=1e-3, max_steps=2, delay_steps=0)
    assert learning_rates(config, 0.0, 3) == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="expected a lr_final above 0"):
        learning_rates(DelayedLogLinearSchedulerConfig(lr_final=0.0, max_steps=2), 1e-2, 1)


def test_warmup_cosine():
    config = WarmupCosineSchedulerConfig(warmup_steps=2, max_steps=4, final_ratio=0.2)
    assert learning_rates(config, 1.0, 6) == pytest.approx([0.5, 1.0, 0.6, 0.2, 0.2, 0.2])


def test_warmup_cosine_without_warmup_or_decay_is_in_range():
    assert warmup_cosine(1, 0, 10, 0.1) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi / 10)))
    assert warmup_cosine(5, 5, 5, 0.1) == 1.0
    assert warmup_cosine(6, 5, 5, 0.1) == pytest.approx(0.1)


def test_run_length_decays_from_the_first_step_to_the_last():
    config = RunLengthSchedulerConfig(final_ratio=0.01, max_steps=4)
    expected = [0.5 * 0.01 ** (count / 4) for count in (0, 1, 2, 3, 4, 4)]
    assert learning_rates(config, 0.5, 6) == pytest.approx(expected, rel=1e-12)
    assert learning_rates(RunLengthSchedulerConfig(final_ratio=1.0, max_steps=4), 0.5, 3) == [0.5, 0.5, 0.5]
    # Without steps to train, as where a checkpoint is rendered, there is a rate nevertheless.
    assert learning_rates(RunLengthSchedulerConfig(max_steps=0), 0.5, 1) == [0.5]
    with pytest.raises(ValueError, match="expected a final_ratio above 0, got 0"):
        learning_rates(RunLengthSchedulerConfig(final_ratio=0.0, max_steps=4), 0.5, 1)


@pytest.mark.parametrize(
    "config", [DelayedLogLinearSchedulerConfig(), WarmupCosineSchedulerConfig(), RunLengthSchedulerConfig(max_steps=9)]
)
def test_state_is_plain(config, tmp_path):
    optimizer = torch.optim.Adam([Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = config.setup().get_scheduler(optimizer, lr_init=1e-3)
    scheduler.step()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)
