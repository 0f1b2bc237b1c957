"""How long many objects take to list, and how much memory they take to list and to draw from.

Makes a tree of many objects in a temporary folder, in the layouts of SRN (a folder per object to be found) and of NMR
(lists of names). The files of all objects are hard links to those of a few, so that the tree takes little room, but
each has a path of its own and so a place of its own in the cache. Each layout is measured in a process of its own:
listing, then steps that each open an object at random and draw pixels of all its views, in their boxes, through the
bounded cache.

    python benchmarks/scene_listing.py --objects 30000
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import tyro
from rich.console import Console
from rich.table import Table

CATEGORIES = 13
MEGABYTE = 1024**2


@dataclass
class Options:
    """Lists and draws from a generated tree of objects."""

    objects: int = 30000
    """Objects of the tree."""
    views: int = 4
    """Views of each object."""
    steps: int = 5000
    """Objects drawn."""
    pixels: int = 128
    """Pixels drawn of each."""
    cache_megabytes: int = 64
    """Bound of the cache of images."""
    layout: Optional[str] = None
    """Measures this layout only, in this process, in the tree below --tree; used by the command itself."""
    tree: Optional[Path] = None
    """Folder of the tree; None makes a temporary one."""


def link_all(sources: List[Path], folder: Path) -> None:
    """Hard links of files in a new folder."""
    folder.mkdir(parents=True)
    for source in sources:
        os.link(source, folder / source.name)


def write_tree(folder: Path, options: Options) -> float:
    """Writes both layouts; returns the seconds taken."""
    import cv2
    import numpy as np

    from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

    start = time.perf_counter()
    write_solids(folder / "few", SolidsConfig(objects=8, views=options.views, supersample=1))
    patterns = sorted(path for path in (folder / "few" / "solids_train").iterdir() if path.is_dir())
    for pattern in patterns:
        matrices: Dict[str, Any] = {}
        (pattern / "mask").mkdir()
        for view, path in enumerate(sorted((pattern / "pose").iterdir())):
            matrices[f"world_mat_inv_{view}"] = np.loadtxt(path).reshape(4, 4)
            matrices[f"camera_mat_{view}"] = np.diag([2.05, 2.05, 1.0, 1.0])
            image = cv2.imread(str(pattern / "rgb" / f"{path.stem}.png"))
            mask = (image != 255).all(axis=-1).astype(np.uint8) * 255
            cv2.imwrite(str(pattern / "mask" / f"{path.stem}.png"), mask)
        np.savez(pattern / "cameras.npz", **matrices)
    srn, nmr = folder / "srn" / "cars_train", folder / "nmr"
    names: Dict[str, List[str]] = {f"{number:08d}": [] for number in range(CATEGORIES)}
    for index in range(options.objects):
        pattern, name = patterns[index % len(patterns)], f"{index:032x}"
        images, poses = list((pattern / "rgb").iterdir()), list((pattern / "pose").iterdir())
        link_all(images, srn / name / "rgb")
        link_all(poses, srn / name / "pose")
        os.link(pattern / "intrinsics.txt", srn / name / "intrinsics.txt")
        category = f"{index % CATEGORIES:08d}"
        link_all(images, nmr / category / name / "image")
        link_all(list((pattern / "mask").iterdir()), nmr / category / name / "mask")
        os.link(pattern / "cameras.npz", nmr / category / name / "cameras.npz")
        names[category].append(name)
    for category, listed in names.items():
        (nmr / category / "softras_train.lst").write_text("\n".join(listed) + "\n", encoding="utf-8")
    return time.perf_counter() - start


def peak() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(options: Options) -> Dict[str, float]:
    """Lists and draws; prints and returns what was measured."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    import torch

    from fewshot_ns.data.dataparsers.multi.nmr import NMRDataParserConfig
    from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
    from fewshot_ns.data.multiscene.images import SceneImages, pixels_in_boxes

    assert options.tree is not None
    torch.set_num_threads(1)
    data = options.tree / str(options.layout)
    config = SRNDataParserConfig(data=data / "cars") if options.layout == "srn" else NMRDataParserConfig(data=data)
    parser = config.setup()
    before, start = peak(), time.perf_counter()
    table = parser.scene_table("train")
    listing, listed = time.perf_counter() - start, peak()
    images = SceneImages(options.cache_megabytes * MEGABYTE)
    generator = torch.Generator().manual_seed(0)
    largest, middle = 0, listed
    start = time.perf_counter()
    for step in range(options.steps):
        scene = parser.open_scene(table[int(torch.randint(len(table), (1,), generator=generator))])
        views = torch.randint(options.views, (options.pixels,), generator=generator)
        boxes = images.boxes(scene, range(options.views))[views]
        rows, columns = pixels_in_boxes(boxes, torch.rand(options.pixels, 2, generator=generator))
        images.colours(scene, torch.stack([views, rows, columns], dim=-1))
        largest = max(largest, images.cache.size)
        if step == options.steps // 2:
            middle = peak()
    return {
        "objects": len(table),
        "listing": listing,
        "listing_memory": listed - before,
        "step": (time.perf_counter() - start) / options.steps,
        "cache": largest / MEGABYTE,
        "decoded": options.steps * options.views * 64 * 64 * 3 / MEGABYTE,
        "memory": peak() - listed,
        "late_memory": peak() - middle,
    }


def main(options: Options) -> int:
    """Prints the table.

    Returns:
        exit status: 1 where the cache outgrew its bound.
    """
    if options.layout is not None:
        print("MEASURED" + json.dumps(measure(options)))
        return 0
    console = Console()
    table = Table(
        "layout", "objects", "listing s", "+MiB", "ms per step", "cache MiB", "decoded MiB", "+MiB", "of it late"
    )
    met = True
    with tempfile.TemporaryDirectory(dir=options.tree) as temporary:
        seconds = write_tree(Path(temporary), options)
        console.print(f"tree of 2 x {options.objects} objects of {options.views} views written in {seconds:.0f} s")
        for layout in ("srn", "nmr"):
            flags = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in ("views", "steps", "pixels")]
            flags += [f"--cache-megabytes={options.cache_megabytes}", f"--layout={layout}", f"--tree={temporary}"]
            done = subprocess.run(
                [sys.executable, "-W", "ignore", __file__, *flags], stdout=subprocess.PIPE, check=True
            )
            row = json.loads(done.stdout.decode().split("MEASURED")[1])
            met = met and row["cache"] <= options.cache_megabytes
            numbers = (f"{row['listing']:.2f}", f"{row['listing_memory']:.0f}", f"{1000 * row['step']:.2f}")
            memory = (f"{row[name]:.0f}" for name in ("cache", "decoded", "memory", "late_memory"))
            table.add_row(f"{layout}-data", f"{row['objects']:.0f}", *numbers, *memory)
        # Shown before the tree is removed, which can take longer than the rest.
        table.title = f"{options.steps} steps of {options.pixels} pixels; +MiB: growth of the peak of resident memory"
        console.print(table)
        console.print(f"cache within {options.cache_megabytes} MiB: {'yes' if met else 'NO'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
