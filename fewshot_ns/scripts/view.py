"""`ns-fewshot view`: a trained run, or a released checkpoint, live in the browser."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Tuple

import tyro

if TYPE_CHECKING:
    from nerfstudio.data.datasets.base_dataset import InputDataset
    from nerfstudio.pipelines.base_pipeline import Pipeline


@dataclass
class ViewCommand:
    """Show a trained run, or a released checkpoint of DietNeRF or pixelNeRF, live in the browser.

    The folder of a run is enough, also where it was moved and its photos are gone. Only this machine reaches the page.
    Ctrl-C ends it. For generalizable methods the dataparser's name and flags may come last:
    ns-fewshot view RUN --source-views 0 8 --data DIR llff-data --downscale-factor 4.
    """

    source: tyro.conf.Positional[Path]
    """Folder or config.yml of a run, or a file of released weights."""
    dataparser: tyro.conf.Positional[str] = "auto"
    """Generalizable methods: name of the dataparser of --data, before its own flags; auto goes by the scene's files."""
    data: Optional[Path] = None
    """Where the scene of the run lies now; for generalizable methods any scene, or set of scenes. None: where it lay at
    training; where it is gone, the cameras that the run has kept."""
    scene: Optional[str] = None
    """Generalizable methods: name of the scene in a set of many; None: the run's, or the first test scene of --data."""
    source_views: Tuple[int, ...] = ()
    """Generalizable methods: views that are looked at in --data or --scene; none: as the run was configured."""
    method: Optional[str] = None
    """Method of released weights (dietnerf, pixelnerf-dtu, matchnerf, ...); None: by what the file holds."""
    host: str = "127.0.0.1"
    """Address on which the page is served; 0.0.0.0: everybody who reaches this machine may use it, and through it read
    files that you can read."""
    port: Optional[int] = None
    """Port; None: the first free one from 7007 on."""
    dataparser_arguments: tyro.conf.Suppress[Tuple[str, ...]] = ()
    """The dataparser's flags, set by `ns-fewshot`."""

    def main(self) -> None:
        """Loads the model and serves the page until Ctrl-C.

        Raises:
            FileNotFoundError: no run, no checkpoint, or no scene.
            ValueError: the flags or files do not allow it.
        """
        import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
        from rich.console import Console

        from fewshot_ns.viewer.serving import RunningViewer, free_port, is_local

        console = Console()
        # Before a model is loaded, which may take a while.
        port = free_port(self.host, self.port)
        if not is_local(self.host):
            console.print(
                f"[yellow]--host {self.host}: whoever reaches this machine can use the page, and the web server behind "
                "it may give out any file that you can read.[/yellow]",
                soft_wrap=True,
            )
        pipeline, folder, step = self._load()
        cameras = known_cameras(pipeline)
        start, distance = _start(pipeline, cameras)
        viewer = RunningViewer(pipeline, self.host, port, folder, cameras, start, distance, step)
        try:
            what = "no camera is known"
            if cameras is not None:
                what = f"{len(cameras)} cameras, {viewer.pictures} with photos"
            console.print(
                f"Showing {self.source} ({what}) at {viewer.address}  Ctrl-C ends it.", highlight=False, soft_wrap=True
            )
            while True:
                time.sleep(3600)
        finally:
            viewer.stop()

    def _load(self) -> Tuple[Pipeline, Path, int]:
        """The model, the folder that belongs to it, and its training step."""
        from fewshot_ns.scripts.runs import find_config, released_pipeline

        if self.source.is_dir() or self.source.suffix in (".yml", ".yaml") or not self.source.exists():
            if self.method is not None:
                raise ValueError(f"--method {self.method}: {self.source} is a run, which knows its own; leave it out")
            config_path = find_config(self.source)
            pipeline = self._load_run(config_path)
            return pipeline, config_path.resolve().parent, getattr(pipeline, "loaded_step", None) or 0
        pipeline = released_pipeline(self.source, self.method, self._retargeted if self._names_scene else None)
        return pipeline, self.source.resolve().parent, 0

    @property
    def _names_scene(self) -> bool:
        return self.data is not None or self.scene is not None or bool(self.source_views)

    def _load_run(self, config_path: Path) -> Pipeline:
        from fewshot_ns.scripts.runs import load_run, load_run_config
        from fewshot_ns.scripts.video import is_generalizable

        if is_generalizable(config_path):
            if self._names_scene:
                return load_run(config_path, "inference", self._retargeted)
            scenes: Any = load_run_config(config_path).pipeline.datamanager
            data = Path(scenes.data or scenes.dataparser.data)
            if not data.exists():
                raise FileNotFoundError(
                    f"{data}: expected the scenes of {config_path.parent}, found nothing; the method renders from "
                    "photos of a scene, so give them by --data DIR: these scenes where they lie now, or any other"
                )
            return load_run(config_path, "inference")
        if self.scene is not None or self.source_views or self.dataparser != "auto":
            raise ValueError("--scene, --source-views and a dataparser's name are for generalizable methods")
        return load_run(config_path, "inference", self._moved)

    def _moved(self, config: Any) -> None:
        """Lets a run find its scene where --data says."""
        if self.data is None:
            return
        if not self.data.exists():
            raise FileNotFoundError(f"{self.data}: expected the scene of the run (--data), found nothing")
        manager = config.pipeline.datamanager
        manager.data = self.data
        if hasattr(manager, "dataparser"):
            manager.dataparser.data = self.data

    def _retargeted(self, config: Any) -> None:
        """Points a generalizable method at the scene that the flags name."""
        from fewshot_ns.scripts.retarget import RetargetCommand

        command = RetargetCommand(
            load_config=self.source,
            output=self.source.parent,
            dataparser=self.dataparser,
            data=self.data,
            scene=self.scene,
            source_views=self.source_views,
            dataparser_arguments=self.dataparser_arguments,
        )
        retargeted = command.retargeted(config)
        command.check(retargeted)
        config.pipeline.datamanager = retargeted.pipeline.datamanager


def known_cameras(pipeline: Pipeline) -> Optional[InputDataset]:
    """The training views of a loaded model; None where their cameras are made up, for want of data."""
    from fewshot_ns.data.dataparsers.single.stored import StoredSceneDataParserConfig

    dataset = pipeline.datamanager.train_dataset
    parser = getattr(pipeline.datamanager.config, "dataparser", None)
    made_up = isinstance(parser, StoredSceneDataParserConfig) and parser.content is not None
    return None if made_up else dataset


def _start(pipeline: Pipeline, cameras: Optional[InputDataset]) -> Tuple[Any, float]:
    """Pose (3, 4) at which a page begins, that of the first known camera or of the sliders, and its distance from
    what it looks at."""
    from fewshot_ns.viewer.sphere_controls import SphereControls

    controls = getattr(pipeline, "sphere", None)
    on_sphere = isinstance(controls, SphereControls)
    distance = float(controls.radius.value) if on_sphere else 1.0
    if cameras is not None:
        return cameras.cameras.camera_to_worlds[0].double().cpu().numpy(), distance
    return (controls.pose if on_sphere else None), distance
