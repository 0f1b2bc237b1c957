"""The demo's work on one of its two trainings: train, evaluate, render, each with the host's own commands."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_ns.evaluation.records.ledger import ledger_path, read_rows
from fewshot_ns.scripts.demo_renders import depth_errors, load_renders
from fewshot_ns.scripts.demo_report import VariantResult
from fewshot_ns.scripts.progress import StageBoard, StageRecord, content_key, source_key
from fewshot_ns.utils.errors import CommandError
from fewshot_ns.utils.processes import CommandRunner, console_script

if TYPE_CHECKING:
    from fewshot_ns.scripts.demo import DemoCommand, Variant

_STEP_LINE = re.compile(r"^\s*(\d+) \(\d+\.\d+%\)")
"""What ns-train prints for a logged step."""
_FRAME_LINE = re.compile(r"^frame (\d+)/(\d+)$")
"""What the renderer prints."""


@dataclass(frozen=True)
class DemoWork:
    """Everything that is done for one variant."""

    command: DemoCommand
    """The demo."""
    variant: Variant
    """Which training."""
    board: StageBoard
    """Where progress is shown."""
    runner: CommandRunner
    """What runs the commands."""
    threads: int
    """Threads of each command; 0 leaves it to the libraries."""

    @property
    def run_dir(self) -> Path:
        """Folder of the training, as ns-train lays it out."""
        return self.command.run_dir(self.variant)

    def run(self) -> VariantResult:
        """Does what has not been done before.

        Raises:
            CommandError: one of the commands failed, or the demo was given up.
        """
        self._train()
        self._evaluate()
        renders = load_renders(self._render())
        return VariantResult(
            variant=self.variant,
            metrics=json.loads((self.run_dir / "metrics.json").read_text())["results"],
            images=read_rows(ledger_path(self.run_dir, self.command.steps - 1)),
            renders=renders,
            depth_errors=depth_errors(renders, self.command.scene_dir, self.command.scene_config().focal_share),
            seconds=json.loads(self.train_record().path.read_text())["seconds"],
        )

    def train_record(self) -> StageRecord:
        """The record of the training."""
        command = self.command
        key = content_key(source_key(), command.scene_config().content_hash(), command.train_flags(self.variant))
        return StageRecord(self.run_dir / "demo_train.json", key, (self.run_dir / "config.yml",))

    def _record(self, name: str, output: str, *parts: object) -> StageRecord:
        """The record of a later part, which lies in the folder of the training and vanishes with it."""
        key = content_key(self.train_record().key, name, *parts)
        return StageRecord(self.run_dir / f"demo_{name}.json", key, (self.run_dir / output,))

    def _is_done(self, title: str, record: StageRecord) -> bool:
        done = None if self.command.force else record.read()
        if done is not None:
            self.board.reused(title, done["seconds"])
        return done is not None

    def _environment(self) -> dict[str, str]:
        # Two trainings at a time share the cores evenly instead of getting in each other's way.
        return {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}

    def _log(self, what: str) -> Path:
        return self.command.output_dir / "logs" / f"{what}-{self.variant.name}.log"

    def _train(self) -> None:
        title, record, steps = f"train {self.variant.title}", self.train_record(), self.command.steps
        if self._is_done(title, record):
            return
        flags, log = self.command.train_flags(self.variant), self._log("train")
        place = ["--data", str(self.command.scene_dir), "--output-dir", str(self.command.output_dir / "runs")]
        place += ["--experiment-name", "demo", "--timestamp", self.variant.name]
        arguments = [str(console_script("ns-train")), flags[0], *place, *flags[1:]]
        shutil.rmtree(self.run_dir, ignore_errors=True)
        started = time.monotonic()
        try:
            with self.board.stage(title, steps) as stage:

                def follow(line: str) -> None:
                    step = _STEP_LINE.match(line)
                    if step is not None:
                        stage.update(int(step.group(1)))

                self.runner.run(arguments, log, follow, self._environment())
                checkpoint = self.run_dir / "nerfstudio_models" / f"step-{steps - 1:09d}.ckpt"
                if not checkpoint.is_file():
                    raise CommandError(f"ns-train ended without {checkpoint}; the log is {log}")
                stage.finish()
            record.write(time.monotonic() - started, command=arguments)
        except BaseException:
            # Also Ctrl-C: half a training is of no use to anybody, and a later run must not take it for a whole one.
            shutil.rmtree(self.run_dir, ignore_errors=True)
            raise

    def _evaluate(self) -> None:
        title, record = f"evaluate {self.variant.title}", self._record("eval", "metrics.json")
        if self._is_done(title, record):
            return
        arguments = [str(console_script("ns-eval")), "--load-config", str(self.run_dir / "config.yml")]
        arguments += ["--output-path", str(self.run_dir / "metrics.json")]
        started = time.monotonic()
        with self.board.stage(title, 1) as stage:
            self.runner.run(arguments, self._log("eval"), None, self._environment())
            stage.finish()
        record.write(time.monotonic() - started)

    def _render(self) -> Path:
        title, file = f"render {self.variant.title}", self.run_dir / "demo_renders.npz"
        record = self._record("render", file.name, self.command.frames)
        if self._is_done(title, record):
            return file
        arguments = [sys.executable, "-m", "fewshot_ns.scripts.demo_renders", "--output", str(file)]
        arguments += ["--load-config", str(self.run_dir / "config.yml"), "--frames", str(self.command.frames)]
        started = time.monotonic()
        with self.board.stage(title, self.command.frames) as stage:

            def follow(line: str) -> None:
                frame = _FRAME_LINE.match(line)
                if frame is not None:
                    stage.update(int(frame.group(1)), int(frame.group(2)))

            self.runner.run(arguments, self._log("render"), follow, self._environment())
        record.write(time.monotonic() - started)
        return file


def usable_threads(jobs: int) -> int:
    """Threads for each of some commands that run at the same time, so that together they fill the cores."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)
