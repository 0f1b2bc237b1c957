"""What the processes of one training tell each other where DistributedDataParallel does not do it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module, Parameter


def in_several() -> bool:
    """Whether this is one of several processes of a training."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def shared_seed() -> int:
    """The seed that torch was given, rank 0's on all ranks of a distributed run."""
    seed: List[int] = [torch.initial_seed()]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(seed, src=0)
    return seed[0]


@contextmanager
def drawn_alike(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Has torch draw the same random numbers in every process, and go on afterwards as if nothing had been drawn.

    Args:
        seed: the same in every process.
        step: the same in every process; other steps draw other numbers.
        device: that draws besides the CPU.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # Neighbouring seeds must not give similar streams.
        torch.manual_seed(int(np.random.SeedSequence([seed % 2**63, step]).generate_state(1, np.uint64)[0]) >> 1)
        yield


def state_of_first(module: Module) -> Dict[str, Tensor]:
    """The weights of a module in the first process, on the CPU; all have to call this together."""
    own = module.state_dict().items()
    state: List[Any] = [{name: value.cpu() if isinstance(value, Tensor) else value for name, value in own}]
    device = next(module.parameters()).device
    dist.broadcast_object_list(state, src=0, device=device if device.type == "cuda" else None)
    return state[0]


def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Gives each parameter the mean of its gradients in all processes, in which one that has none counts as 0.

    Args:
        parameters: the same ones in the same order in every process.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


@torch.no_grad()
def take_from_first(parameters: Iterable[Parameter]) -> None:
    """Gives parameters the values that they have in the first process.

    Args:
        parameters: the same ones in the same order in every process.

    Raises:
        RuntimeError: their numbers differ.
    """
    for parameter in parameters:
        rows = of_all(torch.tensor(len(parameter), device=parameter.device)).tolist()
        if len(set(rows)) > 1:
            raise RuntimeError(
                f"the processes of this training have come to different numbers of primitives: {rows}; train with "
                "--machine.num-devices 1, and please report it"
            )
        dist.broadcast(parameter, src=0)


def of_all(values: Tensor) -> Tensor:
    """(P, ...) a tensor of each of the P processes, all of one shape."""
    found = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(found, values.contiguous())
    return torch.stack(found)
