"""`ns-fewshot render-depth`: planar depth of a run as 16-bit PNG in millimetres and as EXR, for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple

from fewshot_ns.evaluation.metrics.config import EvaluatedSplit

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
    from fewshot_ns.presentation.depth_files import FileWorld, PlanarDepth


@dataclass
class RenderDepthCommand:
    """Render planar depth of a run: 16-bit PNG in millimetres and EXR in metres, each with a depth.json that says what
    the numbers mean and where each camera stands.

    Where the scene has true depth (mvsnet-dtu-data) or depth maps of known scale, those of the rendered views are
    written beside it.
    """

    load_config: Path
    """config.yml of the run, or a folder with one run in it."""
    output: Optional[Path] = None
    """Folder to write png, exr and, of the scene's own maps, scene-png and scene-exr into; None: renders/depth in the
    folder of the run."""
    best: bool = False
    """Whether the best checkpoint is rendered, which --keep-best of a training has kept, instead of the last one."""
    split: EvaluatedSplit = "held-out"
    """Views to render: those held out, or those that the run was trained on."""
    views: Optional[Tuple[int, ...]] = None
    """Only these, by their index in the scene; None: all."""
    camera_path: Optional[Path] = None
    """JSON of a camera path instead of views (ns-fewshot camera-path)."""
    formats: Tuple[Literal["png", "exr"], ...] = ("png", "exr")
    """png: 16 bits, millimetres; exr: float32, metres; in both 0 is unknown."""
    metres_per_unit: Optional[float] = None
    """Metres in a unit of the scene's own files, 0.001 where these are millimetres; None: 1, as depth sensors have it.
    Where the files have no unit, as after COLMAP, a unit is then called a metre."""
    min_accumulation: float = 0.5
    """Pixels of less opacity have no depth."""

    def main(self) -> None:
        """Renders and writes.

        Raises:
            FileNotFoundError: no run, no checkpoint, or no camera path.
            ValueError: flags that make no sense, an unknown view, or a run of a method of another package.
        """
        from rich.console import Console

        from fewshot_ns.presentation.depth_files import advice, write_depths
        from fewshot_ns.scripts.runs import find_config, load_run

        if self.metres_per_unit is not None and not 0 < self.metres_per_unit < float("inf"):
            raise ValueError(f"--metres-per-unit: expected a positive number, got {self.metres_per_unit}")
        if not self.formats:
            raise ValueError("--formats: expected png, exr or both, got none")
        if self.camera_path is not None and (self.views is not None or self.split != "held-out"):
            raise ValueError("--camera-path: its cameras are rendered; leave out --views and --split")
        config = find_config(self.load_config)
        target = self.output or config.parent / "renders" / "depth"
        pipeline: Any = load_run(
            config, "test" if self.camera_path is None else "inference", _measure_held_out, self.best
        )
        world = self._world(pipeline)
        if self.camera_path is not None:
            rendered, known = self._path_depths(pipeline, self.camera_path, world), []
        else:
            rendered, known = self._view_depths(pipeline, world)
        console = Console()
        for prefix, depths, origin in (("", rendered, f"rendered by {config}"), ("scene-", known, "the scene's maps")):
            for kind in self.formats if depths else ():
                folder = target / f"{prefix}{kind}"
                written = write_depths(folder, kind, depths, world, origin=origin)
                console.print(f"{folder}: {len(depths)} maps and depth.json", highlight=False, soft_wrap=True)
                words = advice(written)
                if words is not None:
                    console.print(f"[yellow]{words}[/yellow]", highlight=False, soft_wrap=True)

    def _world(self, pipeline: Any) -> FileWorld:
        from fewshot_ns.models.fewshot_model import FewShotModel
        from fewshot_ns.presentation.depth_files import FileWorld

        # Others call another thing depth: splatfacto's is planar.
        if not isinstance(pipeline.model, FewShotModel):
            raise ValueError(f"expected a run of a method of this package, found {type(pipeline.model).__name__}")
        outputs = pipeline.datamanager.train_dataparser_outputs
        transform = outputs.dataparser_transform.double().numpy()
        return FileWorld(transform, float(outputs.dataparser_scale), self.metres_per_unit or 1.0)

    def _view_depths(self, pipeline: Any, world: FileWorld) -> Tuple[List[PlanarDepth], List[PlanarDepth]]:
        """Rendered depth of the views, and that of the scene's own maps where it has some of known scale."""
        from fewshot_ns.evaluation.runners.views import choose_views, scene_view_indices
        from fewshot_ns.presentation.depth_files import PlanarDepth, camera_about, map_names

        manager = pipeline.datamanager
        if self.split == "held-out" and not manager.holds_out:
            raise ValueError("nothing is held out: every view trains; give --split train, or --camera-path")
        dataset: FewShotDataset = manager.train_dataset if self.split == "train" else manager.eval_dataset
        indices = scene_view_indices(dataset)
        names = map_names(dataset.image_filenames)
        rendered: List[PlanarDepth] = []
        known: List[PlanarDepth] = []
        for index in choose_views(indices, self.views, None):
            camera = dataset.cameras[index : index + 1]
            about = {"image": dataset.image_filenames[index].name, "view_index": int(indices[index])}
            about |= camera_about(camera, world)
            rendered.append(PlanarDepth(names[index], self._render(pipeline, camera), about))
            measured = dataset.true_depth(index)
            if measured is not None:
                source = {"read_from": str((dataset.fewshot.true_depth_filenames or ())[index])}
                known.append(PlanarDepth(names[index], measured, {**about, **source}))
            elif dataset.has_metric_depth(index):
                files = dataset.fewshot.depth_prior_filenames
                source = {} if files is None else {"read_from": str(files[index])}
                known.append(PlanarDepth(names[index], dataset.metric_depth(index).z_depth, {**about, **source}))
        return rendered, known

    def _path_depths(self, pipeline: Any, path: Path, world: FileWorld) -> List[PlanarDepth]:
        from fewshot_ns.presentation.depth_files import PlanarDepth, camera_about
        from fewshot_ns.scripts.video import path_cameras, read_camera_path

        cameras, _ = path_cameras(read_camera_path(path))
        views = [cameras[index : index + 1] for index in range(len(cameras))]
        return [
            PlanarDepth(f"{index:05d}", self._render(pipeline, camera), camera_about(camera, world))
            for index, camera in enumerate(views)
        ]

    def _render(self, pipeline: Any, camera: Cameras) -> Any:
        import torch

        from fewshot_ns.presentation.depth_files import planar_depth

        with torch.no_grad():
            outputs: Dict[str, Any] = pipeline.model.get_outputs_for_camera(camera.to(pipeline.device))
        return planar_depth(outputs, camera.to("cpu"), self.min_accumulation)


def _measure_held_out(config: Any) -> None:
    """Lets `eval_dataset` hold the held-out views, also of runs that measure training views."""
    if hasattr(config.pipeline, "evaluation"):
        config.pipeline.evaluation.split = "held-out"
