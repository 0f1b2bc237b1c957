"""The unit of depth maps that a `transforms*.json` states, in the words of several programs."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Tuple

import numpy as np

from fewshot_ns.data.files.depth_formats import NPZ_KEY
from fewshot_ns.utils.reading import DAMAGE
from fewshot_ns.utils.shown_values import shown

_TIMES = ("integer_depth_scale", "depth_unit_scale_factor")
"""Keys of what stored values are multiplied by: instant-ngp's, and nerfstudio's word for it."""
_PER_UNIT = ("depth_scaling_factor", "png_depth_scale")
"""Keys of what they are divided by: Dense Depth Priors', and that of RGB-D mapping programs."""
UNIT_KEYS = (*_TIMES, *_PER_UNIT)
DEPTH_KEYS = ("depth_file_path", "depth_path")
"""Keys of a frame's depth map: nerfstudio's and instant-ngp's."""


WHOLE_NUMBERS = "the layout: whole numbers count millimetres"
"""What a record says of the unit of whole-number maps of which the file says nothing."""


@dataclass(frozen=True)
class StatedUnit:
    """The unit of whole-number depth maps, as a file states it."""

    length: float
    """Units of the scene's files per stored unit."""
    source: str
    """File and key that say so."""


def stated_depth_unit(meta: Dict[str, Any], path: Path) -> Optional[StatedUnit]:
    """What a transforms file says that its whole-number depth maps count; None where it is silent.

    Args:
        meta: Content of the file, as `read_transforms` gives it: these keys hold positive numbers.
        path: The file.

    Raises:
        ValueError: two keys that do not agree.
    """
    found: List[StatedUnit] = []
    for key, value in _statements(meta):
        # A unit that float32 holds.
        if not 1e-12 <= value <= 1e12:
            raise ValueError(f"{path}: expected a positive number for {key!r}, found {shown(value)}")
        length = float(value) if key in _TIMES else 1.0 / float(value)
        if found and not math.isclose(found[0].length, length, rel_tol=1e-6):
            raise ValueError(
                f"{path}: expected one unit of the depth maps, found {found[0].length:g} ({found[0].source}) and "
                f"{length:g} ({key}); remove one of the keys"
            )
        found.append(StatedUnit(length, f"{path.name}, {key}"))
    return found[0] if found else None


def _statements(meta: Dict[str, Any]) -> List[Tuple[str, Any]]:
    """Key and value of each statement of the file and of its frames, those that come again left out."""
    found: List[Tuple[str, Any]] = []
    for stated in (meta, *meta.get("frames", ())):
        for key in UNIT_KEYS:
            value = stated.get(key) if isinstance(stated, dict) else None
            if value is not None and (key, value) not in found:
                found.append((key, value))
    return found


def holds_whole_numbers(path: Path) -> bool:
    """Whether a depth map stores whole numbers, which need a unit; others hold lengths as they are."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz") or not path.is_file():
        return suffix == ".png"
    try:
        with path.open("rb") as file:
            return _kind_of_array(file) in "ui" if suffix == ".npy" else _kind_in_archive(file) in "ui"
    except DAMAGE:
        return False  # which the reader of the map says better


def _kind_of_array(file: IO[bytes]) -> str:
    """numpy's letter for the kind of number that a .npy file holds, by its header."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)[2].kind


def _kind_in_archive(file: IO[bytes]) -> str:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        with archive.open(names[0] if len(names) == 1 else f"{NPZ_KEY}.npy") as member:
            return _kind_of_array(member)


def named_depth_map(frame: Dict[str, Any]) -> Optional[str]:
    """The depth map that a frame names, relative to its file; None where it names none."""
    return next((str(frame[key]) for key in DEPTH_KEYS if frame.get(key)), None)
