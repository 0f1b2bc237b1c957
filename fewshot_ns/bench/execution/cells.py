"""One cell of a benchmark: trained, evaluated and recorded by nerfstudio's own commands and ns-fewshot eval."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import BaseModel, ConfigDict, TypeAdapter

from fewshot_ns.bench.execution.records import (
    EVAL,
    FAILED,
    FINISHED,
    INTERRUPTED,
    STARTED,
    VIEWS,
    CellBusyError,
    is_begun,
    is_finished,
    is_measured_alike,
    is_same,
    is_trained,
    last_step,
    locked,
    next_log,
    read_record,
    set_aside,
    write_record,
)
from fewshot_ns.bench.planning.plan import Cell, SourceEvaluation
from fewshot_ns.evaluation.records.category_table import category_names
from fewshot_ns.utils.processes import CommandError, CommandRunner, console_script
from fewshot_ns.utils.record_files import read_record_file

OnProgress = Callable[[str, int], None]
"""Told what is being done ('train', 'evaluate') and how many steps of the training are done."""
_STEP_LINE = re.compile(r"^\s*(\d+) \(\d+\.\d+%\)")
"""What ns-train prints for a logged step."""


@dataclass(frozen=True)
class WorkerResources:
    """The part of a machine that a cell gets."""

    threads: int = 1
    """CPU threads of each of its commands."""
    gpu: Optional[str] = None
    """Number of its GPU, or its identifier; None: none on a CPU, as the system chooses on CUDA."""

    def environment(self, device: str) -> Dict[str, str]:
        """Variables of the commands."""
        variables = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        if device == "cpu":
            # ns-eval takes CUDA wherever it finds it.
            variables["CUDA_VISIBLE_DEVICES"] = ""
        elif self.gpu is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpu
        return variables


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    name: str
    """Name of the cell."""
    status: str
    """'reused', 'finished', 'failed', 'interrupted' or 'not begun'."""
    seconds: float
    """Wall clock of this attempt."""
    error: str = ""
    """What went wrong, with the end of the log."""


def run_cell(
    cell: Cell,
    output_dir: Path,
    resources: WorkerResources,
    runner: Optional[CommandRunner] = None,
    progress: Optional[OnProgress] = None,
    any_source: bool = False,
) -> Outcome:
    """Does what is missing of a cell. Never raises because of what the cell's commands did.

    Args:
        cell: which.
        output_dir: folder of the benchmark.
        resources: what it may use.
        runner: what runs the commands; None: one of its own.
        progress: told how far it is.
        any_source: whether results of another version of the code are taken as they are.
    """
    started = time.monotonic()
    work = _CellWork(cell, output_dir, resources, runner or CommandRunner(), progress or (lambda *_: None), any_source)
    try:
        with locked(cell.folder) as handles:
            status = work.run(handles)
    except CellBusyError as error:
        return Outcome(cell.name, FAILED, time.monotonic() - started, str(error))
    except (CommandError, OSError, ValueError) as error:
        # Where the whole benchmark was given up, nothing is wrong with the cell.
        status = INTERRUPTED if work.runner.given_up else FAILED
        said = str(error)
        try:
            write_record(cell, status, error=said, attempts=work.attempts, **work.known())
        except OSError as unwritten:
            # On a full disk nothing else could be written either.
            said = f"{said}\nThis is not recorded: {unwritten}"
        return Outcome(cell.name, status, time.monotonic() - started, said)
    return Outcome(cell.name, status, time.monotonic() - started)


@dataclass
class _CellWork:
    cell: Cell
    output_dir: Path
    resources: WorkerResources
    runner: CommandRunner
    progress: OnProgress
    any_source: bool
    attempts: int = 1
    spent: float = 0.0
    """Wall clock of the training, of all attempts."""

    def known(self) -> Dict[str, Any]:
        """What earlier attempts and this one have found out, for the record."""
        record = read_record(self.cell.folder) or {}
        names = ("trained", "seconds_evaluation")
        found = {name: record[name] for name in names if name in record}
        spent = max(self.spent, record.get("seconds_training", 0.0))
        return {**found, "seconds_training": spent} if spent > 0.0 else found

    def run(self, handles: List[int]) -> str:
        cell = self.cell
        if is_finished(cell, self.any_source):
            return "reused"
        trained, begun = is_trained(cell, self.any_source), is_begun(cell, self.any_source)
        earlier = read_record(cell.folder) or {}
        if not is_same(cell, self.any_source):
            set_aside(cell, self.output_dir)
            earlier = {}
        elif not trained and not begun:
            # Half a training from which nothing can go on.
            shutil.rmtree(cell.run_dir, ignore_errors=True)
        if cell.evaluations and earlier and not is_measured_alike(earlier, cell):
            _drop_measurements(cell)
        self.attempts = int(earlier.get("attempts", 0)) + 1
        self.spent = float(earlier.get("seconds_training", 0.0))
        if not trained:
            write_record(cell, STARTED, attempts=self.attempts, seconds_training=self.spent)
            self._train(handles, resume=begun)
            write_record(cell, STARTED, attempts=self.attempts, trained=True, seconds_training=self.spent)
        seconds = self._evaluate(handles)
        write_record(
            cell,
            FINISHED,
            attempts=self.attempts,
            trained=True,
            seconds_training=self.spent,
            seconds_evaluation=seconds,
            step=last_step(cell.run_dir),
            results=self._results(),
            training=self._statistics(),
            versions=_versions(),
            **({"categories": category_names(cell.data)} if cell.evaluations else {}),
        )
        return FINISHED

    def train_command(self, resume: bool) -> Tuple[str, ...]:
        """The ns-train of this cell."""
        cell = self.cell
        name = cell.folder.relative_to(self.output_dir / "cells").as_posix()
        # nerfstudio's folder is OUTPUT/EXPERIMENT/METHOD/TIMESTAMP; the dot leaves the last part out.
        words = ["--data", str(cell.data), "--output-dir", str(self.output_dir / "cells")]
        words += ["--experiment-name", name, "--timestamp", ".", "--vis", "tensorboard"]
        words += ["--logging.local-writer.max-log-size", "0"]
        if resume:
            words += ["--load-dir", str(cell.run_dir / "nerfstudio_models")]
        return (str(console_script("ns-train")), cell.method, *words, *cell.flags, *cell.parser)

    def _train(self, handles: List[int], resume: bool) -> None:
        cell = self.cell
        before = (last_step(cell.run_dir) or 0) if resume else 0
        self.progress("train", before)

        def follow(line: str) -> None:
            step = _STEP_LINE.match(line)
            if step is not None:
                self.progress("train", int(step.group(1)))

        log = next_log(cell.folder, "train")
        started = time.monotonic()
        try:
            self.runner.run(self.train_command(resume), log, follow, self._environment(), handles)
            self._check_trained(log)
        finally:
            self.spent += time.monotonic() - started

    def _check_trained(self, log: Path) -> None:
        """ns-train ends with status 0 also where it was interrupted."""
        step, wanted = last_step(self.cell.run_dir), self.cell.steps
        spent = (self._statistics() or {}).get("cpu_seconds") or 0.0
        by_time = self.cell.cpu_seconds is not None and spent >= self.cell.cpu_seconds
        if step is None or (wanted is not None and step + 1 < wanted and not by_time):
            found = "no checkpoint" if step is None else f"a checkpoint of step {step} of {wanted}"
            raise CommandError(f"ns-train ended before its time, with {found}; the whole log is {log}")

    def _evaluate(self, handles: List[int]) -> float:
        cell = self.cell
        self.progress("evaluate", cell.steps or 0)
        started = time.monotonic()
        for command in evaluate_commands(cell):
            self.runner.run(command, next_log(cell.folder, "eval"), None, self._environment(), handles)
        return time.monotonic() - started

    def _environment(self) -> Mapping[str, str]:
        return self.resources.environment(self.cell.device)

    def _results(self) -> Dict[str, Any]:
        """The averages; of a training across scenes, by the protocol."""
        cell = self.cell
        if not cell.evaluations:
            return _results_in(cell.folder / EVAL)
        return {entry.protocol: _results_in(cell.folder / entry.file) for entry in cell.evaluations}

    def _statistics(self) -> Optional[Dict[str, Any]]:
        """What the training cost; None where the method's trainer does not tell."""
        path = self.cell.run_dir / "train_stats.json"
        if not path.is_file():
            return None
        return read_record_file(path, _COST, "what a training cost").model_dump(exclude_unset=True)


class _Averages(BaseModel):
    results: Dict[str, Any]


class _Cost(BaseModel):
    """train_stats.json; all but the GPU's name are numbers."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Dict[str, Optional[Union[int, float]]]
    gpu_name: Optional[str] = None


_AVERAGES = TypeAdapter(_Averages)
_COST = TypeAdapter(_Cost)


def _results_in(path: Path) -> Dict[str, Any]:
    return read_record_file(path, _AVERAGES, "the averages of an evaluation").results


def _drop_measurements(cell: Cell) -> None:
    """Removes the evaluations of a training across scenes: their rows do not say which scenes and views were asked for,
    so that more than are asked for now would stay in."""
    for pattern in ("eval-*.json*", "eval-*.txt", "pictures-*.json*", "views-*"):
        for path in cell.folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _versions() -> Dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("fewshot-ns", "nerfstudio", "torch", "numpy")}


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evaluate_commands(cell: Cell) -> List[Tuple[str, ...]]:
    """What measures a trained cell, as ns-eval does; each command can be taken up again.

    Args:
        cell: of one scene: one command; of a multi-scene dataset: two for each evaluation.
    """
    if cell.evaluations:
        return [command for entry in cell.evaluations for command in _source_commands(cell, entry)]
    options = cell.evaluation
    words = _given(("--max-views", options.max_views), ("--max-side", options.max_side))
    return [_command(cell, EVAL, *words, *_pictures(cell, VIEWS))]


def _source_commands(cell: Cell, entry: SourceEvaluation) -> List[Tuple[str, ...]]:
    """All test scenes with some source views, then pictures of one scene."""
    options = cell.evaluation
    words = _given(("--max-views", options.max_views), ("--max-scenes", options.max_scenes))
    commands = [_command(cell, entry.file, *words, *entry.flags)]
    if options.pictures:
        words = ("--scenes", cell.pictured_scene, "--max-views", str(options.pictures), *entry.flags)
        commands.append(_command(cell, f"pictures-{entry.protocol}.json", *words, *_pictures(cell, entry.views)))
    return commands


def _pictures(cell: Cell, folder: str) -> Tuple[str, ...]:
    number = cell.evaluation.pictures
    return ("--render-dir", str(cell.folder / folder), "--render-views", str(number)) if number else ()


def _command(cell: Cell, file: str, *words: str) -> Tuple[str, ...]:
    files = ("--load-config", str(cell.run_dir / "config.yml"), "--output-path", str(cell.folder / file))
    metrics = cell.evaluation.metrics
    chosen = () if metrics is None else ("--metrics", *metrics)
    return (str(console_script("ns-fewshot")), "eval", *files, *words, *chosen)


def _given(*flags: Tuple[str, Optional[int]]) -> Tuple[str, ...]:
    """Words of the flags that have a value."""
    return tuple(word for flag, value in flags if value is not None for word in (flag, str(value)))
