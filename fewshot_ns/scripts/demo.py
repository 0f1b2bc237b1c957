"""`ns-fewshot demo`: from nothing to a page that shows what three photos give, in minutes on a plain CPU."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Literal, Optional, cast

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline
    from rich.console import Console

    from fewshot_ns.bench.report.demo_cells import DemoPath
    from fewshot_ns.bench.results.cells import CellResult
    from fewshot_ns.model_components.splatting.ply import SplatFile
    from fewshot_ns.synthetic.scene import DemoSceneConfig

RECIPE = "demo"


@dataclass
class DemoCommand:
    """Render a small scene, train on three of its images with a depth prior, without one, and as Gaussian splats, and
    show the difference.

    Nothing is downloaded. It is the recipe `demo` of `ns-fewshot bench` with a page of its own: what an earlier run has
    finished is used again, and a training that was interrupted goes on from its last checkpoint.
    """

    output_dir: Path = Path("outputs/demo")
    """Where everything goes; open index.html in it."""
    steps: int = 1000
    """Training steps of each of the three trainings."""
    num_views: int = 3
    """Training views; the LLFF protocol chooses which."""
    width: int = 128
    """Width of the images in pixels; their height is three quarters of it."""
    frames: int = 40
    """Frames of the video."""
    fps: int = 15
    """Frames per second of the video."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA where there is one."""
    jobs: int = 2
    """How many of the three trainings run at the same time; on a CPU they share the cores."""
    seed: int = 42
    """Seed of the trainings."""
    download_weights: bool = False
    """Whether the weights of LPIPS may be downloaded (VGG16, half a gigabyte) where they are not on this machine."""
    force: bool = False
    """Remove what an earlier run has finished and do everything again."""

    @property
    def scene_dir(self) -> Path:
        """Folder of the scene."""
        return self.output_dir / "scene"

    def main(self) -> None:
        """Runs the demo.

        Raises:
            CommandError: a training or its evaluation failed.
            ValueError: the flags make no sense, or the output folder holds other things.
        """
        from rich.console import Console

        from fewshot_ns.bench.report.demo_cells import read_demo
        from fewshot_ns.bench.report.demo_page import result_table, write_demo
        from fewshot_ns.bench.results.cells import read_results
        from fewshot_ns.presentation.tables import print_table
        from fewshot_ns.scripts.bench import BenchCommand
        from fewshot_ns.utils.processes import end_on_termination

        self._check()
        console = Console()
        started = time.monotonic()
        console.print(f"[bold]fewshot_ns demo[/bold] in {self.output_dir}: {self.num_views} images, three trainings")
        with end_on_termination():
            if self.force:
                self._remove_old()
            self._write_scene(console)
            recipe = str(self.write_recipe())
            BenchCommand(recipe, self.output_dir, data=self.output_dir, device=self.device, jobs=self.jobs).main()
            results = read_results(self.output_dir)
            paths: List[DemoPath] = []
            splats: List[Optional[SplatFile]] = []
            for folder, cell in zip(results.folders, results.cells, strict=True):
                trained = _Trained(folder / cell.method, cell, self, console)
                paths.append(trained.path())
                splats.append(trained.splats())
            found = read_demo(results, paths, splats, self.scene_dir, self.scene_config().focal_share)
            page = write_demo(found, self.output_dir, self.fps)
        print_table(result_table(found), "held-out views")
        console.print(f"Finished in {time.monotonic() - started:.0f} s. Open [bold]{page}[/bold] in a browser.")

    def _check(self) -> None:
        for name, least in (("steps", 1), ("num_views", 2), ("width", 32), ("frames", 2), ("fps", 1), ("jobs", 1)):
            if getattr(self, name) < least:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag}: expected at least {least}, got {getattr(self, name)}")

    def _remove_old(self) -> None:
        from fewshot_ns.bench.execution.records import PLAN
        from fewshot_ns.synthetic.scene import RECORD_NAME

        # Only what an earlier demo has written: the folder is the user's.
        if (self.output_dir / PLAN).is_file():
            shutil.rmtree(self.output_dir / "cells", ignore_errors=True)
        if (self.scene_dir / RECORD_NAME).is_file():
            shutil.rmtree(self.scene_dir)

    def scene_config(self) -> DemoSceneConfig:
        """What the scene is made of."""
        from fewshot_ns.synthetic.scene import DemoSceneConfig

        return DemoSceneConfig(width=self.width, height=self.width * 3 // 4)

    def _write_scene(self, console: Console) -> None:
        from rich.progress import Progress

        from fewshot_ns.synthetic.scene import write_demo_scene

        config = self.scene_config()
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("rendering the scene", total=config.num_views)
            written = write_demo_scene(
                self.scene_dir, config, lambda done, total: progress.update(task, completed=done, total=total)
            )
        console.print(f"scene: {'written' if written else 'done before'}", highlight=False)

    def write_recipe(self) -> Path:
        """Writes the recipe with this command's steps, views and seed to the output folder."""
        import yaml

        from fewshot_ns.bench.recipes.yaml_file import find_recipe
        from fewshot_ns.utils.files import write_text

        values = yaml.safe_load(find_recipe(RECIPE).read_text(encoding="utf8"))
        values.update(protocol=f"llff-{self.num_views}", seeds=[self.seed], budget={"steps": self.steps})
        values["scenes"][0]["overrides"]["pipeline.evaluation.download-weights"] = self.download_weights
        path = self.output_dir / "recipe.yaml"
        write_text(path, yaml.safe_dump(values, sort_keys=False))
        return path


class _Trained:
    """What one training has to show: made once for its checkpoint, which is loaded where something is missing."""

    def __init__(self, run: Path, cell: CellResult, command: DemoCommand, console: Console) -> None:
        from fewshot_ns.utils.hashing import file_key

        self.run, self.cell, self.command, self.console = run, cell, command, console
        self._checkpoints = [file_key(path) for path in sorted((run / "nerfstudio_models").glob("step-*.ckpt"))]
        self._loaded: Optional[Pipeline] = None

    def path(self) -> DemoPath:
        """A flight along a spiral."""
        from fewshot_ns.bench.report.demo_cells import load_path, save_path
        from fewshot_ns.utils.hashing import digest

        key, file = digest(self.command.frames, *self._checkpoints), self.run / "demo_path.npz"
        path = load_path(file, key)
        self._say(f"video {self.cell.label}", path is None, "rendering")
        if path is None:
            path = self._render_path()
            save_path(path, file, key)
        return path

    def splats(self) -> Optional[SplatFile]:
        """The Gaussians as a file beside the page, named after the cell; None where the model has none."""
        from fewshot_ns.bench.planning.config_identity import registered_methods
        from fewshot_ns.model_components.splatting.ply import find_splats, write_splats
        from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModel, SparseSplatfactoModelConfig
        from fewshot_ns.utils.hashing import digest

        if not isinstance(registered_methods()[self.cell.method].pipeline.model, SparseSplatfactoModelConfig):
            return None
        key, file = digest(*self._checkpoints), self.command.output_dir / f"{self.cell.label}.ply"
        found = find_splats(file, key)
        self._say(file.name, found is None, "writing")
        if found is None:
            model = cast(SparseSplatfactoModel, self._pipeline().model)
            found = write_splats({**model.gauss_params, "opacities": model.opacities}, file, key)
        return found

    def _say(self, what: str, missing: bool, doing: str) -> None:
        self.console.print(f"{what}: {doing if missing else 'done before'}", highlight=False)

    def _pipeline(self) -> Pipeline:
        import contextlib
        import io

        from fewshot_ns.scripts.runs import load_run

        if self._loaded is None:
            with contextlib.redirect_stdout(io.StringIO()):
                self._loaded = load_run(self.run / "config.yml", test_mode="test")
        return self._loaded

    def _render_path(self) -> DemoPath:
        from rich.progress import Progress

        from fewshot_ns.bench.report.demo_cells import DemoPath
        from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager
        from fewshot_ns.presentation.video import render_path
        from fewshot_ns.scripts.camera_path import PathOptions, build_camera_path
        from fewshot_ns.scripts.video import path_cameras

        pipeline = self._pipeline()
        manager = cast(FewShotDataManager, pipeline.datamanager)
        options = PathOptions(kind="llff-spiral", frames=self.command.frames, rotations=1.0)
        training = manager.train_dataset
        cameras, _ = path_cameras(build_camera_path(options, training.cameras, manager.fewshot_metadata))
        with Progress(console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task("rendering the video", total=len(cameras))
            frames = render_path(pipeline, cameras, lambda: progress.advance(task))
        return DemoPath(frames, [photo.name for photo in training.photos])
