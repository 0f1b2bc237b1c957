"""Peak memory of one semantic step of dietnerf over the number of rays whose graph is kept at a time.

    python benchmarks/semantic_memory.py            # the whole 168 x 168 rays, many minutes per row on a CPU
    python benchmarks/semantic_memory.py --grid-size 32 --chunk-rays 64 256 0

Each row is a process of its own: rendering of both levels, CLIP ViT-B/32 with random weights, backward. The figure is
the most memory held during the step beyond that before it: on a GPU by torch, on a CPU by the process (Linux only).
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Tuple

import tyro


@dataclass
class Arguments:
    """Flags of the benchmark."""

    grid_size: int = 168
    """Rays per side of the rendered view."""
    chunk_rays: Tuple[int, ...] = (256, 1024, 4096, 0)
    """Rays whose graph is kept at a time; 0: of all."""
    device: str = "cpu"
    """cpu or cuda."""
    only: bool = False
    """Measures the first number of rays in this process; the benchmark calls itself so."""


def synthetic_camera(side: int, device: str) -> Any:
    """(1,) camera of side x side pixels at distance 4 from a cube of side 1, which fills its image."""
    import torch
    from nerfstudio.cameras.cameras import Cameras

    pose = torch.eye(4)[None, :3].clone()
    pose[0, 2, 3] = 4.0
    return Cameras(pose, 4.0 * side, 4.0 * side, side / 2, side / 2, side, side).to(device)


def measure(arguments: Arguments) -> str:
    """The row of one number of rays."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    import open_clip
    import torch
    from turns import product_model, synthetic_rays

    from fewshot_ns.configs.dietnerf import dietnerf
    from fewshot_ns.model_components.rendering import RenderOptions
    from fewshot_ns.pretrained.encoders.preprocessing import CLIP_MEAN, CLIP_STD, encoder_input

    pipeline: Any = dietnerf.pipeline
    # Before the model, which tells the allocator to keep what is freed, such as CLIP's text tower.
    visual: Any = open_clip.create_model("ViT-B-32").visual.to(arguments.device).requires_grad_(False)
    model = product_model(pipeline.model, synthetic_rays(2, 2.0, 6.0), "white")[0].to(arguments.device)
    options = RenderOptions(chunk_rays=arguments.chunk_rays[0] or None)
    camera = synthetic_camera(arguments.grid_size, arguments.device)
    on_gpu = arguments.device.startswith("cuda")
    before = torch.cuda.memory_allocated() if on_gpu else process_memory("VmRSS")
    if not on_gpu:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start = time.perf_counter()
    rendering = model.render_cameras(camera, options)
    images = torch.cat([level.rgb for level in (rendering, rendering.coarse) if level is not None])
    visual(encoder_input(images, (224, 224), "bilinear", CLIP_MEAN, CLIP_STD)).square().sum().backward()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if on_gpu else process_memory("VmHWM")
    rows = options.chunk_rays or "all"
    return f"| {arguments.grid_size}x{arguments.grid_size} | {rows} | {(peak - before) / 1e9:.2f} | {seconds:.1f} |"


def process_memory(name: str) -> int:
    """Bytes that this process holds (VmRSS), or the most that it held (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def main(arguments: Arguments) -> None:
    """Measures every number of rays and prints the table."""
    if arguments.only:
        print(measure(arguments))
        return
    print("| view | rays at a time | peak GB | seconds |\n|---|---|---|---|", flush=True)
    for chunk in arguments.chunk_rays:
        one = replace(arguments, chunk_rays=(chunk,))
        flags = ["--grid-size", one.grid_size, "--chunk-rays", chunk, "--device", one.device, "--only"]
        done = subprocess.run([sys.executable, __file__, *map(str, flags)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"the process with {chunk} rays at a time failed:\n{done.stderr[-2000:]}")
        print(done.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
