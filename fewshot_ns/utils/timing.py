"""Wall time of work that a GPU may still be doing when the call that started it has returned."""

from __future__ import annotations

from time import perf_counter
from typing import Callable, Tuple, TypeVar

import torch

Result = TypeVar("Result")


def timed(call: Callable[[], Result], device: torch.device) -> Tuple[Result, float]:
    """Result and wall time of a call.

    Args:
        call: what is timed.
        device: where its work runs. Of CUDA, the queue is empty when the clock starts, and again when it stops.

    Returns:
        What `call` returns, and seconds.
    """
    _synchronize(device)
    start = perf_counter()
    result = call()
    _synchronize(device)
    return result, perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
