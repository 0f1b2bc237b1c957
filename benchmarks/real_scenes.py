"""The lite presets on real photos: DTU scan24, sparsenerf-lite with and without its depth prior, and fern without one.

Every cell is an ordinary `ns-train` followed by `ns-eval`; finished cells are kept. Prints the table and writes it.

    FEWSHOT_DATA=... FEWSHOT_WEIGHTS=... python benchmarks/real_scenes.py --output-dir outputs/real_scenes

Scenes (see docs/data_formats.md for the layouts): <data>/dtu/Rectified/scan24 and <data>/nerf_llff_data/fern.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import tyro
from rich.console import Console
from rich.table import Table

METRICS = ("psnr", "ssim", "lpips", "masked_psnr", "masked_ssim", "masked_lpips")


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    scene: str
    method_flags: Tuple[str, ...]
    parser_flags: Tuple[str, ...]
    method: str = "sparsenerf-lite"


DTU = ("dtu-data", "--downscale-factor", "4", "--depth-polarity", "distance")
LONGER = ("--max-num-iterations", "3000")
LONGER += tuple(
    word for name in ("field", "planes", "proposal") for word in (f"--optimizers.{name}.scheduler.max-steps", "3000")
)
FERN = ("llff-data", "--images-dir", "images_16", "--downscale-factor", "2")
OFF = ("--pipeline.depth.enabled", "False")
WITHOUT_DEPTH = ("mipnerf-fewshot-lite", "regnerf-lite", "freenerf-lite")
SETTINGS = (
    Setting("scan24, 3 views, depth prior", "dtu/Rectified/scan24", (), DTU),
    Setting("scan24, 3 views, no prior", "dtu/Rectified/scan24", OFF, DTU),
    Setting("scan24, 3 views, depth prior, averaged photos", "dtu/Rectified/scan24", (), (*DTU, "--resize", "area")),
    Setting("scan24, 3 views, depth prior, 3000 steps", "dtu/Rectified/scan24", LONGER, DTU),
    Setting("fern, 3 views, no prior", "nerf_llff_data/fern", OFF, FERN),
    *(
        Setting(f"{scene.rpartition('/')[2]}, 3 views, {method}", scene, (), parser, method)
        for scene, parser, methods in (
            ("dtu/Rectified/scan24", DTU, (*WITHOUT_DEPTH, "free-sparsenerf-lite")),
            ("nerf_llff_data/fern", FERN, WITHOUT_DEPTH),
        )
        for method in methods
    ),
)


@dataclass
class Arguments:
    """Flags of the benchmark."""

    output_dir: Path = Path("outputs/real_scenes")
    """Where runs and table go."""
    data: Path = field(default_factory=lambda: Path(os.environ.get("FEWSHOT_DATA", "../shared/data")))
    """Folder of the real scenes."""
    seeds: Tuple[int, ...] = (0, 1, 2)
    """Seeds of each row."""
    cpu_seconds: float = 360.0
    """Most CPU seconds (user + system) that a training may take."""
    steps: Optional[int] = None
    """Training steps; None takes the preset's."""
    only: Optional[Tuple[str, ...]] = None
    """Run only the rows of these names."""
    device: str = "cpu"
    """Where to train."""


def run_cell(setting: Setting, seed: int, arguments: Arguments) -> Dict[str, float]:
    """Trains and evaluates one cell, unless that is done, and returns metrics and cost."""
    stamp = f"{setting.name.replace(', ', '-').replace(' ', '_')}-s{seed}"
    run = arguments.output_dir / "runs" / setting.method / stamp
    result = run / "eval.json"
    commands = Path(sys.executable).parent
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    log = arguments.output_dir / f"{stamp}.log"
    if not result.is_file():
        train = [
            *(str(commands / "ns-train"), setting.method, "--data", str(arguments.data / setting.scene)),
            *("--output-dir", str(arguments.output_dir), "--experiment-name", "runs", "--timestamp", stamp),
            *("--machine.seed", str(seed), "--machine.device-type", arguments.device, "--vis", "tensorboard"),
            *("--max-train-cpu-seconds", str(arguments.cpu_seconds), "--steps-per-eval-image", "0"),
            *(() if arguments.steps is None else ("--max-num-iterations", str(arguments.steps))),
            *setting.method_flags,
            *setting.parser_flags,
        ]
        evaluate = [str(commands / "ns-eval"), "--load-config", str(run / "config.yml"), "--output-path", str(result)]
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stream:
            for command in (train, evaluate):
                subprocess.run(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=True)
    metrics = json.loads(result.read_text())["results"]
    stats = json.loads((run / "train_stats.json").read_text())
    wanted = {name: metrics[name] for name in METRICS if metrics.get(name) is not None}
    return {**wanted, **{name: stats[name] for name in ("cpu_seconds", "rays_per_cpu_second", "steps")}}


def summarise(cells: List[Dict[str, float]], name: str) -> str:
    """Mean and spread over seeds, or n/a."""
    values = [cell[name] for cell in cells if name in cell]
    if not values:
        return "n/a"
    digits = {"cpu_seconds": 0, "rays_per_cpu_second": 0, "steps": 0}.get(name, 2 if name.endswith("psnr") else 3)
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 and digits else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def main(arguments: Arguments) -> None:
    """Runs what is missing, then prints the table and writes `table.md`."""
    columns = (*METRICS, "rays_per_cpu_second", "cpu_seconds", "steps")
    table = Table("setting", "seeds", *columns, title="Lite presets on real photos")
    lines = ["| setting | seeds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for setting in SETTINGS:
        if arguments.only is not None and setting.name not in arguments.only:
            continue
        cells = [run_cell(setting, seed, arguments) for seed in arguments.seeds]
        row = [setting.name, str(len(cells)), *(summarise(cells, name) for name in columns)]
        table.add_row(*row)
        lines.append("| " + " | ".join(row) + " |")
    Console(width=200).print(table)
    (arguments.output_dir / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
