"""The pretended device refuses what CUDA refuses, does what CUDA does, and has the values of the CPU."""

from __future__ import annotations

from typing import Callable

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from torch import Tensor, nn

REFUSED = {
    "sum of two devices": lambda x: x + torch.ones(5, 3),
    "in place": lambda x: x.add_(torch.ones(5, 3)),
    "joined": lambda x: torch.cat([x, torch.ones(5, 3)]),
    "chosen by a mask": lambda x: torch.where(x > 0, torch.ones(5, 3), 0.0),
    "product": lambda x: x @ torch.ones(3, 1),
    "layer that stayed behind": lambda x: nn.Linear(3, 4)(x),
    "gathered": lambda x: x.gather(0, torch.zeros(1, 3, dtype=torch.long)),
    "mask of the GPU on a tensor of the CPU": lambda x: torch.ones(5, 3)[x > 0.5],
    "values of the CPU put by a mask": lambda x: x.__setitem__(x > -1.0, torch.ones(15)),
    "read at points": lambda x: nn.functional.grid_sample(x[None, None], torch.zeros(1, 2, 2, 2)),
    "generator of the CPU": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
    "numpy": lambda x: x.numpy(),
    "numpy array": np.asarray,
}
ALLOWED = {
    "single numbers of the CPU": lambda x: x + torch.tensor(2.0),
    "indices of the CPU": lambda x: x[torch.tensor([2, 0])],
    "masks of the CPU": lambda x: x[torch.eye(5, 3) > 0],
    "mask": lambda x: x[x > 0.5],
    "to another": lambda x: torch.ones(3).to(x) * x,
    "new": lambda x: x.new_tensor([1.0, 2.0, 3.0]) * x.new_zeros(3) * torch.arange(3, device=x.device),
    "unique": lambda x: x.unique(return_inverse=True)[1],
    "from numpy": lambda x: torch.as_tensor(np.ones(3), device=x.device) + x,
    "attention": lambda x: nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]),
    "condition": lambda x: x if bool((x > -1.0).all()) else 0 * x,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses(name: str) -> None:
    with pretended_gpu(), pytest.raises((RuntimeError, TypeError), match="devic|CPU|generator|numpy"):
        REFUSED[name](torch.rand(5, 3, device="cuda"))


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_does(name: str) -> None:
    values = torch.rand(5, 3)
    expected = ALLOWED[name](values)
    with pretended_gpu():
        found = ALLOWED[name](values.to("cuda"))
        assert found.device.type == "cuda"
        torch.testing.assert_close(found.cpu(), expected)


def trained(device: str, dtype: torch.dtype) -> Tensor:
    torch.manual_seed(0)
    layer = nn.Linear(3, 4).to(device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=dtype, enabled=dtype == torch.bfloat16):
            layer(torch.rand(5, 3).to(device)).pow(2).mean().backward()
        optimizer.step()
    assert layer.weight.grad is not None and layer.weight.device.type == layer.weight.grad.device.type == device
    return layer.weight.detach().cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_ends_in_the_same_weights(dtype: torch.dtype) -> None:
    expected = trained("cpu", dtype)
    with pretended_gpu():
        found = trained("cuda", dtype)
    assert torch.equal(found, expected) if dtype == torch.float32 else torch.allclose(found, expected, atol=1e-2)


def test_without_it_all_is_as_before() -> None:
    load: Callable = torch.load
    with pretended_gpu():
        pass
    assert torch.load is load and type(torch.ones(2) + 1) is Tensor
