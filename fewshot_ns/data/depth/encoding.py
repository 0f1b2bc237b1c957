"""What the numbers of a depth map mean: the note that lies beside a folder of maps, and planar against ray depth.

A folder of depth maps may hold `depth.json`, e.g. {"polarity": "distance", "meaning": "z_depth", "unit": 0.001}.
`ns-fewshot depth` writes it. Flags of the dataparser override it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, get_args

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.records.metadata import DepthEncoding, DepthMeaning, Polarity
from fewshot_ns.utils.files import write_json
from fewshot_ns.utils.json_files import POSITIVE, SWITCH, checked, read_json_object
from fewshot_ns.utils.shown_values import shown

NOTE_NAME = "depth.json"
"""File beside the maps of a folder that says what their numbers mean."""
INCOMPLETE = "incomplete"
"""Key of a note that stands for the moments in which maps are replaced; who finds it later finds a mixture."""


def read_note(folder: Path) -> Dict[str, Any]:
    """What a folder's note states: some of `polarity`, `meaning`, `unit`, `max_depth`, `may_be_empty`; empty where
    there is none.

    Raises:
        ValueError: a note that is no JSON object, with values that mean nothing, or of maps that were being replaced.
    """
    path = folder / NOTE_NAME
    if not path.is_file():
        return {}
    note = read_json_object(path)
    if note.get(INCOMPLETE):
        raise ValueError(
            f"{path}: expected a whole set of depth maps, found that {note.get('written_by') or 'a command'} was "
            "interrupted while it put new maps in the place of old ones, so that some are of one kind and some of "
            "the other; run it again, or remove the folder"
        )
    for key, known in (("polarity", get_args(Polarity)), ("meaning", get_args(DepthMeaning))):
        if note.get(key) is not None and note[key] not in known:
            raise ValueError(f"{path}: expected {key} {' or '.join(known)}, found {shown(note[key])}")
    note = checked(note, {"unit": POSITIVE, "max_depth": POSITIVE, "may_be_empty": SWITCH}, str(path))
    keys = ("polarity", "meaning", "unit", "max_depth", "may_be_empty")
    return {key: note[key] for key in keys if note.get(key) is not None}


def write_note(folder: Path, encoding: DepthEncoding, **more: Any) -> None:
    """Writes the note of a folder of depth maps, atomically.

    Args:
        folder: Folder of the maps.
        encoding: What their numbers mean; its unit counts units of the scene's own files.
        more: Where they come from, for people.
    """
    stated = {
        "polarity": encoding.polarity,
        "meaning": encoding.meaning,
        "unit": encoding.unit,
        "max_depth": encoding.max_depth,
        **({"may_be_empty": True} if encoding.may_be_empty else {}),
    }
    write_json(folder / NOTE_NAME, {**stated, **more})


def write_incomplete_note(folder: Path, writer: str, **more: Any) -> None:
    """Writes, atomically, the note of a folder whose maps are about to change, by which `read_note` refuses them.

    Args:
        folder: Folder of the maps.
        writer: The command that changes them.
        more: What else it says.
    """
    write_json(folder / NOTE_NAME, {INCOMPLETE: True, "written_by": writer, **more})


def override_encoding(encoding: DepthEncoding, **stated: Any) -> DepthEncoding:
    """The encoding with the stated values instead of its own; None states nothing."""
    return replace(encoding, **{key: value for key, value in stated.items() if value is not None})


def to_z_depth(
    values: npt.NDArray[np.float32], meaning: DepthMeaning, norms: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Planar depth of a map (H, W) that holds planar depth or ray distance; `norms` (H, W) is their ratio."""
    return values / norms if meaning == "ray_distance" else values
