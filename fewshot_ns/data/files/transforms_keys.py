"""What the keys of a `transforms*.json` may hold, of the file and of its frames.

The file has many dialects: keys that nobody knows stay as they are, known ones are held against their kind. A null
counts as an absent key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping

from fewshot_ns.utils.json_files import (
    FILE_NAME,
    NUMBER_OR_TEXT,
    POSITIVE,
    TEXT,
    Kind,
    checked,
    list_of,
    numbers,
    one_of,
    shown,
)

PHOTO_LISTS = ("train_filenames", "val_filenames", "test_filenames", "held_out")
"""Keys under which a file names photos besides its frames."""
FRAME_FILES = ("mask_path", "depth_file_path", "depth_path")
"""Keys of a frame's other files, each of which an empty text leaves out."""
_CAMERA: Mapping[str, Kind] = {
    **dict.fromkeys(("fl_x", "fl_y", "fx", "fy", "cx", "cy", "w", "h"), NUMBER_OR_TEXT),
    **dict.fromkeys(("camera_angle_x", "camera_angle_y", "x_fov", "y_fov"), NUMBER_OR_TEXT),
    **dict.fromkeys(("k1", "k2", "k3", "k4", "p1", "p2"), NUMBER_OR_TEXT),
    "camera_model": TEXT,
}
_UNITS = dict.fromkeys(
    ("integer_depth_scale", "depth_unit_scale_factor", "depth_scaling_factor", "png_depth_scale"), POSITIVE
)
_FRAME: Mapping[str, Kind] = {
    **_CAMERA,
    **_UNITS,
    **dict.fromkeys(("file_path", *FRAME_FILES), FILE_NAME),
}
_MATRIX = numbers("an invertible 3x4 applied_transform", (3, 4), (4, 4))
_NAMES = list_of(FILE_NAME, "a list of names of photos")
_FILE: Mapping[str, Kind] = {
    **_CAMERA,
    **_UNITS,
    **dict.fromkeys(PHOTO_LISTS, _NAMES),
    "ply_file_path": FILE_NAME,
    "applied_scale": POSITIVE,
    "applied_transform": Kind(_MATRIX.words, lambda value: _MATRIX.take(value)[:3]),
    "orientation_override": one_of("pca", "up", "vertical", "none"),
}


def typed_transforms(meta: Mapping[str, Any], path: Path) -> Dict[str, Any]:
    """The content of a transforms file whose known keys hold what they may.

    Args:
        meta: Content of the file, with a list of frames.
        path: The file.

    Raises:
        ValueError: a value of another kind; names the frame and the key.
    """
    frames: List[Dict[str, Any]] = []
    for number, frame in enumerate(meta["frames"]):
        if not isinstance(frame, dict):
            raise ValueError(f"{path}: expected an object as frame {number}, found {shown(frame)}")
        name = frame.get("file_path")
        where = f"{path}, frame {number}" + (f" ({shown(name)[1:-1]})" if isinstance(name, str) else "")
        given = {key: value for key, value in frame.items() if key not in FRAME_FILES or value != ""}
        frames.append(checked(given, _FRAME, where))
    return {**checked(meta, _FILE, str(path)), "frames": frames}
