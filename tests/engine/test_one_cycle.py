"""The one-cycle schedule against torch's own."""

from __future__ import annotations

import pytest
import torch

from fewshot_ns.engine.schedulers import OneCycleSchedulerConfig


@pytest.mark.parametrize("steps", [41, 100, 333])
def test_equals_torch(steps):
    def rates(make):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.AdamW([parameter], lr=0.5)
        scheduler, found = make(optimizer), []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(found) < steps:
                scheduler.step()
        return found

    own = rates(lambda optimizer: OneCycleSchedulerConfig(max_steps=steps).setup().get_scheduler(optimizer, 0.5))
    cycle = torch.optim.lr_scheduler.OneCycleLR
    theirs = rates(lambda optimizer: cycle(optimizer, 0.5, total_steps=steps, pct_start=0.05, cycle_momentum=False))
    assert own == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_is_constant_after_its_end():
    parameter = torch.nn.Parameter(torch.zeros(1))
    scheduler = OneCycleSchedulerConfig(max_steps=10).setup().get_scheduler(torch.optim.SGD([parameter], lr=1.0), 1.0)
    factor = scheduler.lr_lambdas[0]
    assert factor(9) == factor(50) == pytest.approx(1 / 25e4)
