"""`ns-fewshot photo`: one photo of an object, seen from all around by a trained pixelNeRF."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Literal, Optional, Tuple

import tyro

from fewshot_ns.pretrained.segmentation.config import SegmentationConfig

if TYPE_CHECKING:
    import numpy as np

    from fewshot_ns.cameras.turntable import ObjectCamera
    from fewshot_ns.data.one_photo import Mask, Square
    from fewshot_ns.models.pixelnerf import PixelNeRFModel

Background = Literal["black", "white"]
_OTHERWISE = "without a network: give an image with a transparent background, or its mask by --mask FILE"


@dataclass
class CropOptions:
    """How large the object is shown to the network."""

    minor_scale: float = 4.37
    """Side of the crop in shorter axes of the ellipse about the object; the larger of the two counts. pixelNeRF's
    numbers, for cars."""
    major_scale: float = 0.8
    """Side of the crop in longer axes of the ellipse."""
    fill: Optional[float] = None
    """Instead: the longer side of the object's box takes this share of the image; for anything but cars."""


@dataclass
class CameraOptions:
    """The photo's camera; what is not given is that of the run's training images, where the run says so, else
    pixelNeRF's of cars."""

    size: Optional[int] = None
    """Height and width of the normalised image and of the video, pixels; else 128."""
    focal: Optional[float] = None
    """Focal length in pixels of that image; else 131.25 for 128 pixels."""
    radius: Optional[float] = None
    """Distance from the object's middle, world units; else 1.3."""
    near: Optional[float] = None
    """First distance along a ray that is sampled; else 0.8."""
    far: Optional[float] = None
    """Last distance along a ray that is sampled; else 1.8."""
    background: Optional[Background] = None
    """What is behind the object; else white."""


@dataclass
class PhotoCommand:
    """Show one photo of an object to a trained pixelNeRF, and render the object from all around: mp4, GIF, mesh.

    Which pixels are the object is told by the image's transparency, by --mask, or by a segmentation network. Checkpoint
    and config.yml are enough: the data that the run was trained on may be gone.
    """

    image: tyro.conf.Positional[Path]
    """The photo."""
    load_config: Optional[Path] = None
    """config.yml of a trained run of pixelNeRF, or a folder with one run."""
    weights: Optional[Path] = None
    """Instead of a run: a checkpoint, also the authors' released one (pixel_nerf_latest)."""
    method: str = "pixelnerf"
    """Method of that checkpoint."""
    output: Optional[Path] = None
    """mp4 to write; the GIF and the normalised image lie beside it. None: renders/NAME.mp4 in the folder of the run, or
    beside the weights."""
    mask: Optional[Path] = None
    """Image of the photo's size, white where the object is; None: the image's transparency, else a network."""
    segment: SegmentationConfig = field(default_factory=SegmentationConfig)
    """Network that finds the object in an image without transparency and without --mask."""
    crop: tyro.conf.OmitArgPrefixes[CropOptions] = field(default_factory=CropOptions)
    """How large the object is shown."""
    camera: tyro.conf.OmitArgPrefixes[CameraOptions] = field(default_factory=CameraOptions)
    """The photo's camera."""
    elevation: float = 0.0
    """From how high above the horizon the photo was taken, degrees."""
    orbit_elevation: Optional[float] = None
    """The same of the video; None: as the photo, so that the first frame is its view."""
    frames: int = 48
    """Frames of the video, once around."""
    fps: float = 16.0
    """Frames per second."""
    gif: bool = True
    """Whether the GIF is also written."""
    strip: bool = True
    """Whether the normalised image is shown at the left of each frame."""
    min_height: int = 240
    """Smaller frames are enlarged by a whole factor, to at least this many rows."""
    mesh: Optional[Path] = None
    """Also write a mesh with a colour per vertex: FILE.ply or FILE.obj; y is up."""
    mesh_resolution: int = 128
    """Samples of the density along each axis."""
    mesh_threshold: float = 10.0
    """Density at the surface, per world unit."""

    def main(self) -> None:
        """Renders and writes everything.

        Raises:
            FileNotFoundError: the photo, the run, or weights are not there.
            ValueError: flags, image or mask do not allow it, or the method cannot be shown one photo.
            CheckpointMismatchError: a checkpoint of another method or size.
        """
        from rich.console import Console

        from fewshot_ns.cameras.turntable import turntable
        from fewshot_ns.data.one_photo import normalised_image
        from fewshot_ns.models.one_photo import model_of_photos, show_photo
        from fewshot_ns.presentation.mesh import check_mesh_name
        from fewshot_ns.presentation.pictures import save_png, to_uint8
        from fewshot_ns.utils.devices import find_device

        if self.mesh is not None:
            check_mesh_name(self.mesh)
        orbit = turntable(1.0, self.elevation if self.orbit_elevation is None else self.orbit_elevation, self.frames)
        (pose,) = turntable(1.0, self.elevation)
        config, weights, target = self._trained()
        camera, background = self._camera(weights)
        for poses in (orbit, pose):
            poses[..., 3] *= camera.radius
        photo, mask, square = self._object()
        image = normalised_image(photo, mask, square, camera.size, background)
        model = model_of_photos(config, weights, camera, background, find_device("auto"))
        show_photo(model, image, camera, pose, background)
        say = Console()
        picture = target.with_name(f"{target.stem}_input.png")
        save_png(to_uint8(image), picture)
        say.print(f"{picture}: what the network sees, {_in_words(camera)}", highlight=False, soft_wrap=True)
        self._render(model, camera.cameras(orbit), to_uint8(image), target, say)
        if self.mesh is not None:
            self._write_mesh(model, camera, self.mesh, say)

    def _trained(self) -> Tuple[Any, Path, Path]:
        """Config of the model, its checkpoint, and the video to write."""
        import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

        from fewshot_ns import registry
        from fewshot_ns.scripts.runs import find_config, load_run_config
        from fewshot_ns.utils.checkpoints import find_checkpoint

        if (self.load_config is None) == (self.weights is None):
            raise ValueError("expected either a run (--load-config) or a checkpoint (--weights)")
        if self.load_config is not None:
            file = find_config(self.load_config)
            config, folder = load_run_config(file), file.parent
            model = model_of_one_view(config, str(self.load_config))
            weights = find_checkpoint(config.get_checkpoint_dir())
        else:
            assert self.weights is not None
            methods = {name.replace("_", "-"): name for name in registry.METHODS}
            if self.method not in methods:
                raise ValueError(f"--method: expected one of {', '.join(methods)}, got {self.method!r}")
            config = registry.method_specification(methods[self.method]).config
            model = model_of_one_view(config, f"--method {self.method}")
            weights, folder = self.weights, self.weights.parent
        target = self.output or folder / "renders" / f"{self.image.stem}.mp4"
        if target.suffix != ".mp4":
            raise ValueError(f"--output {target}: expected a file name ending in .mp4")
        return model, weights, target

    def _camera(self, weights: Path) -> Tuple[ObjectCamera, Background]:
        """The photo's camera and background: by flags, by the run, or pixelNeRF's."""
        from fewshot_ns.cameras.turntable import PIXELNERF_SIZE, ObjectCamera

        # The record lies with the run that was trained; retargeted ones link to its checkpoint.
        known = run_camera(weights.resolve().parent.parent)
        given = {name: value for name, value in vars(self.camera).items() if value is not None}
        size = given.get("size", known.get("size", PIXELNERF_SIZE))
        published = ObjectCamera()
        focal = known.get("focal", published.focal) / known.get("size", PIXELNERF_SIZE) * size
        values = {**vars(published), **known, "focal": focal, **given, "size": size}
        background = values.pop("background", "white")
        return ObjectCamera(**values), background

    def _object(self) -> Tuple[np.ndarray, Mask, Square]:
        """The photo, the mask of its object, and the square that is shown."""
        from fewshot_ns.data.one_photo import (
            fit_ellipse,
            outline_of,
            read_mask,
            read_photo,
            square_about_box,
            square_about_ellipse,
        )
        from fewshot_ns.pretrained.segmentation.object_mask import object_mask

        photo, transparency = read_photo(self.image)
        where = str(self.image)
        if self.mask is not None:
            mask, where = read_mask(self.mask, self.image, photo.shape[:2]), str(self.mask)
        elif transparency is not None:
            mask = transparency
        else:
            mask = object_mask(self.segment, photo, self.image, "--segment", _OTHERWISE)
        outline, crop = outline_of(mask, where), self.crop
        if crop.fill is not None:
            return photo, mask, square_about_box(outline, crop.fill)
        return photo, mask, square_about_ellipse(fit_ellipse(outline, where), crop.minor_scale, crop.major_scale)

    def _render(self, model: PixelNeRFModel, cameras: Any, image: np.ndarray, target: Path, say: Any) -> None:
        from fewshot_ns.presentation.pictures import shared_depth_range
        from fewshot_ns.presentation.video import render_cameras, rgb_beside_depth, with_strip, write_video

        with _progress("rendering") as progress:
            task = progress.add_task("", total=len(cameras))
            rendered = render_cameras(model, cameras, lambda: progress.advance(task))
        frames = rgb_beside_depth(rendered, *shared_depth_range(rendered.depth), self.min_height)
        if self.strip:
            frames = [with_strip(frame, [image]) for frame in frames]
        for file in [target, target.with_suffix(".gif")] if self.gif else [target]:
            write_video(file, frames, self.fps)
            say.print(f"{file}: {len(frames)} frames", highlight=False, soft_wrap=True)

    def _write_mesh(self, model: PixelNeRFModel, camera: ObjectCamera, file: Path, say: Any) -> None:
        from fewshot_ns.presentation.mesh import coloured_surface, write_mesh

        with _progress("density") as progress:
            task = progress.add_task("", total=self.mesh_resolution)
            mesh = coloured_surface(
                lambda points, directions: model.query_points(points.to(model.device), directions.to(model.device)),
                camera.reach,
                self.mesh_resolution,
                self.mesh_threshold,
                lambda: progress.advance(task),
            )
        write_mesh(mesh, file)
        say.print(f"{file}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces", highlight=False, soft_wrap=True)


def model_of_one_view(config: Any, where: str) -> Any:
    """The model's config of a run or method that one photo can be shown to.

    Args:
        config: of the trainer.
        where: what it came from, for the message.

    Raises:
        ValueError: another method; names the way out.
    """
    from fewshot_ns.models.conditioned_model import ConditionedModelConfig
    from fewshot_ns.models.pixelnerf import PixelNeRFModelConfig

    model = config.pipeline.model
    if isinstance(model, PixelNeRFModelConfig):
        return model
    if isinstance(model, ConditionedModelConfig):
        raise ValueError(
            f"{where}: expected a run of pixelnerf, which one photo is enough for, found {config.method_name}, which "
            "takes several views with their cameras: use ns-fewshot retarget --load-config RUN --data DIR"
        )
    raise ValueError(
        f"{where}: expected a run of pixelnerf, found {config.method_name}, which knows the scene alone that it was "
        "trained on"
    )


def run_camera(folder: Path) -> Dict[str, Any]:
    """What a run says of the cameras of its training images; nothing where there is no record, as of earlier versions.

    Raises:
        ValueError: the record is damaged.
    """
    from fewshot_ns.cameras.turntable import CAMERA_KEY
    from fewshot_ns.engine.scene_bounds import RESOLVED_NAME

    path = folder / RESOLVED_NAME
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf8")).get(CAMERA_KEY, {})
        numbers = {name: float(record[name]) for name in ("focal", "radius", "near", "far") if name in record}
        size = {"size": int(record["size"])} if "size" in record else {}
        background = {"background": str(record["background"])} if "background" in record else {}
        return {**numbers, **size, **background}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected the values that a run was trained with, found {error}") from error


def _in_words(camera: ObjectCamera) -> str:
    return (
        f"{camera.size}x{camera.size} pixels, focal length {camera.focal:g}, from a distance of {camera.radius:.3g}, "
        f"near {camera.near:.3g}, far {camera.far:.3g}"
    )


def _progress(what: str) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
