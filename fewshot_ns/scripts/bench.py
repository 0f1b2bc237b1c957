"""`ns-fewshot bench`: a recipe of methods, scenes and seeds, trained and measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Literal, Optional, Tuple, Union

import tyro

if TYPE_CHECKING:
    from rich.console import Console

    from fewshot_ns.bench.execution.cells import Outcome
    from fewshot_ns.bench.execution.local import LocalExecutor
    from fewshot_ns.bench.execution.ray_cluster import RayExecutor
    from fewshot_ns.bench.planning.plan import Plan


@dataclass
class BenchCommand:
    """Train and evaluate every method of a recipe on every scene, for every seed.

    What is finished is kept, what was killed goes on, what fails is recorded and does not stop the rest. `ns-fewshot
    report` makes tables and pages of the results.
    """

    recipe: tyro.conf.Positional[Optional[str]] = None
    """A YAML file, or the name of a recipe that comes with the package (see docs/bench.md)."""
    output_dir: Optional[Path] = None
    """Where everything goes; None: outputs/bench/<name of the recipe>."""
    data: Optional[Path] = None
    """Folder that the recipe's scenes are in; None: FEWSHOT_DATA."""
    dry_run: bool = False
    """Check everything and print the plan; train nothing."""
    executor: Literal["local", "ray"] = "local"
    """local: on this machine; ray: spread over a Ray cluster whose nodes all see data and output folder."""
    ray_address: Optional[str] = None
    """Address of the cluster, auto for the one that runs on this machine; None: RAY_ADDRESS, else a new one here."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA where there is one."""
    jobs: int = 0
    """Cells at a time; 0: one per GPU, or on a CPU as many as its cores allow."""
    threads: int = 0
    """CPU threads of each cell; 0: one on a CPU, an equal part of the cores beside a GPU."""
    keep_older: bool = False
    """Keep cells that were finished with another version of the code, too, if nothing else differs."""
    schema: bool = False
    """Print the JSON schema of recipes, for editors, and do nothing else."""

    def main(self) -> None:
        """Runs the benchmark.

        Raises:
            SchemaError: the recipe, a scene or a flag is wrong.
            ValueError: no recipe is given, or a number makes no sense.
            CommandError: a cell failed, after all others have been tried.
        """
        from rich.console import Console

        from fewshot_ns.bench.planning.planner import make_plan
        from fewshot_ns.bench.recipes.yaml_file import find_recipe, load_recipe, recipe_names

        if self.schema:
            from fewshot_ns.bench.recipes.schema import json_schema

            print(json_schema(), end="")
            return
        if self.recipe is None:
            raise ValueError(f"give a recipe: a YAML file or one of {', '.join(recipe_names())}")
        console = Console()
        recipe = load_recipe(find_recipe(self.recipe))
        for name in ("jobs", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name}: expected 0 or more, got {getattr(self, name)}")
        with console.status("reading the recipe's methods and scenes"):
            output_dir = self.output_dir or Path("outputs/bench") / recipe.name
            plan = make_plan(recipe, self._data_root(), output_dir, self._device())
        outcomes = self._work(plan, console)
        if outcomes is not None:
            self._conclude(plan, outcomes, console)

    def _data_root(self) -> Path:
        folder = self.data or (Path(os.environ["FEWSHOT_DATA"]) if os.environ.get("FEWSHOT_DATA") else None)
        if folder is None:
            raise ValueError("give the folder of the scenes: --data DIR, or the environment variable FEWSHOT_DATA")
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: expected the folder of the scenes (--data), found nothing")
        return folder

    def _device(self) -> str:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def _work(self, plan: Plan, console: Console) -> Optional[Dict[str, Outcome]]:
        """Runs what is missing; None after --dry-run."""
        from fewshot_ns.bench.execution.estimate import Estimator
        from fewshot_ns.bench.execution.plan_summary import print_plan, write_plan
        from fewshot_ns.bench.execution.progress import Board

        executor, workers = self._executor()
        estimator = Estimator(plan)
        print_plan(plan, estimator, workers, self.keep_older, console)
        if self.dry_run:
            return None
        write_plan(plan)
        board = Board(console, plan.cells, estimator, workers)
        with board.showing():
            return executor.execute(plan.cells, plan.output_dir.absolute(), board)

    def _executor(self) -> Tuple[Union[LocalExecutor, RayExecutor], int]:
        """What runs the cells, and how many at a time."""
        from fewshot_ns.bench.execution.cells import WorkerResources
        from fewshot_ns.bench.execution.local import LocalExecutor, local_workers
        from fewshot_ns.bench.execution.ray_cluster import RayExecutor, cluster_workers, connect
        from fewshot_ns.utils.processes import CommandError

        if self.executor == "local":
            local = local_workers(self._device(), self.jobs, self.threads)
            return LocalExecutor(local, self.keep_older), len(local)
        resources = WorkerResources(self.threads or 1)
        try:
            ray = connect(self.ray_address)
        except ImportError as error:
            raise CommandError(f"--executor ray: {error}") from error
        return RayExecutor(ray, resources, self.keep_older), cluster_workers(ray, resources, self._device())

    def _conclude(self, plan: Plan, outcomes: Dict[str, Outcome], console: Console) -> None:
        from fewshot_ns.utils.processes import CommandError

        failed = [outcome for outcome in outcomes.values() if outcome.status == "failed"]
        done = len(outcomes) - len(failed)
        console.print(f"{done} of {len(outcomes)} cells are finished in {plan.output_dir}", highlight=False)
        if failed:
            listed = "\n\n".join(f"{outcome.name}: {outcome.error}" for outcome in failed)
            raise CommandError(f"{len(failed)} of {len(outcomes)} cells failed:\n\n{listed}")
