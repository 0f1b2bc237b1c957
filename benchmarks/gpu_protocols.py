"""The papers' protocols on a GPU machine in one command: recipes in order of worth, within a budget of time.

    python benchmarks/gpu_protocols.py --data DATA --dry-run               # the plan, and what is missing
    python benchmarks/gpu_protocols.py --data DATA --budget-minutes 600    # -> outputs/gpu/gpu_report.md, results.csv

The same call again goes on where the budget ended: finished cells are skipped, the interrupted one continues from its
checkpoint. docs/bench.md says more.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Literal, Optional, Sequence, Tuple

import tyro
from gpu_report import Missing, Page, done_table, plan_table
from protocol_weights import absent_weights
from protocol_worth import Ranked, WholePlan, is_splats, plan_by_worth, wanted
from pydantic import TypeAdapter
from rich.console import Console
from splat_renderers import Comparison

from fewshot_ns.bench.execution.cells import Outcome, run_cell
from fewshot_ns.bench.execution.estimate import Estimator, duration
from fewshot_ns.bench.execution.local import Deadline, LocalExecutor, ended_in_time, local_workers
from fewshot_ns.bench.execution.plan_summary import cell_state, write_plan
from fewshot_ns.bench.execution.progress import Board
from fewshot_ns.presentation.tables import print_table
from fewshot_ns.utils.processes import CommandError, CommandRunner, end_on_termination
from fewshot_ns.utils.record_files import read_record_file

RENDERERS = "splat_renderers.json"
_GRACE_SECONDS = 30.0
"""Most time between asking trainings to end and the end of the budget."""
_COMPARISON = TypeAdapter(Comparison)
Clock = Callable[[], float]


@dataclass
class Arguments:
    """What is trained, and how long."""

    data: Optional[Path] = None
    """Folder that the recipes' scenes are in; None: FEWSHOT_DATA."""
    output_dir: Path = Path("outputs/gpu")
    """Where everything goes: a folder for each recipe, gpu_report.md and results.csv."""
    budget_minutes: float = 60.0
    """Wall clock of this call. At its end what runs ends with a checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA where there is one."""
    recipes: Tuple[str, ...] = ()
    """Recipes of the package, or YAML files, in this order; none: the protocol recipes in the order of worth."""
    steps: Optional[int] = None
    """Most steps of a training, for a machine that is there for minutes: rows are then not as published, and lie in
    folders of their own. None: as the recipes say."""
    dry_run: bool = False
    """Print the plan and what is missing; train nothing, write nothing."""
    jobs: int = 0
    """Cells at a time; 0: one per GPU, or on a CPU as many as its cores allow."""
    threads: int = 0
    """CPU threads of each cell; 0: one on a CPU, an equal part of the cores beside a GPU."""
    keep_older: bool = False
    """Keep cells that were finished with another version of the code, too, if nothing else differs."""
    splats: Literal["gsplat", "torch"] = "gsplat"
    """What renders splats on CUDA: gsplat's kernels, or the same in torch, which needs no compiler."""
    compare_renderers: bool = True
    """Whether gsplat's kernels and the renderer in torch are compared first; seconds, and once the minutes in which
    gsplat builds its kernels."""


def main(arguments: Arguments, started: Optional[float] = None, clock: Clock = time.monotonic) -> int:
    """Trains what the budget allows.

    Args:
        arguments: of the command line.
        started: when the budget began, seconds of the clock; None: now.
        clock: what tells the time.

    Returns:
        0, or 1 where a cell failed; that the budget has ended is no failure.

    Raises:
        ValueError: a number makes no sense, or nothing can be run.
        FileNotFoundError: the data or a recipe are not there.
        SchemaError: a recipe says something wrong.
    """
    started = clock() if started is None else started
    _check(arguments)
    data, device, folder = _data_root(arguments.data), _device(arguments.device), arguments.output_dir.absolute()
    console = Console()
    with console.status("reading the recipes' methods and scenes"):
        workers = local_workers(device, arguments.jobs, arguments.threads)
        plan = plan_by_worth(
            wanted(arguments.recipes),
            data,
            folder,
            device,
            arguments.steps,
            arguments.keep_older,
            arguments.splats == "torch",
        )
        to_do = [one for one in plan.cells if cell_state(one.cell, arguments.keep_older) != "finished"]
        missing = Missing(plan, data, absent_weights(to_do))
    _say(missing.lines(), console)
    if not plan.cells:
        raise ValueError(f"{data}: expected scenes of the recipes, found none that can be trained on; see above")
    estimator = Estimator(replace(plan.plans[0], cells=tuple(one.cell for one in plan.cells)))
    print_table(plan_table(plan, estimator, arguments.keep_older), "in order of worth")
    if arguments.dry_run:
        return 0
    for each in plan.plans:
        write_plan(each)
    end = started + 60.0 * arguments.budget_minutes
    outcomes: List[Tuple[Ranked, Outcome]] = []
    renderers: Optional[Comparison] = None
    try:
        if arguments.compare_renderers:
            renderers = compared_renderers(folder, device, end, clock)
            if device == "cuda" and renderers.error and arguments.splats == "gsplat":
                to_do, missing = without_splats(to_do, missing, renderers.error)
        grace = min(_GRACE_SECONDS, 6.0 * arguments.budget_minutes)
        deadline = Deadline(asked=end - grace, killed=end - grace / 4, clock=clock)
        board = Board(console, [one.cell for one in to_do], estimator, len(workers), _names(to_do))
        executor = LocalExecutor(workers, arguments.keep_older, _Run(to_do, outcomes), deadline)
        with board.showing():
            executor.execute([one.cell for one in to_do], folder, board)
    finally:
        # Also after Ctrl-C and SIGTERM.
        page = Page(_machine(device, renderers), outcomes, missing, renderers)
        written = page.write(folder, estimator, arguments.keep_older)
    _conclude(plan, outcomes, arguments.keep_older, clock() - started, console)
    console.print(f"{written}", highlight=False, soft_wrap=True)
    return int(any(outcome.status == "failed" for _, outcome in outcomes))


@dataclass
class _Run:
    """Does one cell in the folder of its recipe, and notes how it ended."""

    cells: Sequence[Ranked]
    outcomes: List[Tuple[Ranked, Outcome]]

    def __post_init__(self) -> None:
        self._by_folder = {one.cell.folder: one for one in self.cells}

    def __call__(self, cell: Any, folder: Path, *rest: Any) -> Outcome:
        one = self._by_folder[cell.folder]
        outcome = run_cell(cell, folder / one.recipe, *rest)
        self.outcomes.append((one, outcome))
        return outcome


def _names(cells: Sequence[Ranked]) -> Dict[Path, str]:
    """Cells of several recipes may have one name."""
    return {one.cell.folder: one.name for one in cells}


def _check(arguments: Arguments) -> None:
    if not (math.isfinite(arguments.budget_minutes) and arguments.budget_minutes > 0):
        raise ValueError(f"--budget-minutes: expected a number above 0, found {arguments.budget_minutes}")
    if arguments.steps is not None and arguments.steps < 1:
        raise ValueError(f"--steps: expected 1 or more, found {arguments.steps}")
    for flag, value in (("--jobs", arguments.jobs), ("--threads", arguments.threads)):
        if value < 0:
            raise ValueError(f"{flag}: expected 0 or more, found {value}")


def _data_root(given: Optional[Path]) -> Path:
    folder = given or (Path(os.environ["FEWSHOT_DATA"]) if os.environ.get("FEWSHOT_DATA") else None)
    if folder is None:
        raise ValueError("give the folder of the scenes: --data DIR, or the environment variable FEWSHOT_DATA")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of the scenes (--data), found nothing")
    return folder


def _device(wanted_device: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted_device == "auto" else wanted_device


def compared_renderers(folder: Path, device: str, end: float, clock: Clock) -> Comparison:
    """gsplat's kernels and the renderer in torch: of an earlier call, or measured now in a process of its own, which
    gives the GPU's memory back and can be ended where the kernels are long in the making.

    Args:
        folder: where the result is kept, with the log of that process.
        device: 'cpu' or 'cuda'.
        end: of the budget, seconds of the clock; it takes half of what is left at most.
        clock: what tells the time.
    """
    file = folder / RENDERERS
    if device == "cpu":
        return Comparison("cpu", error="gsplat has no kernels on a CPU: nothing was compared")
    if file.is_file():
        known = read_record_file(file, _COMPARISON, "a comparison of renderers")
        if not known.error:
            return known
    script = Path(__file__).with_name("splat_renderers.py")
    runner, now = CommandRunner(), clock()
    # The rest is for the cells.
    limit = now + 0.5 * max(end - now, 0.0)
    try:
        with end_on_termination(), ended_in_time(runner, Deadline(limit, limit + 5.0, clock)):
            runner.run([sys.executable, str(script), "--output", str(file)], folder / "splat_renderers.log")
    except CommandError as error:
        late = "they took more than half of the budget to build or run" if runner.given_up else str(error)
        return Comparison("cuda", error=f"gsplat's kernels were not compared: {late}")
    return read_record_file(file, _COMPARISON, "a comparison of renderers")


def without_splats(to_do: List[Ranked], missing: Missing, why: str) -> Tuple[List[Ranked], Missing]:
    """What is left to do where gsplat's kernels do not run, and what is missing with a line on what is left out.

    Args:
        to_do: cells that are not finished.
        missing: what else is missing.
        why: the kernels do not run.
    """
    splats = [one for one in to_do if is_splats(one.cell.method)]
    if not splats:
        return to_do, missing
    line = f"{len(splats)} cells of splats: {why}; --splats torch trains them without kernels"
    plan = replace(missing.plan, problems=(*missing.plan.problems, line))
    return [one for one in to_do if one not in splats], replace(missing, plan=plan)


def _machine(device: str, renderers: Optional[Comparison]) -> str:
    """What it runs on, in words."""
    import torch

    name = device if renderers is None else renderers.device
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{name}, torch {torch.__version__}, {system}"


def _say(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(f"missing: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _conclude(
    plan: WholePlan, outcomes: List[Tuple[Ranked, Outcome]], any_source: bool, seconds: float, console: Console
) -> None:
    """Says what was done and what is left."""
    if outcomes:
        print_table(done_table(outcomes), "done by this call")
    left = [one for one in plan.cells if cell_state(one.cell, any_source) != "finished"]
    words = f"{len(plan.cells) - len(left)} of {len(plan.cells)} cells are finished after {duration(seconds)}"
    words += f"; next is {left[0].name}: the same call goes on" if left else ""
    console.print(words, markup=False, highlight=False, soft_wrap=True)


def entrypoint() -> int:
    """The command: errors of users are said without a traceback."""
    # The imports took processor time, and are a part of the budget.
    started = time.monotonic() - time.process_time()
    try:
        return main(tyro.cli(Arguments), started)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same call goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(entrypoint())
