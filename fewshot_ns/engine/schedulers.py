"""Learning-rate schedules with their own lengths, constant after their last step.

nerfstudio's schedulers compute with numpy, whose scalars end up in every checkpoint and do not load under
weights-only rules; its cosine also rises again after its last step.
"""

import math
from dataclasses import dataclass, field
from typing import Optional, Type

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def delayed_log_linear(
    step: int, lr_init: float, lr_final: float, max_steps: int, delay_steps: int, delay_factor: float
) -> float:
    """Log-linear decay over `max_steps`, multiplied by a sine ramp over the first `delay_steps`.

    Args:
        step: optimisation steps, the first one counted as 1.
        lr_init: learning rate at the start of the decay.
        lr_final: learning rate from `max_steps` on.
        max_steps: length of the decay.
        delay_steps: length of the ramp; 0 for none.
        delay_factor: factor at the start of the ramp.

    Returns:
        The learning rate.

    Source: mip-NeRF; RegNeRF and SparseNeRF internal/math.py `learning_rate_decay`.
    """
    delay = 1.0
    if delay_steps > 0:
        ramp = math.sin(0.5 * math.pi * min(max(step / delay_steps, 0.0), 1.0))
        delay = delay_factor + (1.0 - delay_factor) * ramp
    progress = min(max(step / max_steps, 0.0), 1.0)
    return delay * math.exp((1.0 - progress) * math.log(lr_init) + progress * math.log(lr_final))


def warmup_cosine(step: int, warmup_steps: int, max_steps: int, final_ratio: float) -> float:
    """Factor on the learning rate: linear rise to 1, then half a cosine down to `final_ratio`, then constant.

    Args:
        step: optimisation steps, the first one counted as 1.
        warmup_steps: step at which the factor reaches 1.
        max_steps: step at which it reaches `final_ratio`.
        final_ratio: the last factor.

    Returns:
        The factor, in (0, 1].
    """
    if step < warmup_steps:
        return step / warmup_steps
    progress = min((step - warmup_steps) / max(max_steps - warmup_steps, 1), 1.0)
    return final_ratio + (1.0 - final_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress))


def one_cycle(step: int, max_steps: int, warmup_fraction: float, initial_ratio: float, final_ratio: float) -> float:
    """Factor on the learning rate: half a cosine up to 1, then half a cosine down, then constant.

    Args:
        step: steps taken, the first one counted as 0.
        max_steps: steps of the cycle.
        warmup_fraction: fraction of the steps in which the rate rises.
        initial_ratio: factor at the first step.
        final_ratio: factor at the last step.

    Returns:
        The factor.

    Source: torch.optim.lr_scheduler.OneCycleLR, which raises after its last step.
    """
    top = max(warmup_fraction * max_steps - 1.0, 1e-9)
    start, end, progress = initial_ratio, 1.0, step / top
    if step > top:
        start, end, progress = 1.0, final_ratio, min((step - top) / max(max_steps - 1.0 - top, 1e-9), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass
class DelayedLogLinearSchedulerConfig(SchedulerConfig):
    """Log-linear decay times a delayed start (mip-NeRF, RegNeRF, SparseNeRF)."""

    _target: Type = field(default_factory=lambda: DelayedLogLinearScheduler)
    """target class to instantiate"""
    lr_final: float = 2e-5
    """Learning rate at max_steps and after."""
    max_steps: Optional[int] = 90000
    """Length of the decay in steps, independent of the length of the run; None: the method's own length for the scene's
    ray space (`ndc_iterations` or `metric_iterations` of the trainer)."""
    delay_steps: int = 512
    """Length of the delayed start in steps."""
    delay_factor: float = 0.01
    """Factor on the learning rate at the start of the delay."""


class DelayedLogLinearScheduler(Scheduler):
    """See `delayed_log_linear`."""

    config: DelayedLogLinearSchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """Returns the torch scheduler; it counts from 0, the schedule from 1."""
        config, max_steps = self.config, self.config.max_steps
        if max_steps is None:
            raise ValueError("the scheduler's max_steps is None, which only our trainer can resolve; give a number")
        if config.lr_final <= 0:
            raise ValueError(f"expected a lr_final above 0, got {config.lr_final:g}")

        def factor(count: int) -> float:
            if lr_init == 0:  # Frozen parameters; there is no decay from 0.
                return 1.0
            lr = delayed_log_linear(
                count + 1, lr_init, config.lr_final, max_steps, config.delay_steps, config.delay_factor
            )
            return lr / lr_init

        return LambdaLR(optimizer, factor)


@dataclass
class WarmupCosineSchedulerConfig(SchedulerConfig):
    """Linear warm-up, then cosine decay, then constant."""

    _target: Type = field(default_factory=lambda: WarmupCosineScheduler)
    """target class to instantiate"""
    warmup_steps: int = 100
    """Step at which the full learning rate is reached."""
    max_steps: int = 5000
    """Step at which the decay ends, independent of the length of the run."""
    final_ratio: float = 0.05
    """Last learning rate as a fraction of the full one."""


class WarmupCosineScheduler(Scheduler):
    """See `warmup_cosine`."""

    config: WarmupCosineSchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """Returns the torch scheduler; it counts from 0, the schedule from 1."""
        config = self.config

        def factor(count: int) -> float:
            return warmup_cosine(count + 1, config.warmup_steps, config.max_steps, config.final_ratio)

        return LambdaLR(optimizer, factor)


@dataclass
class OneCycleSchedulerConfig(SchedulerConfig):
    """Up and down along cosines, as torch's OneCycleLR (MatchNeRF, ID-NeRF), then constant."""

    _target: Type = field(default_factory=lambda: OneCycleScheduler)
    """target class to instantiate"""
    max_steps: int = 100000
    """Length of the cycle in steps, independent of the length of the run."""
    warmup_fraction: float = 0.05
    """Fraction of the cycle in which the learning rate rises."""
    initial_ratio: float = 1.0 / 25.0
    """First learning rate as a fraction of the full one."""
    final_ratio: float = 1.0 / 25.0e4
    """Last learning rate as a fraction of the full one."""


class OneCycleScheduler(Scheduler):
    """See `one_cycle`."""

    config: OneCycleSchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """Returns the torch scheduler."""
        config = self.config
        shape = config.max_steps, config.warmup_fraction, config.initial_ratio, config.final_ratio
        return LambdaLR(optimizer, lambda count: one_cycle(count, *shape))


@dataclass
class RunLengthSchedulerConfig(SchedulerConfig):
    """Log-linear decay from the first step of the run to its last."""

    _target: Type = field(default_factory=lambda: RunLengthScheduler)
    """target class to instantiate"""
    final_ratio: float = 0.01
    """Last learning rate as a fraction of the first."""
    max_steps: Optional[int] = None
    """Steps of the whole run; set by the trainer."""


class RunLengthScheduler(Scheduler):
    """See `RunLengthSchedulerConfig`."""

    config: RunLengthSchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """Returns the torch scheduler."""
        config = self.config
        if not config.final_ratio > 0:
            raise ValueError(f"expected a final_ratio above 0, got {config.final_ratio:g}")
        steps = max(config.max_steps or 1, 1)
        return LambdaLR(optimizer, lambda count: config.final_ratio ** min(count / steps, 1.0))
