"""Speed and memory of variants of one training step, each in a process of its own, in turns.

Whatever else the machine does meets all variants alike; ratios are those of medians. CPU seconds are user plus system
time of the process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table

Step = Callable[[], float]
"""Takes one training step and returns its loss."""


@dataclass
class TurnArguments:
    """Flags that all such benchmarks have."""

    rays: int = 1024
    """Rays per step."""
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


def compare(arguments: TurnArguments, variants: Sequence[str], make_step: Callable[[str], Step], title: str) -> None:
    """Measures all variants and prints a table of them beside the first; in a worker, takes the steps.

    Args:
        arguments: flags.
        variants: names; the first is what the others are compared to.
        make_step: prepares the step of a variant.
        title: what a step is, for the table's head.
    """
    if arguments.worker is not None:
        _answer(make_step, arguments)
        return
    results = _take_turns(arguments, variants)
    seconds = {variant: statistics.median(r["seconds"] for r in rows) for variant, rows in results.items()}
    memory = {variant: max(r["memory"] for r in rows) for variant, rows in results.items()}
    title = f"{arguments.rays} rays, {title}, {arguments.threads} OpenMP thread(s), CPU"
    rows = []
    for variant, steps in results.items():
        rates = sorted(arguments.rays / step["seconds"] for step in steps)
        speed = [f"{arguments.rays / seconds[variant]:.0f}", f"{rates[0]:.0f} to {rates[-1]:.0f}"]
        rows.append([variant, *speed, seconds[variants[0]] / seconds[variant], memory[variant] / 1e9])
    titles = ("variant", "rays per CPU s", "spread", "ratio to the twin", "peak memory, GB")
    table = Table([Column(each) for each in titles], rows)
    print_table(table, title)
    if arguments.output is not None:
        arguments.output.write_text(f"{title}\n\n{as_markdown(table)}")


def synthetic_rays(count: int, near: float, far: float) -> Dict[str, Any]:
    """`origins`, `directions`, `viewdirs` (R, 3), `radii`, `near`, `far` (R, 1) of random rays along -z."""
    import torch

    directions = torch.randn(count, 3) * 0.3 - torch.tensor([0.0, 0.0, 1.0])
    return {
        "origins": 0.1 * torch.randn(count, 3),
        "directions": directions,
        "viewdirs": torch.nn.functional.normalize(directions, dim=-1),
        "radii": torch.full((count, 1), 2e-3),
        "near": torch.full((count, 1), near),
        "far": torch.full((count, 1), far),
    }


def product_model(config: Any, rays: Dict[str, Any], background: str) -> tuple[Any, Any]:
    """The product's model on a synthetic metric scene, in training, and its rays (`ModelRays`).

    Args:
        config: of the model.
        rays: see `synthetic_rays`.
        background: black or white.
    """
    import torch
    from nerfstudio.data.scene_box import SceneBox

    from fewshot_ns.cameras.ray_space import ModelRays
    from fewshot_ns.cameras.scene_geometry import SceneGeometry
    from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
    from fewshot_ns.utils.allocator import keep_freed_memory

    keep_freed_memory()  # as the pipeline does when it trains on a CPU
    near, far = float(rays["near"][0]), float(rays["far"][0])
    geometry = SceneGeometry("metric", near, far, ray_shape="cone", background=background)  # type: ignore[arg-type]
    record = FewShotMetadata(geometry, "synthetic", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record}).train()
    ones = torch.ones(len(rays["near"]), 1)
    return model, ModelRays(**rays, valid=ones.bool(), z_scale=ones, offset=0 * ones, z_slope=ones)


def _answer(make_step: Callable[[str], Step], arguments: TurnArguments) -> None:
    """Takes a step for each line that comes in, and answers with its CPU seconds and the peak memory so far."""
    import time

    import torch

    from fewshot_ns.engine.training_clock import peak_memory_bytes

    assert arguments.worker is not None
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    step = make_step(arguments.worker)
    for _ in sys.stdin:
        start = time.process_time()
        loss = step()
        seconds = time.process_time() - start
        print("RESULT" + json.dumps({"seconds": seconds, "memory": peak_memory_bytes(), "loss": loss}), flush=True)


def _take_turns(arguments: TurnArguments, variants: Sequence[str]) -> Dict[str, List[Dict]]:
    """Measurements of each variant; the warm-up is left out."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}

    def start(variant: str) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", *sys.argv, "--worker", variant]
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

    results: Dict[str, List[Dict]] = {variant: [] for variant in variants}
    if arguments.together:
        processes = {variant: start(variant) for variant in variants}
        for repeat in range(arguments.repeats + 1):
            for variant, process in processes.items():
                result = ask(process)
                results[variant] += [result] if repeat > 0 else []
        for process in processes.values():
            stop(process)
        return results
    for _ in range(arguments.repeats):
        for variant in variants:
            process = start(variant)
            ask(process)
            results[variant].append(ask(process))
            stop(process)
    return results
