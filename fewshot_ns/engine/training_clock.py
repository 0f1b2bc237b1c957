"""Cost of training: CPU seconds, wall seconds, rays, memory."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

import torch


def peak_memory_bytes() -> Optional[int]:
    """Peak resident memory of this process in bytes; None on Windows, which does not report it."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def used_gpu() -> Tuple[Optional[str], Optional[int]]:
    """Name of the GPU of this process and the most memory (bytes) that tensors had on it at a time.

    Returns:
        (None, None) without CUDA; (None, 0) where there is some, and nothing was put on it.
    """
    if not torch.cuda.is_available():
        return None, None
    peak = torch.cuda.max_memory_allocated()
    return (torch.cuda.get_device_name() if peak > 0 else None), peak


@dataclass
class TrainingClock:
    """Sums the cost of the training iterations, without evaluation, viewer and checkpoints.

    CPU seconds are user plus system time of all threads of this process. A resumed run continues the sums.
    """

    steps: int = 0
    """Iterations timed."""
    rays: int = 0
    """Training rays in them."""
    cpu_seconds: float = 0.0
    """CPU time of the process within them."""
    wall_seconds: float = 0.0
    """Wall time within them."""
    _cpu_start: float = field(default=0.0, repr=False)
    _wall_start: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Marks the start of an iteration."""
        self._cpu_start, self._wall_start = time.process_time(), time.perf_counter()

    def stop(self, rays: int) -> None:
        """Marks the end of an iteration.

        Args:
            rays: number of training rays in it.
        """
        self.steps += 1
        self.rays += rays
        self.cpu_seconds += time.process_time() - self._cpu_start
        self.wall_seconds += time.perf_counter() - self._wall_start

    def state_dict(self) -> Dict[str, Any]:
        """The sums, as plain numbers."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues the sums of an earlier run."""
        for name, value in state.items():
            setattr(self, name, value)

    def summary(self) -> Dict[str, Any]:
        """The sums, the speed, and GPU and peak memory of this process, for the run's `train_stats.json`."""
        gpu_name, gpu_peak = used_gpu()
        return {
            **self.state_dict(),
            "rays_per_cpu_second": self.rays / self.cpu_seconds if self.cpu_seconds > 0 else None,
            "peak_memory_bytes": peak_memory_bytes(),
            "peak_gpu_memory_bytes": gpu_peak,
            "gpu_name": gpu_name,
        }
