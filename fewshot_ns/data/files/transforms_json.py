"""Reading and checking `transforms*.json`, the camera file of the Blender and nerfstudio layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from fewshot_ns.cameras.poses import check_finite_poses


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
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found {error}") from error
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not isinstance(frames, list) or not (frames or may_be_empty):
        raise ValueError(f"{path}: expected a JSON object with a non-empty list 'frames', found none")
    return meta


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
    stacked = np.stack(poses)
    check_finite_poses(stacked, str(path))
    return stacked


def stated_bounds(meta: Dict[str, Any], path: Path) -> Optional[Tuple[float, float]]:
    """Near and far that a transforms file gives for its scene, in its own units; None where it has neither.

    Raises:
        ValueError: one without the other, or not 0 <= near < far.
    """
    near, far = meta.get("near"), meta.get("far")
    if near is None and far is None:
        return None
    if isinstance(near, (int, float)) and isinstance(far, (int, float)) and 0 <= near < far < float("inf"):
        return float(near), float(far)
    raise ValueError(f"{path}: expected numbers 0 <= near < far, found near {near!r} and far {far!r}")
