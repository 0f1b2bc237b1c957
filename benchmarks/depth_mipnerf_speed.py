"""Speed and memory of the faithful depth-mipnerf (64 + 64 + 32 samples) against a plain PyTorch twin.

    python benchmarks/depth_mipnerf_speed.py                # 1024 rays

A step is forward, all losses (colour, proposal, CDF bounds of a depth that half of the rays have), backward, clipping
and the optimizer's step. How the variants take turns is said in `turns.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tyro
from turns import Step, TurnArguments, compare, product_model, synthetic_rays

VARIANTS = ("twin float32", "fewshot_ns float32", "fewshot_ns bfloat16")
NEAR_FAR = (2.0, 6.0)


@dataclass
class Arguments(TurnArguments):
    """Flags of the benchmark."""


def _depths(count: int) -> Any:
    import torch

    return torch.where(torch.arange(count) % 2 == 0, 0.0, 3.0 + 2.0 * torch.rand(count))[:, None]


def twin_step(arguments: Arguments) -> Step:
    """Step of the twin."""
    import torch
    from depth_mipnerf_twin import DepthTwin, total_loss

    twin = DepthTwin()
    optimizer = torch.optim.Adam(twin.parameters(), lr=3e-3, eps=1e-8)
    rays, target, depth = (
        synthetic_rays(arguments.rays, *NEAR_FAR),
        torch.rand(arguments.rays, 3),
        _depths(arguments.rays),
    )

    def step() -> float:
        rgb, levels = twin(rays)
        loss = total_loss(rgb, target, levels, depth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1e-3)
        optimizer.step()
        return float(loss.detach())

    return step


def product_step(compute_dtype: str, arguments: Arguments) -> Step:
    """Step of the product: model, depth prior and optimizer of the method."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    import torch

    from fewshot_ns.configs.depth_mipnerf import depth_mipnerf
    from fewshot_ns.data.records.metadata import get_fewshot_metadata
    from fewshot_ns.priors.base import PriorScene

    pipeline: Any = depth_mipnerf.pipeline
    pipeline.model.compute_dtype = compute_dtype
    model, rays = product_model(pipeline.model, synthetic_rays(arguments.rays, *NEAR_FAR), "white")
    views: Any = SimpleNamespace(fewshot=get_fewshot_metadata(model.kwargs["metadata"]))
    scene = PriorScene(views, model.device, Path("synthetic"), model.provides, arguments.rays)
    prior = pipeline.depth.setup(scene=scene, name="depth")
    (parameters,) = model.get_param_groups().values()
    optimizer = depth_mipnerf.optimizers["field"]["optimizer"].setup(parameters)
    target, depth = torch.rand(arguments.rays, 3), _depths(arguments.rays)

    def step() -> float:
        rendering = model.rendering_of(rays)
        losses = model.get_loss_dict(rendering, {"image": target})
        losses |= prior.metric_terms(rendering, depth, torch.zeros_like(depth), torch.ones_like(depth), step=0)
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

    compare(arguments, VARIANTS, make_step, "64 + 64 + 32 samples")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
