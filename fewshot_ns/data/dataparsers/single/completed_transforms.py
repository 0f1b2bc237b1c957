"""A `transforms.json` as nerfstudio's parser needs it: what it lacks completed, what it says twice decided.

nerfstudio reads 4x4 matrices, all six numbers of each camera, the file's before the frame's, and depth maps of all
frames under one name or of none. Files of other programs are rewritten to that; nerfstudio's own stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy.typing as npt
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE

from fewshot_ns.data.depth.stated_unit import DEPTH_KEYS, named_depth_map
from fewshot_ns.data.files.images import image_size
from fewshot_ns.data.files.transforms_camera import DISTORTION, StatedCamera
from fewshot_ns.utils.shown_values import shown

_INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
_BENT = (*DISTORTION, "distortion_params")


@dataclass(frozen=True)
class CompletedTransforms:
    """Content that nerfstudio reads right, and what it would not read."""

    meta: Dict[str, Any]
    """Content of the file; the read one itself where nothing had to be changed."""
    changed: bool
    """Whether it differs from what was read."""
    depths: Optional[Dict[str, Path]] = None
    """Depth map by the frame's photo, as nerfstudio calls it, where `meta` no longer names them."""


def completed_transforms(meta: Dict[str, Any], poses: npt.NDArray, path: Path) -> CompletedTransforms:
    """What nerfstudio's parser is given for a transforms file.

    Args:
        meta: Content of the file, whose lens has been checked and whose names lead to its files.
        poses: (N, 4, 4) matrices of its frames.
        path: The file.

    Raises:
        FileNotFoundError: a photo is missing whose size nothing else says.
        ValueError: a frame without a focal length, or numbers that are no camera.
    """
    frames: List[Dict[str, Any]] = meta["frames"]
    cameras = [StatedCamera.of_frame(meta, number, path) for number in range(len(frames))]
    blind = [number for number, camera in enumerate(cameras) if not camera.has_focal]
    if blind:
        raise ValueError(
            f"{path}: expected 'fl_x' for the file or for every frame (or 'camera_angle_x'), found none for frames "
            f"{shown(blind)}"
        )
    names = [str(frame["file_path"]) for frame in frames]
    if _is_plain(meta):
        for camera in cameras:
            (width, height), (fx, fy), (cx, cy) = camera.size, camera.focal, camera.centre
            if width and height and fx and fy and cx is not None and cy is not None:
                camera.check_others((fx / width, fy / height, cx / width, cy / height), (width, height))
        return CompletedTransforms(meta, changed=False)
    photos = [path.parent / name for name in names]
    written = []
    for frame, name, camera, pose in zip(frames, names, cameras, poses, strict=True):
        width, height = camera.size
        if width is None or height is None:
            photo = path.parent / name
            # A frame without its photo is a pose alone, whose camera may be that of another photo.
            image = image_size(photo if photo.is_file() else next(filter(Path.is_file, photos), photo))
            width, height = camera.size_at((image[1], image[0]))
        fx, fy, cx, cy = camera.fractions((width, height))
        kept = {key: value for key, value in frame.items() if key not in (*_BENT, *DEPTH_KEYS, "camera_model")}
        written.append(
            {
                **kept,
                "file_path": name,
                "transform_matrix": pose.tolist(),
                **dict(
                    zip(_INTRINSICS, (fx * width, fy * height, cx * width, cy * height, width, height), strict=True)
                ),
                **dict(zip(DISTORTION, camera.distortion, strict=True)),
            }
        )
    kept = {key: value for key, value in meta.items() if key not in (*_INTRINSICS, *_BENT, "camera_model")}
    maps = {
        str(path.parent / name): path.parent / found
        for name, frame in zip(names, frames, strict=True)
        if (found := named_depth_map(frame)) is not None
    }
    return CompletedTransforms({**kept, "frames": written}, changed=True, depths=maps or None)


def _is_plain(meta: Dict[str, Any]) -> bool:
    """Whether nerfstudio reads everything that the file says, and as it says it."""
    frames: List[Dict[str, Any]] = meta["frames"]
    model = meta.get("camera_model")
    maps = sum("depth_file_path" in frame for frame in frames)
    bent = any(key in meta for key in _BENT)
    return (
        all(key in meta or all(key in frame for frame in frames) for key in _INTRINSICS)
        and not any(key in meta and frame.get(key, meta[key]) != meta[key] for key in _INTRINSICS for frame in frames)
        and all(len(frame["transform_matrix"]) == 4 for frame in frames)
        and all(list(frame["transform_matrix"][3]) == [0, 0, 0, 1] for frame in frames)
        and (model is None or model in CAMERA_MODEL_TO_TYPE)
        and maps in (0, len(frames))
        and not any("depth_path" in frame for frame in frames if "depth_file_path" not in frame)
        # nerfstudio looks for the frames' terms only where the file has none, and not for k4 alone.
        and not (bent and any(key in frame for key in _BENT for frame in frames))
        and (not meta.get("k4") or any(key in meta for key in _BENT if key != "k4"))
    )
