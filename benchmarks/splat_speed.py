"""CPU time of splats against their number and the image's size, beside the compact field's: training step and image.

    python benchmarks/splat_speed.py --output splat_speed.md

Gaussians lie one per block of pixels on a wavy wall, as those of the photos' own depth do. All that is compared takes
turns in one process.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras, CameraType
from turns import product_model, synthetic_rays

from fewshot_ns.configs.compact import compact
from fewshot_ns.configs.sparse_splatfacto import sparse_splatfacto_lite
from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table

SIZES = ((126, 94), (252, 189), (504, 378))
STRIDES = (1, 2, 4)


@dataclass
class Arguments:
    """What is measured."""

    repeats: int = 5
    """Timed repeats, after one that warms up."""
    threads: int = 1
    """CPU threads."""
    field_rays: int = 1024
    """Rays of a training step of the field, its preset's own number."""
    output: Optional[Path] = None
    """Where to write the table as Markdown."""


def camera_of(width: int, height: int) -> Cameras:
    """(1,) a camera that looks along -z from the origin."""
    focal = torch.tensor([1.2 * width])
    middle = torch.tensor([width / 2]), torch.tensor([height / 2])
    return Cameras(torch.eye(4)[None, :3], focal, focal, *middle, width, height, camera_type=CameraType.PERSPECTIVE)


def wall(width: int, height: int, stride: int) -> SeedCloud:
    """Points on a wavy wall about four units away, one for each block of pixels."""
    rows, columns = torch.meshgrid(
        torch.arange(0, height, stride) + 0.5, torch.arange(0, width, stride) + 0.5, indexing="ij"
    )
    depth = 4.0 + 0.5 * torch.sin(columns / width * 9) * torch.cos(rows / height * 7)
    focal = 1.2 * width
    places = torch.stack([(columns - width / 2) / focal * depth, -(rows - height / 2) / focal * depth, -depth], dim=-1)
    count = places[..., 0].numel()
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(count, 3, generator=generator)
    ones = torch.ones(count)
    radii = (stride * depth / focal).reshape(-1)
    return SeedCloud(places.reshape(-1, 3), colours, radii, ones.long(), ones.bool(), "random", ("photo",))


def splats(width: int, height: int, stride: int) -> Tuple[int, Callable[[], Any], Callable[[], Any]]:
    """Number of Gaussians, a training step, and an image."""
    from nerfstudio.data.scene_box import SceneBox

    from fewshot_ns.cameras.scene_geometry import SceneGeometry
    from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata

    geometry = SceneGeometry("metric", 2.0, 6.0)
    record = FewShotMetadata(geometry, "synthetic", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    cloud, camera = wall(width, height, stride), camera_of(width, height)
    model = sparse_splatfacto_lite.pipeline.model.setup(
        scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])),
        num_train_data=1,
        metadata={METADATA_KEY: record},
        initial_points=cloud,
    )
    groups = model.get_param_groups()
    optimizer = torch.optim.Adam([value for values in groups.values() for value in values], lr=1e-3)
    batch = {"image": torch.rand(height * width, 3), "image_size": (height, width)}

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        terms = model.get_loss_dict(model.render_cameras(camera).flatten(), batch)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    return len(cloud), step, lambda: model.eval().get_outputs_for_camera(camera)


def field(width: int, height: int, rays: int) -> Tuple[Callable[[], Any], Callable[[], Any]]:
    """A training step of the compact field, and an image."""
    near, far = 2.0, 6.0
    config = compact.pipeline.model
    model, _ = product_model(config, synthetic_rays(rays, near, far), "black")
    model.set_scene(camera_of(width, height))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    target = torch.rand(rays, 3)
    camera = camera_of(width, height)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        pixels = torch.stack([torch.zeros(rays), torch.rand(rays) * height, torch.rand(rays) * width], dim=-1).long()
        rendering = model.render_pixels(camera, pixels)
        torch.nn.functional.mse_loss(rendering.rgb, target).backward()
        optimizer.step()

    return step, lambda: model.eval().get_outputs_for_camera(camera)


def seconds_of(calls: Dict[str, Callable[[], Any]], repeats: int) -> Dict[str, float]:
    """Median CPU seconds of each, in turns."""
    found: Dict[str, List[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn > 0:
                found[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in found.items()}


def main(arguments: Arguments) -> None:
    """Measures, prints and writes the table."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows: List[List[Any]] = []
    for width, height in SIZES:
        calls: Dict[str, Callable[[], Any]] = {}
        counts: Dict[str, int] = {}
        calls["field step"], calls["field image"] = field(width, height, arguments.field_rays)
        for stride in STRIDES:
            count, calls[f"{stride} step"], calls[f"{stride} image"] = splats(width, height, stride)
            counts[str(stride)] = count
        seconds = seconds_of(calls, arguments.repeats)
        size = f"{width}x{height}"
        of_field = seconds["field step"], seconds["field image"]
        rows.append([size, f"compact field, {arguments.field_rays} rays", 1e3 * of_field[0], 1e3 * of_field[1], 1.0])
        for stride, count in counts.items():
            step, image = seconds[f"{stride} step"], seconds[f"{stride} image"]
            rows.append([size, f"{count} Gaussians", 1e3 * step, 1e3 * image, of_field[1] / image])
    titles = ("image", "what", "CPU ms per step", "CPU ms per image", "images per image of the field")
    table = Table([Column(each) for each in titles], rows)
    print_table(table, f"{arguments.threads} thread(s)")
    if arguments.output is not None:
        arguments.output.write_text(as_markdown(table))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
