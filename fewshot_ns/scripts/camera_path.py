"""`ns-fewshot camera-path`: the camera paths of the papers, or of a file, for `ns-render camera-path`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Literal, Optional, Tuple

import tyro
from typing_extensions import Annotated

if TYPE_CHECKING:
    import numpy as np
    from nerfstudio.cameras.cameras import Cameras

    from fewshot_ns.data.records.metadata import FewShotMetadata

Kind = Literal["auto", "llff-spiral", "dtu-spiral", "spheric", "spin", "orbit", "interpolate", "spiral"]
SPIN_FRAMES, SPIN_ELEVATION = 40, 30.0
"""DietNeRF's video: poses and height above the horizon in degrees."""
SOURCE_FRAMES = 60
"""Frames of MatchNeRF's and ID-NeRF's videos."""


@dataclass
class PathOptions:
    """Flags of a camera path."""

    kind: Kind = "auto"
    """llff-spiral: around the average camera, focused by the scene's bounds; dtu-spiral: the same around the cameras'
    common focus; spheric: circle of the synthetic scenes (z up); spin: DietNeRF's such circle, 30 degrees high; orbit:
    around the common focus at the cameras' height; auto: llff-spiral for a forward-facing scene, dtu-spiral for DTU,
    orbit for all others. interpolate: through the training views, or source views, in their order and back to the
    first; spiral: around their average camera, looking at a depth between near and far (MatchNeRF, ID-NeRF)."""
    frames: Optional[int] = None
    """Frames of the path; None: 120, of spin DietNeRF's 40 (its JAX version: 30), of interpolate and spiral 60."""
    fps: float = 30.0
    """Frames per second of the video."""
    width: Optional[int] = None
    """Width of the video in pixels; None: as the training images, or after --height."""
    height: Optional[int] = None
    """Height of the video in pixels; None: as the training images, or after --width."""
    rotations: float = 2.0
    """Turns of a spiral."""
    z_rate: float = 0.5
    """Swings of a spiral along the viewing direction, per turn."""
    percentile: float = 60.0
    """dtu-spiral: which percentile of the camera coordinates gives its radii (llff-spiral: always 90, spiral: 70)."""
    radius: float = 4.0
    """spheric, spin: distance from the origin in world units."""
    elevation: Optional[float] = None
    """spheric, spin: height above the horizon in degrees; None: 36, of spin 30."""
    arc: float = 360.0
    """orbit: part of the circle in degrees, centred on the cameras."""


@dataclass
class CameraPathCommand(PathOptions):
    """Write a camera path as JSON, for `ns-render camera-path --camera-path-filename`."""

    load_config: Path = field(kw_only=True)
    """config.yml of a trained run, or a folder with one run: its scene gives cameras, bounds and image size."""
    from_: Annotated[Optional[Path], tyro.conf.arg(name="from")] = None
    """transforms.json whose cameras are the path, in its order: poses in the world of the scene's own files, brought
    into that of the run. Its image size and focal lengths count; of the flags only --fps, --width and --height."""
    output: Path = Path("camera_path.json")
    """File to write."""

    def main(self) -> None:
        """Writes the file.

        Raises:
            FileNotFoundError: the run or its scene is not there.
            ValueError: the flags or the scene do not allow such a path.
        """
        import shlex

        from rich.console import Console

        from fewshot_ns.scripts.runs import find_config, load_run_config, scene_of_run
        from fewshot_ns.utils.files import write_json

        run = find_config(self.load_config)
        if self.from_ is not None:
            path = self._path_of_file(self.from_, run)
        else:
            outputs, record = scene_of_run(load_run_config(run))
            path = build_camera_path(self, outputs.cameras, record)
        write_json(self.output, path)
        size, frames = f"{path['render_width']}x{path['render_height']}", len(path["camera_path"])
        # ns-render takes no folder of a run.
        words = ["ns-render", "camera-path", "--load-config", run, "--camera-path-filename", self.output]
        command = shlex.join(map(str, [*words, "--output-path", self.output.with_suffix(".mp4")]))
        Console().print(
            f"{self.output}: {frames} frames, {path['seconds']:.1f} s, {size} pixels. Render it with\n  {command}",
            highlight=False,
            soft_wrap=True,
        )

    def _path_of_file(self, file: Path, run: Path) -> Dict[str, Any]:
        import rich

        from fewshot_ns.scripts.transforms_path import path_of_transforms

        own = PathOptions(**{each.name: vars(self)[each.name] for each in fields(PathOptions)})
        if own != PathOptions(fps=self.fps, width=self.width, height=self.height):
            raise ValueError("--from: the path is that of the file; leave out all flags of paths but --fps and sizes")
        if self.fps <= 0:
            raise ValueError(f"--fps: expected a positive number, got {self.fps}")
        path, losses = path_of_transforms(file, run, self.fps, self.width, self.height)
        for loss in losses:
            rich.print(f"[yellow]{file}: {loss}[/yellow]")
        return path


def build_camera_path(
    options: PathOptions,
    cameras: Cameras,
    record: FewShotMetadata,
    planar_range: Optional[Tuple[float, float]] = None,
) -> Dict[str, Any]:
    """The path as the dictionary that `ns-render camera-path` reads.

    Args:
        options: What path.
        cameras: Training cameras of the scene, or source cameras: for image size and focal length, and for the path
            through them.
        record: The scene.
        planar_range: First and last planar depth of the scene; None: those of its rays.

    Raises:
        ValueError: the flags or the scene do not allow such a path.
    """
    from fewshot_ns.cameras.paths import camera_path_dict, depth_spiral, through_views

    if options.frames is not None and options.frames < 1:
        raise ValueError(f"--frames: expected at least 1, got {options.frames}")
    if options.fps <= 0:
        raise ValueError(f"--fps: expected a positive number, got {options.fps}")
    train_height, train_width = int(cameras.height[0].item()), int(cameras.width[0].item())
    height, width = options.height, options.width
    if height is None:
        height = train_height if width is None else max(1, round(width * train_height / train_width))
    if width is None:
        width = max(1, round(height * train_width / train_height))
    if min(height, width) < 1:
        raise ValueError(f"--width, --height: expected positive sizes, got {width}x{height}")
    focal = float(cameras.fy[0].item()) * height / train_height
    closed = options.kind != "orbit" or options.arc >= 360.0
    views = cameras.camera_to_worlds.double().cpu().numpy()
    if options.kind == "interpolate":
        poses = through_views(views, options.frames or SOURCE_FRAMES)
    elif options.kind == "spiral":
        bounds = planar_range or _planar_range(record)
        poses = depth_spiral(
            views, *bounds, options.frames or SOURCE_FRAMES, rotations=options.rotations, z_rate=options.z_rate
        )
    else:
        poses = _poses(options, record)
    return camera_path_dict(poses, focal, height, width, fps=options.fps, is_cycle=closed)


def _planar_range(record: FewShotMetadata) -> Tuple[float, float]:
    """Planar depths that the rays of a scene are sampled between."""
    geometry = record.geometry
    if geometry.ray_space != "metric" or geometry.origin_plane_z is not None:
        raise ValueError(
            "--kind spiral needs near and far as depths from the cameras, and this scene's rays have none; use --kind "
            "interpolate, llff-spiral or dtu-spiral"
        )
    return geometry.near, geometry.far


def _poses(options: PathOptions, record: FewShotMetadata) -> np.ndarray:
    """(F, 3, 4) OpenGL poses of the path."""
    from fewshot_ns.cameras.paths import dtu_spiral, llff_spiral, orbit, spheric, spin

    scene = record.scene_camera_to_worlds.double().numpy()
    kind = options.kind
    frames = options.frames or (SPIN_FRAMES if kind == "spin" else 120)
    elevation = options.elevation
    if elevation is None:
        elevation = SPIN_ELEVATION if kind == "spin" else 36.0
    if kind == "auto":
        geometry = record.geometry
        kind = "llff-spiral" if geometry.ray_space == "ndc" else "orbit"
        if geometry.origin_plane_z is not None:
            kind = "dtu-spiral"
    if kind == "llff-spiral":
        if record.scene_bounds is None:
            raise ValueError(
                "llff-spiral needs the nearest and farthest depth of each view, and this scene's format stores none; "
                "use --kind dtu-spiral or --kind orbit"
            )
        bounds = record.scene_bounds.double().numpy()
        return llff_spiral(scene, bounds, frames, options.rotations, options.z_rate)
    if kind == "dtu-spiral":
        return dtu_spiral(scene, frames, options.rotations, options.z_rate, options.percentile)
    if kind == "spheric":
        return spheric(options.radius, elevation, frames)
    if kind == "spin":
        return spin(options.radius, elevation, frames)
    return orbit(scene, frames, options.arc)
