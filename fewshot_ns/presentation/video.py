"""Renders a run along a camera path into frames, colours the depth the same over all frames, writes mp4 and GIF; frames
may also be images on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.evaluation.runners.image_pairs import images_below, read_colours
from fewshot_ns.presentation.ffmpeg import ensure_ffmpeg_on_path
from fewshot_ns.presentation.pictures import colorize_depth, side_by_side
from fewshot_ns.utils.disk_space import saying_disk_full
from fewshot_ns.utils.leftovers import partial_folder, sweep

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.models.base_model import Model
    from nerfstudio.pipelines.base_pipeline import Pipeline

Frame = npt.NDArray[np.uint8]
FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RenderedPath:
    """What a model shows along a path of F cameras."""

    rgb: Sequence[Frame]
    """F images (H, W, 3)."""
    depth: Sequence[FloatImage]
    """F images (H, W), distance in world units."""
    accumulation: Sequence[FloatImage]
    """F images (H, W) in [0, 1]."""


def render_path(pipeline: Pipeline, cameras: Cameras, on_frame: Optional[Callable[[], None]] = None) -> RenderedPath:
    """Renders every camera of a path.

    Args:
        pipeline: Trained, in evaluation mode.
        cameras: F cameras of one size.
        on_frame: Called after each frame.
    """
    return render_cameras(pipeline.model, cameras, on_frame)


def render_cameras(model: Model, cameras: Cameras, on_frame: Optional[Callable[[], None]] = None) -> RenderedPath:
    """The same by a model alone."""
    import torch

    rgb: List[Frame] = []
    depth: List[FloatImage] = []
    accumulation: List[FloatImage] = []
    cameras = cameras.to(model.device)
    for index in range(len(cameras)):
        with torch.no_grad():
            outputs = model.get_outputs_for_camera(cameras[index : index + 1])
        colour = outputs["rgb"].clamp(0.0, 1.0) * 255.0
        rgb.append(colour.round().byte().cpu().numpy())
        depth.append(outputs["depth"][..., 0].float().cpu().numpy())
        accumulation.append(outputs["accumulation"][..., 0].float().cpu().numpy())
        if on_frame is not None:
            on_frame()
    return RenderedPath(rgb, depth, accumulation)


def rgb_beside_depth(path: RenderedPath, near: float, far: float, min_height: int = 240) -> List[Frame]:
    """Frames rgb | depth, the depth in the colours of `colour_depth` between `near` and `far`.

    Args:
        path: Rendered frames.
        near: Distance of the first colour, the same for all frames.
        far: Distance of the last colour.
        min_height: Smaller frames are enlarged by a whole factor.
    """
    frames = []
    for rgb, depth, accumulation in zip(path.rgb, path.depth, path.accumulation, strict=True):
        factor = -(-min_height // rgb.shape[0])
        pictures = [enlarge(picture, factor) for picture in (rgb, colour_depth(depth, accumulation, near, far))]
        frames.append(side_by_side(pictures))
    return frames


def frames_of_images(folder: Path, min_height: int = 240) -> List[Frame]:
    """Frames from the images in a folder, not in folders of it, in natural order; transparent ones on white.

    Args:
        folder: Its images have one size.
        min_height: Smaller images are enlarged by a whole factor.

    Returns:
        (H, W, 3) each, H and W even.

    Raises:
        FileNotFoundError: no folder, or one without images.
        ValueError: images of different sizes, or one that cannot be read.
    """
    files = [path for path in images_below(folder) if len(path.parts) == 1]
    if not files:
        raise FileNotFoundError(f"{folder}: expected images, found them in folders of it alone; give one of these")
    images = [read_colours(folder / path, "white") for path in files]
    first = images[0].shape
    for path, image in zip(files, images, strict=True):
        if image.shape != first:
            raise ValueError(
                f"{folder / path}: expected {first[1]}x{first[0]} pixels (width x height) as {files[0]} has, "
                f"found {image.shape[1]}x{image.shape[0]}"
            )
    return [side_by_side([enlarge(image, -(-min_height // image.shape[0]))]) for image in images]


def with_strip(frame: Frame, pictures: Sequence[Frame]) -> Frame:
    """A frame (H, W, 3) with a column of pictures on its left, scaled so that together they are as high.

    Returns:
        (H, W + w, 3), white between the pictures; w is even.
    """
    height, count, gap = frame.shape[0], len(pictures), 4
    each = max(1, (height - gap * (count - 1)) // count)
    width = max(max(1, round(each * picture.shape[1] / picture.shape[0])) for picture in pictures)
    strip = np.full((height, width + gap + (width + gap) % 2, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        size = max(1, round(each * picture.shape[1] / picture.shape[0])), each
        top = index * (each + gap)
        strip[top : top + each, : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.concatenate([strip, frame], axis=1)


def colour_depth(depth: FloatImage, accumulation: FloatImage, near: float, far: float) -> Frame:
    """Distance (H, W) in colour (H, W, 3): `near` blue, `far` red as nerfstudio shows it, white where rays hit nothing.

    The colours are spread evenly over inverse distance, as the eye expects it: with a sky in the picture everything
    else would share one colour otherwise.
    """
    inverse = -1.0 / np.maximum(depth, 1e-6)
    # Where no frame shows anything, the range begins at 0.
    colour = colorize_depth(inverse, -1.0 / max(near, 1e-6), -1.0 / max(far, 2e-6))
    weight = np.clip(accumulation, 0.0, 1.0)[..., None]
    return np.round(colour * weight + 255.0 * (1.0 - weight)).astype(np.uint8)


def enlarge(frame: Frame, factor: int) -> Frame:
    """Enlarges (H, W, 3) by a whole factor; 1 or less returns it as it is."""
    if factor <= 1:
        return frame
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def write_video(path: Path, frames: Sequence[Frame], fps: float) -> None:
    """Writes frames (H, W, 3), H and W even, as H.264 (.mp4) or as .gif; the file appears whole.

    Raises:
        ValueError: no frames, or a file type other than these.
        OSError: no ffmpeg is available.
        DiskFullError: there is no room for it.
    """
    import mediapy

    if not len(frames):
        raise ValueError(f"{path}: a video needs at least one frame")
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"{path}: expected a file name ending in .mp4 or .gif, found {path.suffix or 'no suffix'!r}")
    if ensure_ffmpeg_on_path() is None:
        raise OSError("no ffmpeg program: install ffmpeg, or imageio-ffmpeg with a binary for this machine")
    codec = "gif" if path.suffix == ".gif" else "h264"
    with saying_disk_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    # ffmpeg tells the format by the file name's ending, so the temporary file keeps it.
    with partial_folder(path) as folder, saying_disk_full(path, Path(folder)):
        mediapy.write_video(Path(folder) / path.name, frames, codec=codec, fps=fps)
        os.replace(Path(folder) / path.name, path)
