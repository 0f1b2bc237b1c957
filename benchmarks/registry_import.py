"""What our entry points add to the start of nerfstudio's commands.

Runs `ns-train --help` in fresh interpreters, in turn with our entry points and with them hidden. The start of
nerfstudio takes seconds and scatters by tenths of a second with what else the machine does, so the best run of each
kind decides, as in `timeit`; the medians are shown beside it. The bar is 0.3 s.

    python benchmarks/registry_import.py --runs 7
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Dict, List, Tuple

import tyro
from rich.console import Console
from rich.table import Table

BAR_SECONDS = 0.3

HELP = """
import sys
from nerfstudio.scripts.train import entrypoint
sys.argv = ["ns-train", "--help"]
entrypoint()
"""

HIDE_OURS = """
import importlib.metadata as metadata
real = metadata.entry_points
def others(**selection):
    found = real(**selection)
    if not selection.get("group", "").startswith("nerfstudio."):
        return found
    return metadata.EntryPoints(entry for entry in found if not entry.value.startswith("fewshot_ns"))
metadata.entry_points = others
"""


@dataclass
class Options:
    """Times `ns-train --help` with and without this package."""

    runs: int = 7
    """Runs of each kind; the first of each warms the file cache and is not counted."""


def measure(code: str) -> Tuple[float, float]:
    """Runs code in a fresh interpreter.

    Returns:
        wall seconds and CPU seconds (user + system).
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(options: Options) -> int:
    """Prints the table.

    Returns:
        exit status: 1 where the bar is missed.
    """
    kinds = {"without fewshot-ns": HIDE_OURS + HELP, "with fewshot-ns": HELP}
    times: Dict[str, List[Tuple[float, float]]] = {kind: [] for kind in kinds}
    for run in range(options.runs + 1):
        for kind, code in kinds.items():
            measured = measure(code)
            if run > 0:
                times[kind].append(measured)
    table = Table("ns-train --help", "wall s, best", "wall s, median", "CPU s, best", "CPU s, median")
    table.title = f"{options.runs} runs each"
    numbers = {
        kind: [function(column) for column in zip(*rows, strict=True) for function in (min, statistics.median)]
        for kind, rows in times.items()
    }
    for kind, row in numbers.items():
        table.add_row(kind, *(f"{value:.2f}" for value in row))
    without, with_ours = numbers.values()
    added = [ours - plain for ours, plain in zip(with_ours, without, strict=True)]
    table.add_row("added", *(f"{value:+.2f}" for value in added))
    Console().print(table)
    met = added[0] < BAR_SECONDS
    Console().print(f"bar: less than {BAR_SECONDS} s added: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
