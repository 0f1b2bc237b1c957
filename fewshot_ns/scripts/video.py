"""`ns-fewshot video`: colour and depth side by side along a camera path, or images on disk, as mp4 and GIF."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import tyro

from fewshot_ns.scripts.camera_path import PathOptions, build_camera_path

if TYPE_CHECKING:
    import numpy as np
    from nerfstudio.cameras.cameras import Cameras

    from fewshot_ns.data.multiscene.active import ActiveScene

SOURCE_KINDS = ("interpolate", "spiral")
"""Kinds of paths that are made from source views, and rendered from these alone."""


@dataclass
class SceneVideoOptions:
    """Options of generalizable methods."""

    scene: Optional[str] = None
    """Name of the scene; None: the run's active one."""
    source_views: Tuple[int, ...] = ()
    """Source views by their index in the scene; none: as the run was configured."""
    target_view: Optional[int] = None
    """Where source views are chosen by camera, the paths interpolate and spiral take those of this view; None: those of
    the first evaluated view."""
    strip: bool = True
    """Whether the source images are shown at the left of each frame."""

    def any(self) -> bool:
        """Whether a flag is given."""
        return self != SceneVideoOptions()


@dataclass
class VideoCommand(PathOptions):
    """Render a trained run along a camera path: colour | depth, as mp4 and as GIF; or make these of images on disk.

    The colours of the depth mean the same in all frames: blue is near, red is far. The folder of the run is enough,
    also where it was moved and the images are gone.
    """

    load_config: Optional[Path] = None
    """config.yml of a trained run, or a folder with one run."""
    best: bool = False
    """Whether the best checkpoint is rendered, which --keep-best of a training has kept, instead of the last one."""
    weights: Optional[Path] = None
    """Instead of a run: a checkpoint of one of NeRF's synthetic scenes, as --pipeline.initial-weights takes it (of
    DietNeRF also the released ones)."""
    images: Optional[Path] = None
    """Instead of a run: folder of images, which become the frames as they are, in natural order (9 before 10)."""
    method: str = "dietnerf"
    """Method of that checkpoint."""
    camera_path: Optional[Path] = None
    """JSON of a path (ns-fewshot camera-path, or the viewer's export); the flags of the path then do not count."""
    output: Optional[Path] = None
    """mp4 to write, and the GIF with the same name; None: renders/video.mp4 in the folder of the run, or next to the
    weights or the folder of images."""
    forth_and_back: bool = False
    """Whether the video plays the path forth and back, as depth-mipnerf's videos do."""
    gif: bool = True
    """Whether the GIF is also written."""
    save_frames: bool = False
    """Whether each frame is also written as a PNG, in a folder named like the video."""
    min_height: int = 240
    """Smaller frames are enlarged by a whole factor, to at least this many rows."""
    generalizable: tyro.conf.OmitArgPrefixes[SceneVideoOptions] = field(default_factory=SceneVideoOptions)
    """Options of generalizable methods."""

    def main(self) -> None:
        """Renders and writes the video.

        Raises:
            FileNotFoundError: the run, its scene or the path is not there.
            ValueError: the flags, the path or the scene do not allow it.
        """
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from fewshot_ns.presentation.pictures import shared_depth_range
        from fewshot_ns.presentation.video import render_path, rgb_beside_depth, with_strip
        from fewshot_ns.scripts.runs import checkpoint_pipeline, find_config, load_run

        if sum(source is not None for source in (self.load_config, self.weights, self.images)) != 1:
            raise ValueError(
                "expected either a run (--load-config), a checkpoint (--weights) or a folder of images (--images)"
            )
        if self.best and self.load_config is None:
            raise ValueError("--best: for a run (--load-config); a checkpoint or a folder of images is what it is")
        if self.images is not None:
            self._main_of_images(self.images)
            return
        if self.load_config is not None:
            config_path = find_config(self.load_config)
            target = self.output or config_path.parent / "renders" / "video.mp4"
        else:
            config_path = None
            target = self.output or Path(f"{self.weights}.mp4")
        _check_target(target)
        path = None if self.camera_path is None else read_camera_path(self.camera_path)
        active = None
        if config_path is not None and is_generalizable(config_path):
            pipeline = load_run(config_path, test_mode="inference", best=self.best)
            active = show_scene(pipeline, self.generalizable, self.kind)
            path = path or scene_camera_path(self, pipeline.datamanager, active)
        elif self.generalizable.any():
            raise ValueError("--scene, --source-views, --target-view and --no-strip are for generalizable methods")
        elif config_path is not None:
            path = path or self._run_camera_path(config_path)
            pipeline = load_run(config_path, test_mode="inference", best=self.best)
        else:
            assert self.weights is not None
            pipeline = checkpoint_pipeline(self.method, self.weights)
            manager: Any = pipeline.datamanager
            path = path or build_camera_path(self, manager.train_dataset.cameras, manager.fewshot_metadata)
        cameras, fps = path_cameras(path)
        columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            task = progress.add_task("", total=len(cameras))
            rendered = render_path(pipeline, cameras, lambda: progress.advance(task))
        frames = rgb_beside_depth(rendered, *shared_depth_range(rendered.depth), self.min_height)
        if active is not None and self.generalizable.strip:
            strips = source_strips(pipeline, active, cameras.camera_to_worlds)
            frames = [with_strip(frame, strip) for frame, strip in zip(frames, strips, strict=True)]
        self._write(frames, target, fps)

    def _main_of_images(self, folder: Path) -> None:
        """Makes the video of images on disk."""
        from fewshot_ns.presentation.video import frames_of_images

        path_flags = PathOptions(**{each.name: vars(self)[each.name] for each in fields(PathOptions)})
        of_renders = self.camera_path is not None or self.generalizable.any()
        if of_renders or path_flags != PathOptions(fps=self.fps):
            raise ValueError("--images: the frames are there already; leave out flags of paths and of scenes")
        target = self.output or folder.with_name(f"{folder.resolve().name}.mp4")
        _check_target(target)
        if self.fps <= 0:
            raise ValueError(f"--fps: expected a positive number, got {self.fps}")
        self._write(frames_of_images(folder, self.min_height), target, self.fps)

    def _write(self, frames: List[np.ndarray], target: Path, fps: float) -> None:
        from rich.console import Console

        from fewshot_ns.presentation.pictures import save_png
        from fewshot_ns.presentation.video import write_video

        if self.forth_and_back:
            frames = [*frames, *frames[-2:0:-1]]
        files = [target, target.with_suffix(".gif")] if self.gif else [target]
        for file in files:
            write_video(file, frames, fps)
            Console().print(f"{file}: {len(frames)} frames", highlight=False, soft_wrap=True)
        if self.save_frames:
            for index, frame in enumerate(frames):
                save_png(frame, target.with_suffix("") / f"{index:05d}.png")

    def _run_camera_path(self, config_path: Path) -> Dict[str, Any]:
        from fewshot_ns.scripts.runs import load_run_config, scene_of_run

        outputs, record = scene_of_run(load_run_config(config_path))
        return build_camera_path(self, outputs.cameras, record)


def _check_target(target: Path) -> None:
    if target.suffix != ".mp4":
        raise ValueError(f"--output {target}: expected a file name ending in .mp4")


def is_generalizable(config_path: Path) -> bool:
    """Whether a run is of a generalizable method.

    Raises:
        ValueError: the file is no config of a run.
    """
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.pipelines.generalizable_pipeline import GeneralizablePipelineConfig
    from fewshot_ns.scripts.runs import load_run_config

    return isinstance(load_run_config(config_path).pipeline, GeneralizablePipelineConfig)


def read_camera_path(path: Path) -> Dict[str, Any]:
    """Reads the JSON of a camera path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no camera path, or one of a camera that is not a pinhole camera.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the JSON of a camera path, found no such file")
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found something else ({error})") from error
    required = {"camera_path", "render_height", "render_width"}
    missing = required - set(content) if isinstance(content, dict) else required
    if missing or not content["camera_path"]:
        lack = f"no {', '.join(sorted(missing))}" if missing else "a path without frames"
        raise ValueError(f"{path}: expected the JSON of a camera path, found {lack}")
    if content.get("camera_type", "perspective") != "perspective":
        raise ValueError(f"{path}: expected camera_type perspective, found {content['camera_type']!r}")
    return content


def path_cameras(path: Dict[str, Any]) -> Tuple[Cameras, float]:
    """The cameras of a path at the size that the path asks for, and its frames per second."""
    import torch
    from nerfstudio.cameras.camera_paths import get_path_from_json

    cameras = get_path_from_json(path)
    # nerfstudio derives the size from the principal point; set it.
    size = torch.ones_like(cameras.cx, dtype=torch.int64)
    cameras.height, cameras.width = size * int(path["render_height"]), size * int(path["render_width"])
    seconds = float(path.get("seconds") or 0.0)
    return cameras, len(cameras) / seconds if seconds > 0 else float(path.get("fps") or 30.0)


def show_scene(pipeline: Any, options: SceneVideoOptions, kind: str) -> ActiveScene:
    """Makes the chosen scene with the chosen source views the active one of a loaded run.

    Raises:
        ValueError: an unknown scene or view, or another number of views than the networks are made for.
        SceneError: a source view cannot be read.
    """
    from fewshot_ns.data.views.sources import view_positions

    manager = pipeline.datamanager
    entry = manager.active.scene.entry
    if options.scene is not None:
        entry = manager.library.find(options.scene, manager.test_split)
    active = manager.selector.open(entry)
    if options.source_views:
        active = replace(active, sources=view_positions(active.scene, options.source_views, "--source-views"))
    if active.sources is None and kind in SOURCE_KINDS:
        if options.target_view is None:
            view = manager.selector.targets_of(active)[0]
        else:
            (view,) = view_positions(active.scene, (options.target_view,), "--target-view")
        # All frames are rendered from the same views: a change of source views would show as a jump.
        active = replace(
            active, sources=manager.selector.sources_for(active, active.scene.cameras.camera_to_worlds[view])
        )
    pipeline.render_scene(active)
    return active


def scene_camera_path(options: PathOptions, manager: Any, active: ActiveScene) -> Dict[str, Any]:
    """The camera path of the active scene, see `build_camera_path`."""
    import torch

    from fewshot_ns.data.dataparsers.multi.scene_views import scene_outputs
    from fewshot_ns.data.records.metadata import get_fewshot_metadata

    scene = active.scene
    views = active.sources or scene.pool or tuple(range(len(scene.image_filenames)))
    outputs = scene_outputs(scene, views, "train", views, ())
    # The parser of a single scene knows more of it: bounds of each view, NDC.
    record = get_fewshot_metadata((manager.train_dataparser_outputs if manager.library.single else outputs).metadata)
    return build_camera_path(options, scene.cameras[torch.tensor(views)], record, scene.planar_range)


def source_strips(pipeline: Any, active: ActiveScene, poses: Any) -> List[List[np.ndarray]]:
    """For each pose (F, 3, 4) the images (H, W, 3) uint8 of the views that it is rendered from."""
    from fewshot_ns.presentation.pictures import to_uint8

    manager = pipeline.datamanager
    chosen = [manager.selector.sources_for(active, pose.cpu()) for pose in poses]
    read = {view: to_uint8(manager.library.images.image(active.scene, view)) for views in chosen for view in views}
    return [[read[view] for view in views] for views in chosen]
