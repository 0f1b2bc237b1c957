"""Is it worth training a generic pixelNeRF on the few photos of a new object, and does the semantic term help?

    python benchmarks/pixelnerf_finetune.py --load-config RUN/config.yml --data solids --output-dir outputs/finetune

For some objects that the run has never seen: the generic network as it is, fine-tuned on the two source views, and the
same with DietNeRF's semantic term on unseen views (DietPixelNeRF, whose code was never released), at equal steps.
Prints and writes the PSNR of all other views. What is there already is kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import tyro

from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table

SEMANTIC = (
    *("--pipeline.semantic.enabled", "True", "--pipeline.semantic.encoder.library", "torchvision"),
    *("--pipeline.semantic.encoder.model", "vgg16", "--pipeline.semantic.encoder.output", "projected"),
    *("--pipeline.semantic.encoder.image-size", "112", "--pipeline.semantic.interval", "5"),
    *("--pipeline.semantic.fine-weight", "0.03", "--pipeline.semantic.coarse-weight", "0.0"),
    # Where the set's cameras stand.
    *("--pipeline.semantic.views.poses", "hemisphere", "--pipeline.semantic.views.grid-size", "32"),
    *("--pipeline.semantic.views.radius", "1.3", "1.3", "--pipeline.semantic.views.elevation", "5", "70"),
)
WAYS: Dict[str, Tuple[str, ...]] = {"fine-tuned": (), "fine-tuned, semantic": SEMANTIC}


@dataclass
class Arguments:
    """Flags of the benchmark."""

    load_config: Path
    """config.yml of a run of pixelnerf-lite over many objects."""
    data: Path
    """The set that it was trained on, in SRN's layout."""
    output_dir: Path = Path("outputs/pixelnerf_finetune")
    """Where runs, table and results go."""
    objects: Tuple[str, ...] = ("chair_0077", "lamp_0079", "house_0081", "tower_0082")
    """Objects of the test split."""
    sources: Tuple[int, ...] = (12, 16)
    """Source views."""
    steps: int = 200
    """Steps of fine-tuning."""
    lr: float = 1e-4
    """Its learning rate."""


def run(command: Sequence[str]) -> None:
    """Runs one of the commands that are installed beside this Python."""
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)


def texts(numbers: Sequence[int]) -> List[str]:
    """Numbers as flags take them."""
    return [str(number) for number in numbers]


def fine_tune(arguments: Arguments, name: str, way: str) -> Path:
    """Trains where that has not been done; the run's config."""
    timestamp = way.replace(", ", "-")
    folder = arguments.output_dir / name / "pixelnerf-lite" / timestamp
    if not (folder / "train_stats.json").is_file():
        checkpoint = max((arguments.load_config.parent / "nerfstudio_models").glob("step-*.ckpt"))
        run(
            [
                *("ns-train", "pixelnerf-lite", "--data", str(arguments.data), "--machine.seed", "0"),
                *("--output-dir", str(arguments.output_dir), "--experiment-name", name, "--timestamp", timestamp),
                *("--pipeline.initial-weights", str(checkpoint), "--max-num-iterations", str(arguments.steps)),
                *("--vis", "tensorboard", "--machine.device-type", "cpu", "--steps-per-eval-image", "0"),
                *("--optimizers.field.optimizer.lr", str(arguments.lr)),
                *("--optimizers.field.scheduler.lr-final", str(arguments.lr)),
                *("--pipeline.datamanager.scenes", name, "--pipeline.datamanager.train-on-sources-only", "True"),
                *("--pipeline.datamanager.sources.mode", "views"),
                *("--pipeline.datamanager.sources.views", *texts(arguments.sources)),
                *("--pipeline.datamanager.rays-per-scene", "512", *WAYS[way], "srn-data"),
            ]
        )
    return folder / "config.yml"


def psnr(arguments: Arguments, config: Path, name: str, label: str) -> float:
    """Mean over the views of an object that are not looked at."""
    output = arguments.output_dir / name / f"{label.replace(', ', '-')}.json"
    if not output.is_file():
        chosen = ("--scenes", name, "--source-views", *texts(arguments.sources))
        measures = ("--metrics", "psnr", "--masks", "none", "--output-path", str(output))
        run(["ns-fewshot", "eval", "--load-config", str(config), *measures, *chosen])
    results: Dict[str, Any] = json.loads(output.read_text())
    return float(results.get("results", results)["psnr"])


def main(arguments: Arguments) -> None:
    """Runs what is missing, prints the table, writes `table.md`."""
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    rows: Dict[str, List[float]] = {}
    for name in arguments.objects:
        rows[name] = [psnr(arguments, arguments.load_config, name, "as it is")]
        rows[name] += [psnr(arguments, fine_tune(arguments, name, way), name, way) for way in WAYS]
    rows["mean"] = [float(value) for value in np.mean(list(rows.values()), axis=0)]
    columns = [Column(title) for title in ("object", "as it is", *WAYS)]
    table = Table(columns, [[name, *values] for name, values in rows.items()])
    print_table(table, f"PSNR of unseen views, {arguments.steps} steps")
    (arguments.output_dir / "table.md").write_text(as_markdown(table))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
