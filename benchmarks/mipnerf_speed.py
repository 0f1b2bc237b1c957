"""Speed and memory of the faithful mip-NeRF against a plain PyTorch twin: forward, backward and optimizer step.

    python benchmarks/mipnerf_speed.py                      # the original's batch of 4096 rays; needs about 14 GB
    python benchmarks/mipnerf_speed.py --rays 256           # a quick try

Each variant runs in a process of its own, and the variants take turns, so that whatever else the machine does meets
them alike; the ratio is that of the medians. CPU seconds are user plus system time of the process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import tyro
from rich.console import Console
from rich.table import Table

VARIANTS = ("twin float32", "fewshot_ns float32", "fewshot_ns bfloat16")


@dataclass
class Arguments:
    """Flags of the benchmark."""

    rays: int = 4096
    """Rays per step."""
    samples: int = 128
    """Samples per ray of each of the two levels."""
    repeats: int = 3
    """Timed steps of each variant, after one that warms up."""
    threads: int = 1
    """Threads of each process."""
    together: bool = False
    """Keep all variants in memory and let them take turns; otherwise one process at a time, in turns as well."""
    output: Optional[Path] = None
    """Where to write the table as Markdown."""
    worker: Optional[str] = None
    """Variant that this process is to measure; set by the benchmark itself."""


def measure(variant: str, arguments: Arguments) -> None:
    """Takes a step for each line that comes in, and answers with its CPU seconds and the peak memory so far."""
    import time

    import torch

    from fewshot_ns.engine.training_clock import peak_memory_bytes

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    step = _twin_step(arguments) if variant.startswith("twin") else _product_step(variant.split()[1], arguments)
    for _ in sys.stdin:
        start = time.process_time()
        loss = step()
        seconds = time.process_time() - start
        print("RESULT" + json.dumps({"seconds": seconds, "memory": peak_memory_bytes(), "loss": loss}), flush=True)


def _rays(count: int) -> Dict:
    import torch

    directions = torch.randn(count, 3) * 0.3 - torch.tensor([0.0, 0.0, 1.0])
    return {
        "origins": 0.1 * torch.randn(count, 3),
        "directions": directions,
        "viewdirs": torch.nn.functional.normalize(directions, dim=-1),
        "radii": torch.full((count, 1), 2e-3),
        "near": torch.full((count, 1), 0.5),
        "far": torch.full((count, 1), 3.5),
    }


def _twin_step(arguments: Arguments):
    import torch
    from mipnerf_twin import Twin

    twin = Twin(arguments.samples)
    optimizer = torch.optim.Adam(twin.parameters(), lr=2e-3, eps=1e-8)
    rays, target = _rays(arguments.rays), torch.rand(arguments.rays, 3)

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


def _product_step(compute_dtype: str, arguments: Arguments):
    import nerfstudio.configs.method_configs  # noqa: F401 - the host's modules import each other in this order only
    import torch
    from nerfstudio.data.scene_box import SceneBox

    from fewshot_ns.cameras.ray_space import ModelRays
    from fewshot_ns.configs.mipnerf_fewshot import mipnerf_fewshot
    from fewshot_ns.data.scene_geometry import METADATA_KEY, FewShotMetadata, SceneGeometry
    from fewshot_ns.utils.allocator import keep_freed_memory

    keep_freed_memory()  # as the pipeline does when it trains on a CPU
    config: Any = mipnerf_fewshot.pipeline.model
    config.num_samples, config.compute_dtype = arguments.samples, compute_dtype
    geometry = SceneGeometry("metric", 0.5, 3.5, ray_shape="cone")
    record = FewShotMetadata(geometry, "synthetic", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record}).train()
    (parameters,) = model.get_param_groups().values()
    optimizer = mipnerf_fewshot.optimizers["field"]["optimizer"].setup(parameters)
    ones = torch.ones(arguments.rays, 1)
    rays = ModelRays(**_rays(arguments.rays), valid=ones.bool(), z_scale=ones, offset=0 * ones, z_slope=ones)
    target = torch.rand(arguments.rays, 3)

    def step() -> float:
        losses = model.get_loss_dict(model.outputs_of(rays), {"image": target})
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def take_turns(arguments: Arguments) -> Dict[str, List[Dict]]:
    """Measurements of each variant; the warm-up is left out."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}
    flags = ["--rays", arguments.rays, "--samples", arguments.samples, "--threads", arguments.threads]

    def start(variant: str) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", __file__, *map(str, flags), "--worker", variant]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(process: subprocess.Popen) -> Dict:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("step\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("RESULT"):
                return json.loads(line.removeprefix("RESULT"))
        raise RuntimeError(f"{' '.join(map(str, process.args))} ended early, with status {process.wait()}")  # type: ignore[arg-type]

    def stop(process: subprocess.Popen) -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()

    results: Dict[str, List[Dict]] = {variant: [] for variant in VARIANTS}
    if arguments.together:
        processes = {variant: start(variant) for variant in VARIANTS}
        for repeat in range(arguments.repeats + 1):
            for variant, process in processes.items():
                result = ask(process)
                results[variant] += [result] if repeat > 0 else []
        for process in processes.values():
            stop(process)
        return results
    for _ in range(arguments.repeats):
        for variant in VARIANTS:
            process = start(variant)
            ask(process)
            results[variant].append(ask(process))
            stop(process)
    return results


def main(arguments: Arguments) -> None:
    """Measures all variants and prints the table."""
    if arguments.worker is not None:
        measure(arguments.worker, arguments)
        return
    results = take_turns(arguments)
    seconds = {variant: statistics.median(r["seconds"] for r in rows) for variant, rows in results.items()}
    memory = {variant: max(r["memory"] for r in rows) for variant, rows in results.items()}
    title = f"{arguments.rays} rays, 2 x {arguments.samples} samples, {arguments.threads} OpenMP thread(s), CPU"
    columns = ("variant", "rays per CPU s", "spread", "ratio to the twin", "peak memory, GB")
    table, lines = Table(*columns, title=title), ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for variant, rows in results.items():
        rates = sorted(arguments.rays / r["seconds"] for r in rows)
        row = [
            variant,
            f"{arguments.rays / seconds[variant]:.0f}",
            f"{rates[0]:.0f} to {rates[-1]:.0f}",
            f"{seconds[VARIANTS[0]] / seconds[variant]:.2f}",
            f"{memory[variant] / 1e9:.2f}",
        ]
        table.add_row(*row)
        lines.append("| " + " | ".join(row) + " |")
    Console(width=120).print(table)
    if arguments.output is not None:
        arguments.output.write_text(f"{title}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
