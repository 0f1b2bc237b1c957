"""Schedules in steps, as pure functions of the step."""

from __future__ import annotations

import math
from typing import Tuple

from torch import Tensor


def anneal_near_far(
    step: int, near: Tensor, far: Tensor, num_steps: int, init_fraction: float, middle: Tensor
) -> Tuple[Tensor, Tensor]:
    """Sample-space annealing of RegNeRF (eq. 8): the interval opens linearly from around a point to [near, far].

    Args:
        step: steps done so far; the original's counter is 1 for the first batch.
        near: (R, 1) final near, units of the ray parameter.
        far: (R, 1) final far.
        num_steps: steps until the whole interval is open; 0 disables annealing.
        init_fraction: fraction of the interval that is open at the start.
        middle: (R, 1) where the interval opens from, between near and far.

    Returns:
        (R, 1) near and (R, 1) far at this step.
    """
    if num_steps <= 0 or step >= num_steps:
        return near, far
    start_near = middle + init_fraction * (near - middle)
    start_far = middle + init_fraction * (far - middle)
    progress = max(step, 0) / num_steps
    return start_near + progress * (near - start_near), start_far + progress * (far - start_far)


def linear_ramp(step: int, start: float, end: float, num_steps: int) -> float:
    """Value that goes linearly from `start` at step 0 to `end` at step `num_steps`, and stays there."""
    if num_steps <= 0:
        return end
    return start + (end - start) * min(max(step / num_steps, 0.0), 1.0)


def square_root_decay(step: int, start: float, slope: float, end: float, max_steps: int) -> float:
    """Width that shrinks with the root of the step: max(start - slope sqrt(4 step / max_steps), end).

    depth-mipnerf's schedule of the URF loss (0.45, 0.4, 0.15) and, in its first version, of the CDF bounds' sigma
    (0.25, 0.5, 0.09).
    """
    return max(start - slope * math.sqrt(4.0 * max(step, 0) / max_steps), end)
