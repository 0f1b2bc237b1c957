"""`ns-fewshot demo`: from nothing to a page that shows what a depth prior is worth, in minutes on a plain CPU."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Literal, Tuple

from rich.console import Console

from fewshot_ns.scripts.camera_path import PathOptions
from fewshot_ns.scripts.errors import CommandError

if TYPE_CHECKING:
    from fewshot_ns.demo.scene import DemoSceneConfig
    from fewshot_ns.scripts.demo_report import VariantResult
    from fewshot_ns.scripts.stages import StageBoard, StageRecord

METHOD = "sparsenerf-lite"
_STEP_LINE = re.compile(r"^\s*(\d+) \(\d+\.\d+%\)")
"""What ns-train prints for a logged step."""


@dataclass(frozen=True)
class Variant:
    """One of the two trainings that the demo compares."""

    name: str
    """Name of its run folder."""
    title: str
    """Name for people."""
    flags: Tuple[str, ...]
    """Flags of ns-train beside those that both share."""


VARIANTS = (
    Variant("with-prior", "with the depth prior", ("--pipeline.depth.enabled", "True")),
    Variant("without-prior", "without the depth prior", ("--pipeline.depth.enabled", "False")),
)


@dataclass
class DemoCommand:
    """Render a small scene, train on three of its photos with and without a depth prior, and show the difference.

    Nothing is downloaded. Parts that an earlier run has finished with the same configuration are used again.
    """

    output_dir: Path = Path("outputs/demo")
    """Where everything goes; open index.html in it."""
    steps: int = 1500
    """Training steps of each of the two trainings."""
    num_views: int = 3
    """Training views; the LLFF protocol chooses which."""
    width: int = 128
    """Width of the photos in pixels; their height is three quarters of it."""
    frames: int = 60
    """Frames of the video."""
    fps: int = 20
    """Frames per second of the video."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA where there is one."""
    seed: int = 42
    """Seed of both trainings."""
    download_weights: bool = False
    """Whether the weights of LPIPS may be downloaded (VGG16, half a gigabyte) where they are not on this machine."""
    force: bool = False
    """Do everything anew."""

    @property
    def scene_dir(self) -> Path:
        """Folder of the scene."""
        return self.output_dir / "scene"

    def run_dir(self, variant: Variant) -> Path:
        """Folder of a training, as ns-train lays it out."""
        return self.output_dir / "runs" / "demo" / METHOD / variant.name

    def main(self) -> None:
        """Runs the demo.

        Raises:
            CommandError: one of the host's commands failed.
            ValueError: the flags make no sense, or the output folder holds other things.
        """
        from fewshot_ns.scripts.demo_report import print_results, write_report
        from fewshot_ns.scripts.processes import end_on_termination
        from fewshot_ns.scripts.stages import StageBoard

        self._check()
        # Bound to the present stdout: what the host prints while it renders goes to a log.
        console = Console(file=sys.stdout)
        started = time.monotonic()
        console.print(
            f"[bold]fewshot_ns demo[/bold] in {self.output_dir}: one scene, {self.num_views} photos, two trainings"
        )
        board = StageBoard(console)
        with end_on_termination(), board.showing():
            self._write_scene(board)
            for variant in VARIANTS:
                self._train(board, variant)
            for variant in VARIANTS:
                self._evaluate(board, variant)
            results = [self._result(board, variant) for variant in VARIANTS]
            with board.stage("write the report", 1) as stage:
                page = write_report(self, results)
                stage.finish()
        print_results(results)
        console.print(f"Finished in {time.monotonic() - started:.0f} s. Open [bold]{page}[/bold] in a browser.")

    def _check(self) -> None:
        for name, least in (("steps", 1), ("num_views", 2), ("width", 32), ("frames", 2), ("fps", 1)):
            if getattr(self, name) < least:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag}: expected at least {least}, got {getattr(self, name)}")

    def scene_config(self) -> DemoSceneConfig:
        """What the scene is made of."""
        from fewshot_ns.demo.scene import DemoSceneConfig

        return DemoSceneConfig(width=self.width, height=self.width * 3 // 4)

    def _write_scene(self, board: StageBoard) -> None:
        from fewshot_ns.demo.scene import RECORD_NAME, write_demo_scene

        config = self.scene_config()
        if self.force and (self.scene_dir / RECORD_NAME).is_file():
            shutil.rmtree(self.scene_dir)
        with board.stage("render the scene", config.num_views) as stage:
            written = write_demo_scene(self.scene_dir, config, lambda done, total: stage.update(done, total))
            stage.finish("" if written else "done before")

    def train_record(self, variant: Variant) -> StageRecord:
        """The record of a training."""
        from fewshot_ns.scripts.stages import StageRecord, content_key, source_key

        key = content_key(source_key(), self.scene_config().content_hash(), self._train_flags(variant))
        return StageRecord(self.run_dir(variant) / "demo_train.json", key, (self.run_dir(variant) / "config.yml",))

    def evaluation_record(self, variant: Variant) -> StageRecord:
        """The record of an evaluation, which lies in the folder of its training and vanishes with it."""
        from fewshot_ns.scripts.stages import StageRecord, content_key

        key = content_key(self.train_record(variant).key, "ns-eval")
        return StageRecord(self.run_dir(variant) / "demo_eval.json", key, (self.run_dir(variant) / "metrics.json",))

    def _train_flags(self, variant: Variant) -> List[str]:
        """Everything that decides what is trained; where it goes is added by the caller."""
        flags = [METHOD, "--vis", "tensorboard", "--machine.seed", str(self.seed)]
        flags += ["--machine.device-type", self._device_type(), "--max-num-iterations", str(self.steps)]
        for group in ("field", "proposal"):
            flags += [f"--optimizers.{group}.scheduler.max-steps", str(self.steps)]
        # The demo evaluates at the end, with ns-eval; what is left out here is time.
        flags += ["--steps-per-save", str(self.steps), "--steps-per-eval-image", "0", "--steps-per-eval-batch", "0"]
        flags += ["--steps-per-eval-all-images", "0", "--logging.local-writer.max-log-size", "0"]
        flags += ["--pipeline.evaluation.download-weights", str(self.download_weights)]
        return [*flags, *variant.flags, "llff-data", "--num-views", str(self.num_views)]

    def _device_type(self) -> str:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def _train(self, board: StageBoard, variant: Variant) -> None:
        from fewshot_ns.scripts.processes import host_command, run_logged

        title, record, folder = f"train {variant.title}", self.train_record(variant), self.run_dir(variant)
        done = None if self.force else record.read()
        if done is not None:
            board.reused(title, done["seconds"])
            return
        flags = self._train_flags(variant)
        place = ["--data", str(self.scene_dir), "--output-dir", str(self.output_dir / "runs")]
        place += ["--experiment-name", "demo", "--timestamp", variant.name]
        command = [str(host_command("ns-train")), flags[0], *place, *flags[1:]]
        log = self.output_dir / "logs" / f"train-{variant.name}.log"
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        try:
            with board.stage(title, self.steps) as stage:

                def follow(line: str) -> None:
                    step = _STEP_LINE.match(line)
                    if step is not None:
                        stage.update(int(step.group(1)))

                run_logged(command, log, follow)
                checkpoint = folder / "nerfstudio_models" / f"step-{self.steps - 1:09d}.ckpt"
                if not checkpoint.is_file():
                    raise CommandError(f"ns-train ended without {checkpoint}; the log is {log}")
                stage.finish()
            record.write(time.monotonic() - started, command=command)
        except BaseException:
            # Also Ctrl-C: half a training is of no use to anybody, and a later run must not take it for a whole one.
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _evaluate(self, board: StageBoard, variant: Variant) -> None:
        from fewshot_ns.scripts.processes import host_command, run_logged

        title, record = f"evaluate {variant.title}", self.evaluation_record(variant)
        done = None if self.force else record.read()
        if done is not None:
            board.reused(title, done["seconds"])
            return
        folder = self.run_dir(variant)
        command = [str(host_command("ns-eval")), "--load-config", str(folder / "config.yml")]
        command += ["--output-path", str(folder / "metrics.json")]
        started = time.monotonic()
        with board.stage(title, 1) as stage:
            run_logged(command, self.output_dir / "logs" / f"eval-{variant.name}.log")
            stage.finish()
        record.write(time.monotonic() - started)

    def _result(self, board: StageBoard, variant: Variant) -> VariantResult:
        """Renders a training's pictures, or takes them from an earlier run, and collects what was measured."""
        from fewshot_ns.evaluation.ledger import ledger_path, read_rows
        from fewshot_ns.scripts.demo_renders import depth_errors, load_renders, render_demo, save_renders
        from fewshot_ns.scripts.demo_report import VariantResult
        from fewshot_ns.scripts.stages import StageRecord, content_key

        folder, title = self.run_dir(variant), f"render {variant.title}"
        options = PathOptions(kind="llff-spiral", frames=self.frames, fps=float(self.fps), rotations=1.0)
        training = self.train_record(variant)
        key = content_key(training.key, asdict(options))
        file = folder / "demo_renders.npz"
        record = StageRecord(folder / "demo_renders.json", key, (file,))
        done = None if self.force else record.read()
        if done is not None:
            board.reused(title, done["seconds"])
        else:
            started = time.monotonic()
            with board.stage(title, self.frames) as stage:
                log = self.output_dir / "logs" / f"render-{variant.name}.log"
                renders = render_demo(
                    folder / "config.yml", options, log, lambda total: stage.update(0, total), stage.advance
                )
                save_renders(renders, file)
            record.write(time.monotonic() - started)
        renders = load_renders(file)
        return VariantResult(
            variant=variant,
            metrics=json.loads((folder / "metrics.json").read_text())["results"],
            images=read_rows(ledger_path(folder, self.steps - 1)),
            renders=renders,
            depth_errors=depth_errors(renders, self.scene_dir, self.scene_config().focal_share),
            seconds=(training.read() or {})["seconds"],
        )
