"""Speed and memory of the faithful mip-NeRF against a plain PyTorch twin: forward, backward and optimizer step.

    python benchmarks/mipnerf_speed.py                      # the original's batch of 4096 rays; needs about 14 GB
    python benchmarks/mipnerf_speed.py --rays 256           # a quick try

How the variants take turns is said in `turns.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro
from turns import Step, TurnArguments, compare, product_model, synthetic_rays

VARIANTS = ("twin float32", "fewshot_ns float32", "fewshot_ns bfloat16")
NEAR_FAR = (0.5, 3.5)


@dataclass
class Arguments(TurnArguments):
    """Flags of the benchmark."""

    rays: int = 4096
    """Rays per step."""
    samples: int = 128
    """Samples per ray of each of the two levels."""


def twin_step(arguments: Arguments) -> Step:
    """Step of the twin."""
    import torch
    from mipnerf_twin import Twin

    twin = Twin(arguments.samples)
    optimizer = torch.optim.Adam(twin.parameters(), lr=2e-3, eps=1e-8)
    rays, target = synthetic_rays(arguments.rays, *NEAR_FAR), torch.rand(arguments.rays, 3)

    def step() -> float:
        outputs = twin(rays)
        loss = ((outputs["rgb_fine"] - target) ** 2).sum(-1).mean()
        loss = loss + 0.1 * ((outputs["rgb_coarse"] - target) ** 2).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(twin.parameters(), 0.1)
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.1)
        optimizer.step()
        return float(loss.detach())

    return step


def product_step(compute_dtype: str, arguments: Arguments) -> Step:
    """Step of the product."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    import torch

    from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot

    config: Any = mipnerf_fewshot.pipeline.model
    config.num_samples, config.compute_dtype = arguments.samples, compute_dtype
    model, rays = product_model(config, synthetic_rays(arguments.rays, *NEAR_FAR), "black")
    (parameters,) = model.get_param_groups().values()
    optimizer = mipnerf_fewshot.optimizers["field"]["optimizer"].setup(parameters)
    target = torch.rand(arguments.rays, 3)

    def step() -> float:
        losses = model.get_loss_dict(model.rendering_of(rays), {"image": target})
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def main(arguments: Arguments) -> None:
    """Measures all variants and prints the table."""

    def make_step(variant: str) -> Step:
        return twin_step(arguments) if variant.startswith("twin") else product_step(variant.split()[1], arguments)

    compare(arguments, VARIANTS, make_step, f"2 x {arguments.samples} samples")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
