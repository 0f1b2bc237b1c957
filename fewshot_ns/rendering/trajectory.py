"""Renders a run along a camera path into frames, colours the depth the same over all frames, writes mp4 and GIF."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.rendering.ffmpeg import ensure_ffmpeg_on_path

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
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
    import torch

    rgb: List[Frame] = []
    depth: List[FloatImage] = []
    accumulation: List[FloatImage] = []
    cameras = cameras.to(pipeline.device)
    for index in range(len(cameras)):
        with torch.no_grad():
            outputs = pipeline.model.get_outputs_for_camera(cameras[index : index + 1])
        colour = outputs["rgb"].clamp(0.0, 1.0) * 255.0
        rgb.append(colour.round().byte().cpu().numpy())
        depth.append(outputs["depth"][..., 0].float().cpu().numpy())
        accumulation.append(outputs["accumulation"][..., 0].float().cpu().numpy())
        if on_frame is not None:
            on_frame()
    return RenderedPath(rgb, depth, accumulation)


def depth_range(paths: Sequence[RenderedPath], percentile: float = 1.0) -> Tuple[float, float]:
    """Nearest and farthest depth over all frames of all paths, without the outermost percentiles.

    Raises:
        ValueError: no frame holds a positive finite depth.
    """
    values = np.concatenate([image.ravel() for path in paths for image in path.depth])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        raise ValueError("expected rendered depth, found no positive finite value in any frame")
    near, far = np.percentile(values, [percentile, 100.0 - percentile])
    return float(near), float(far)


def side_by_side(path: RenderedPath, near: float, far: float, min_height: int = 240) -> List[Frame]:
    """Frames rgb | depth, (H', 2 W', 3), the depth in the colours of inverse depth between `near` and `far`.

    Inverse depth is what the eye expects: a scene with a sky would otherwise be one colour up to the horizon.

    Args:
        path: Rendered frames.
        near: Depth of the warm end of the colour map.
        far: Depth of its cold end.
        min_height: Smaller frames are enlarged by a whole factor.
    """
    frames = []
    for rgb, depth, accumulation in zip(path.rgb, path.depth, path.accumulation, strict=True):
        frame = np.concatenate([rgb, colour_depth(depth, accumulation, near, far)], axis=1)
        frames.append(enlarge(frame, -(-min_height // frame.shape[0])))
    return frames


def colour_depth(depth: FloatImage, accumulation: FloatImage, near: float, far: float) -> Frame:
    """Turbo colours of inverse depth, (H, W) to (H, W, 3): `near` red, `far` blue, white where rays hit nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        nearness = (1.0 / depth - 1.0 / far) / max(1.0 / near - 1.0 / far, 1e-12)
    nearness = np.nan_to_num(np.clip(nearness, 0.0, 1.0))
    colour = cv2.applyColorMap(np.round(nearness * 255.0).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    weight = np.clip(accumulation, 0.0, 1.0)[..., None]
    return np.round(colour * weight + 255.0 * (1.0 - weight)).astype(np.uint8)


def enlarge(frame: Frame, factor: int) -> Frame:
    """Enlarges (H, W, 3) by a whole factor; 1 or less returns it as it is."""
    if factor <= 1:
        return frame
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def write_video(path: Path, frames: Sequence[Frame], fps: float) -> None:
    """Writes frames (H, W, 3) as H.264 (.mp4) or as .gif; the file appears whole.

    Raises:
        ValueError: no frames, or a file type other than these.
        OSError: there is no ffmpeg to be had.
    """
    import mediapy

    if not len(frames):
        raise ValueError(f"{path}: a video needs at least one frame")
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"{path}: expected a file name ending in .mp4 or .gif, found {path.suffix or 'no suffix'!r}")
    if ensure_ffmpeg_on_path() is None:
        raise OSError("no ffmpeg program: install ffmpeg, or imageio-ffmpeg with a binary for this machine")
    # H.264 in its usual colour format halves the colour resolution: both sides must be even.
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    cropped = [np.ascontiguousarray(frame[:height, :width]) for frame in frames]
    codec = "gif" if path.suffix == ".gif" else "h264"
    path.parent.mkdir(parents=True, exist_ok=True)
    # ffmpeg tells the format by the file name's ending, so the temporary file keeps it.
    with tempfile.TemporaryDirectory(prefix=".video-", dir=path.parent) as folder:
        mediapy.write_video(Path(folder) / path.name, cropped, codec=codec, fps=fps)
        os.replace(Path(folder) / path.name, path)
