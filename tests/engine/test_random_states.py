"""Random states survive a checkpoint."""

import random

import numpy as np
import torch

from fewshot_ns.engine.resume import capture_random_states, restore_random_states


def draw() -> list:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()]


def test_draws_continue_where_they_were(tmp_path):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    draw()  # an odd number of Gaussian draws leaves a second one waiting in Python's and numpy's state
    torch.save(capture_random_states(), tmp_path / "states.pt")
    expected = [draw(), draw()]

    restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True))

    assert [draw(), draw()] == expected
