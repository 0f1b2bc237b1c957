"""Reading and checking `transforms*.json`, the camera file of the Blender and nerfstudio layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from fewshot_ns.cameras.poses import check_finite_poses
from fewshot_ns.data.files.photo_files import find_photo, named_file


def read_transforms(path: Path, may_be_empty: bool = False) -> Dict[str, Any]:
    """Reads a transforms file.

    Args:
        path: The file.
        may_be_empty: Whether the list of frames may have none.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no JSON object with a list of frames.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the cameras of the scene, found no such file")
    try:
        # Of bytes, which may begin with the mark of UTF-8 or UTF-16 that editors of Windows leave there.
        meta = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found {error}") from error
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not isinstance(frames, list) or not (frames or may_be_empty):
        raise ValueError(f"{path}: expected a JSON object with a non-empty list 'frames', found none")
    return meta


_FRAME_FILES = ("mask_path", "depth_file_path", "depth_path")
_PHOTO_LISTS = ("train_filenames", "val_filenames", "test_filenames", "held_out")
"""Keys under which a transforms file names photos besides its frames."""


def with_local_files(meta: Dict[str, Any], folder: Path) -> Dict[str, Any]:
    """The content of a transforms file with names that lead to its files: names without a suffix, with backslashes, or
    from another machine get the name of the file that they mean. Others stay as they are.

    Args:
        meta: Content of the file.
        folder: That its names are relative to.
    """

    def photo(name: Any) -> Any:
        if not isinstance(name, str) or not name:
            return name
        found = find_photo(folder, name)
        if found == folder / name:
            return name
        return found.relative_to(folder).as_posix() if found.is_relative_to(folder) else str(found)

    def file(name: Any) -> Any:
        return named_file(folder, name) if isinstance(name, str) and name else name

    frames = []
    for frame in meta["frames"]:
        if not isinstance(frame, dict):
            frames.append(frame)
            continue
        named = {"file_path": photo(frame["file_path"])} if "file_path" in frame else {}
        own = {key: value for key, value in frame.items() if key not in _FRAME_FILES or value is not None}
        frames.append({**own, **named, **{key: file(own[key]) for key in _FRAME_FILES if key in own}})
    lists = {key: [photo(name) for name in meta[key]] for key in _PHOTO_LISTS if isinstance(meta.get(key), list)}
    points = {"ply_file_path": file(meta["ply_file_path"])} if "ply_file_path" in meta else {}
    return {**meta, "frames": frames, **lists, **points}


def frame_poses(frames: List[Dict[str, Any]], path: Path) -> np.ndarray:
    """Returns the (N, 4, 4) camera-to-world matrices of the frames of a transforms file.

    Raises:
        ValueError: a frame without a file, a matrix of another shape, or values that are not finite.
    """
    poses = []
    for number, frame in enumerate(frames):
        if "file_path" not in frame or "transform_matrix" not in frame:
            raise ValueError(
                f"{path}: expected 'file_path' and 'transform_matrix' in frame {number}, found {sorted(frame)}"
            )
        try:
            matrix = np.asarray(frame["transform_matrix"], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected a 4x4 transform_matrix in frame {number}, found {error}") from error
        if matrix.shape not in ((4, 4), (3, 4)):
            raise ValueError(f"{path}: expected a 4x4 transform_matrix in frame {number}, found shape {matrix.shape}")
        poses.append(np.concatenate([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]]))
    stacked = np.array(poses, dtype=np.float64).reshape(-1, 4, 4)
    check_finite_poses(
        stacked, str(path), [f"frame {number} ({str(frame['file_path'])[:80]})" for number, frame in enumerate(frames)]
    )
    return stacked


def stated_bounds(meta: Dict[str, Any], path: Path) -> Optional[Tuple[float, float]]:
    """Near and far that a transforms file gives for its scene, in units of its poses; None where it has neither.

    Raises:
        ValueError: one without the other, or not 0 <= near < far.
    """
    near, far = meta.get("near"), meta.get("far")
    if near is None and far is None:
        return None
    if isinstance(near, (int, float)) and isinstance(far, (int, float)) and 0 <= near < far < float("inf"):
        return float(near), float(far)
    raise ValueError(f"{path}: expected numbers 0 <= near < far, found near {near!r} and far {far!r}")
