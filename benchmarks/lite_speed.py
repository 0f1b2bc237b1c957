"""Speed of a training step of the lite presets' field, and where its time goes.

    python benchmarks/lite_speed.py --together --repeats 20      # rays per CPU second: torch's look-ups, and ours
    python benchmarks/lite_speed.py --parts --output parts.md    # milliseconds of each part of a step

The step is that of freenerf-lite without the data: proposal, planes, layers, losses, backward, optimizers. The first
variant reads each plane by torch's `grid_sample`, lets torch form the gradient of the planes' smoothness, and takes
Adam's steps operation by operation. How the variants take turns is said in `turns.py`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, DefaultDict, Tuple

import tyro
from turns import Step, TurnArguments, compare, product_model, synthetic_rays

from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table

VARIANTS = ("torch's own", "row by row")
NEAR_FAR = (1.2, 4.2)
WARM_UP, TIMED = 5, 40


@dataclass
class Arguments(TurnArguments):
    """Flags of the benchmark."""

    largest_plane: int = 128
    """Texels per side of the finest planes; levels double from 16."""
    parts: bool = False
    """Measure the parts of a step, not variants."""


def make_step(variant: str, arguments: Arguments) -> Step:
    """A step of a variant."""
    step, _ = _step_and_model(variant, arguments)
    return step


def _step_and_model(variant: str, arguments: Arguments) -> Tuple[Step, Any]:
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    import torch

    from fewshot_ns.configs.freenerf import freenerf_lite
    from fewshot_ns.fields.triplane_field import TriPlaneField
    from fewshot_ns.model_components import losses

    smoothness = losses.plane_smoothness_loss
    plain = variant == VARIANTS[0]
    if plain:
        TriPlaneField._reads_rows = lambda self, positions: False
        smoothness = _plain_smoothness
    config: Any = freenerf_lite.pipeline.model
    sides = [16]
    while sides[-1] < arguments.largest_plane:
        sides.append(2 * sides[-1])
    config.plane_resolutions = tuple(sides)
    model, rays = product_model(config, synthetic_rays(arguments.rays, *NEAR_FAR), "black")
    model.step = 10 * config.fine_steps
    optimizers = [freenerf_lite.optimizers[n]["optimizer"].setup(p) for n, p in model.get_param_groups().items()]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["fused"] = None if plain else group["fused"]
    target = torch.rand(arguments.rays, 3)

    def step() -> float:
        rendering = model.rendering_of(rays)
        terms = list(model.get_loss_dict(rendering, {"image": target}).values())
        terms.append(0.5 * smoothness(model.planes))
        terms.append(0.1 * losses.distortion_loss(rendering.samples.t, rendering.samples.weights))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = torch.stack(terms).sum()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        model.update_average(int(model.step))
        return float(loss.detach())

    step.__dict__["optimizers"] = optimizers
    return step, model


def _plain_smoothness(planes: Any) -> Any:
    import torch

    return torch.stack([plane.diff(dim=axis).square().mean() for plane in planes for axis in (-1, -2)]).sum()


def parts_of_a_step(arguments: Arguments) -> Table:
    """CPU milliseconds of the parts of a step."""
    import torch

    import fewshot_ns.models.compact as compact
    from fewshot_ns.model_components import losses

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    spent: DefaultDict[str, float] = defaultdict(float)

    def timed(call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def measured(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = call(*args, **kwargs)
            spent[part] += time.process_time() - start
            return result

        return measured

    for name, part in (
        ("compositing_weights", "compositing"),
        ("resample_fenceposts", "resampling"),
        ("interlevel_loss", "losses, forward"),
    ):
        setattr(compact, name, timed(getattr(compact, name), part))
    for name in ("plane_smoothness_loss", "distortion_loss"):
        setattr(losses, name, timed(getattr(losses, name), "losses, forward"))
    step, model = _step_and_model(VARIANTS[1], arguments)
    field, proposal = model.networks["field"], model.networks["proposal"]
    field.features, proposal.forward = (
        timed(field.features, "planes, forward"),
        timed(proposal.forward, "proposal, forward"),
    )
    field.forward = timed(field.forward, "field, forward")
    model.update_average = timed(model.update_average, "running average")
    for optimizer in step.__dict__["optimizers"]:
        optimizer.step = timed(optimizer.step, "optimizers")
    torch.Tensor.backward = timed(torch.Tensor.backward, "backward")  # type: ignore[method-assign]
    for _ in range(WARM_UP):
        step()
    spent.clear()
    start = time.process_time()
    for _ in range(TIMED):
        step()
    total = time.process_time() - start
    spent["layers, forward"] = spent.pop("field, forward") - spent["planes, forward"]
    spent["everything else"] = total - sum(spent.values())
    rows = [
        [part, 1e3 * seconds / TIMED, seconds / total]
        for part, seconds in sorted(spent.items(), key=lambda entry: -entry[1])
    ]
    rows.append(["a step", 1e3 * total / TIMED, 1.0])
    return Table([Column("part"), Column("CPU ms"), Column("share")], rows)


def main(arguments: Arguments) -> None:
    """Measures, and prints a table."""
    title = f"planes of up to {arguments.largest_plane} texels a side"
    if not arguments.parts:
        compare(arguments, VARIANTS, partial(make_step, arguments=arguments), title)
        return
    table = parts_of_a_step(arguments)
    print_table(table, f"{arguments.rays} rays, {title}, {arguments.threads} OpenMP thread(s), CPU")
    if arguments.output is not None:
        arguments.output.write_text(as_markdown(table), encoding="utf8")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
