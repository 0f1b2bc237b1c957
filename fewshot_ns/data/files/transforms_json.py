"""Reading and checking `transforms*.json`, the camera file of the Blender and nerfstudio layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from fewshot_ns.cameras.poses import check_finite_poses
from fewshot_ns.data.files.inside import lies_inside, outside_words
from fewshot_ns.data.files.photo_files import find_photo, named_file
from fewshot_ns.data.files.transforms_keys import FRAME_FILES, PHOTO_LISTS, typed_transforms
from fewshot_ns.utils.json_files import is_number, read_json, shown_keys
from fewshot_ns.utils.shown_values import shown


def read_transforms(path: Path, may_be_empty: bool = False) -> Dict[str, Any]:
    """Reads a transforms file, whose known keys then hold what they may: nothing in it is null but what nobody knows.

    Args:
        path: The file.
        may_be_empty: Whether the list of frames may have none.

    Raises:
        FileNotFoundError: the file is missing.
        OSError: it cannot be read.
        ValueError: it is no JSON object with a list of frames, or a key holds something else than it may.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the cameras of the scene, found no such file")
    meta = read_json(path)
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not isinstance(frames, list) or not (frames or may_be_empty):
        raise ValueError(f"{path}: expected a JSON object with a non-empty list 'frames', found none")
    return typed_transforms(meta, path)


def with_local_files(meta: Dict[str, Any], path: Path, folder: Path, allow_outside: bool) -> Dict[str, Any]:
    """The content of a transforms file with names that lead to its files: names without a suffix, with backslashes, or
    from another machine get the name of the file that they mean. Others stay as they are.

    Args:
        meta: Content of the file.
        path: The file, for messages.
        folder: That its names are relative to.
        allow_outside: Whether files may lie outside of this folder.

    Raises:
        ValueError: a name that leads out of the folder.
    """

    def photo(name: str, where: str) -> str:
        found = find_photo(folder, name)
        if not allow_outside and not lies_inside(folder, found.absolute()):
            inside = find_photo(folder, name, inside=True)
            there = inside.is_file() and lies_inside(folder, inside.absolute())
            _check_outside(folder, name, where, there, found.is_file())
            found = inside if there else found
        if found == folder / name:
            return name
        return found.relative_to(folder).as_posix() if found.is_relative_to(folder) else str(found)

    def file(name: str, where: str) -> str:
        found = named_file(folder, name)
        if not allow_outside and not lies_inside(folder, found):
            inside = named_file(folder, name, inside=True)
            there = (folder / inside).is_file() and lies_inside(folder, inside)
            _check_outside(folder, name, where, there, (folder / found).is_file())
            return inside if there else found
        return found

    frames = []
    for number, frame in enumerate(meta["frames"]):
        where = f"{path}, frame {number}"
        named = {"file_path": photo(frame["file_path"], where)} if "file_path" in frame else {}
        frames.append({**frame, **named, **{key: file(frame[key], where) for key in FRAME_FILES if key in frame}})
    lists = {key: [photo(name, f"{path}, {key}") for name in meta[key]] for key in PHOTO_LISTS if key in meta}
    points = {"ply_file_path": file(meta["ply_file_path"], str(path))} if "ply_file_path" in meta else {}
    return {**meta, "frames": frames, **lists, **points}


def _check_outside(folder: Path, name: str, where: str, is_inside: bool, is_there: bool) -> None:
    """Refuses a name that leads out; not an absolute one of another machine, whose file is in the folder or nowhere."""
    if not is_inside and (is_there or not Path(name).is_absolute()):
        raise ValueError(f"{where}: {outside_words(folder, name)}")


def frame_poses(frames: List[Dict[str, Any]], path: Path) -> np.ndarray:
    """Returns the (N, 4, 4) camera-to-world matrices of the frames of a transforms file.

    Raises:
        ValueError: a frame without a file, a matrix of another shape, or values that are not finite.
    """
    poses = []
    for number, frame in enumerate(frames):
        if "file_path" not in frame or "transform_matrix" not in frame:
            raise ValueError(
                f"{path}: expected 'file_path' and 'transform_matrix' in frame {number}, found {shown_keys(frame)}"
            )
        try:
            matrix = np.asarray(frame["transform_matrix"], dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            found = shown(frame["transform_matrix"])
            raise ValueError(f"{path}: expected a 4x4 transform_matrix in frame {number}, found {found}") from error
        if matrix.shape not in ((4, 4), (3, 4)):
            raise ValueError(f"{path}: expected a 4x4 transform_matrix in frame {number}, found shape {matrix.shape}")
        _check_last_row(matrix, f"{path}: expected a 4x4 transform_matrix in frame {number}")
        poses.append(np.concatenate([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]]))
    stacked = np.array(poses, dtype=np.float64).reshape(-1, 4, 4)
    check_finite_poses(
        stacked, str(path), [f"frame {number} ({str(frame['file_path'])[:80]})" for number, frame in enumerate(frames)]
    )
    return stacked


def _check_last_row(matrix: np.ndarray, expected: str) -> None:
    """Checks that the position of a camera is not in the last row. What a fourth row says besides is not read.

    Raises:
        ValueError: the matrix is transposed, or no motion.
    """
    if len(matrix) == 3 or not np.isfinite(matrix).all():
        return
    row = matrix[3]
    if np.abs(row[:3]).max() <= 1e-3:
        return
    by_columns = np.allclose(matrix[:3, 3], 0.0, rtol=0.0, atol=1e-3)
    hint = "; it is transposed: the position belongs into the last column" if by_columns else ""
    found = ", ".join(f"{number:.4g}" for number in row)
    raise ValueError(f"{expected} with the last row 0, 0, 0, 1, found {found}{hint}")


def stated_bounds(meta: Dict[str, Any], path: Path) -> Optional[Tuple[float, float]]:
    """Near and far that a transforms file gives for its scene, in units of its poses; None where it has neither.

    Raises:
        ValueError: one without the other, or not 0 <= near < far.
    """
    near, far = meta.get("near"), meta.get("far")
    if near is None and far is None:
        return None
    if is_number(near) and is_number(far) and 0 <= near < far:
        return float(near), float(far)
    raise ValueError(f"{path}: expected numbers 0 <= near < far, found near {shown(near)} and far {shown(far)}")
