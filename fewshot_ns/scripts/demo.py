"""`ns-fewshot demo`: from nothing to a page that shows what a depth prior is worth, in minutes on a plain CPU."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Literal, Tuple

from rich.console import Console

if TYPE_CHECKING:
    from fewshot_ns.scripts.demo_report import VariantResult
    from fewshot_ns.scripts.progress import StageBoard
    from fewshot_ns.synthetic.scene import DemoSceneConfig

METHOD = "sparsenerf-lite"


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
    steps: int = 1000
    """Training steps of each of the two trainings."""
    num_views: int = 3
    """Training views; the LLFF protocol chooses which."""
    width: int = 128
    """Width of the photos in pixels; their height is three quarters of it."""
    frames: int = 40
    """Frames of the video."""
    fps: int = 15
    """Frames per second of the video."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA where there is one."""
    jobs: int = 2
    """How many of the two trainings run at the same time; on a CPU they share the cores."""
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
        from fewshot_ns.scripts.progress import StageBoard
        from fewshot_ns.utils.processes import end_on_termination

        self._check()
        console = Console()
        started = time.monotonic()
        console.print(f"[bold]fewshot_ns demo[/bold] in {self.output_dir}: {self.num_views} photos, two trainings")
        board = StageBoard(console)
        with end_on_termination(), board.showing():
            self._write_scene(board)
            results = self._work(board)
            with board.stage("write the report", 1) as stage:
                page = write_report(self, results)
                stage.finish()
        print_results(results)
        console.print(f"Finished in {time.monotonic() - started:.0f} s. Open [bold]{page}[/bold] in a browser.")

    def _work(self, board: StageBoard) -> List[VariantResult]:
        """Trains, evaluates and renders all variants, `jobs` of them at a time."""
        from fewshot_ns.scripts.demo_work import DemoWork, usable_threads
        from fewshot_ns.utils.processes import CommandRunner

        runner = CommandRunner()
        threads = usable_threads(min(self.jobs, len(VARIANTS))) if self.device_type() == "cpu" else 0
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                futures = [pool.submit(DemoWork(self, variant, board, runner, threads).run) for variant in VARIANTS]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            except BaseException:
                # Also Ctrl-C. The threads end once their commands have.
                runner.end_all()
                raise
            return [future.result() for future in futures]

    def _check(self) -> None:
        for name, least in (("steps", 1), ("num_views", 2), ("width", 32), ("frames", 2), ("fps", 1), ("jobs", 1)):
            if getattr(self, name) < least:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag}: expected at least {least}, got {getattr(self, name)}")

    def scene_config(self) -> DemoSceneConfig:
        """What the scene is made of."""
        from fewshot_ns.synthetic.scene import DemoSceneConfig

        return DemoSceneConfig(width=self.width, height=self.width * 3 // 4)

    def _write_scene(self, board: StageBoard) -> None:
        from fewshot_ns.synthetic.scene import RECORD_NAME, write_demo_scene

        config = self.scene_config()
        if self.force and (self.scene_dir / RECORD_NAME).is_file():
            shutil.rmtree(self.scene_dir)
        with board.stage("render the scene", config.num_views) as stage:
            written = write_demo_scene(self.scene_dir, config, lambda done, total: stage.update(done, total))
            stage.finish("" if written else "done before")

    def train_flags(self, variant: Variant) -> List[str]:
        """Flags of ns-train that decide what is trained; where it goes is added by the caller."""
        flags = [METHOD, "--vis", "tensorboard", "--machine.seed", str(self.seed)]
        flags += ["--machine.device-type", self.device_type(), "--max-num-iterations", str(self.steps)]
        for group in ("field", "planes", "proposal"):
            flags += [f"--optimizers.{group}.scheduler.max-steps", str(self.steps)]
        # The demo evaluates at the end, with ns-eval; what is left out here is time.
        flags += ["--steps-per-save", str(self.steps), "--steps-per-eval-image", "0", "--steps-per-eval-batch", "0"]
        flags += ["--steps-per-eval-all-images", "0", "--logging.local-writer.max-log-size", "0"]
        flags += ["--pipeline.evaluation.download-weights", str(self.download_weights)]
        return [*flags, *variant.flags, "llff-data", "--num-views", str(self.num_views)]

    def device_type(self) -> str:
        """Where the trainings run: cpu or cuda."""
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
