"""What the header of a PLY file promises, held against the file before a library reads it.

Open3D allocates what a header says, and gives points of zeros where it could not read the rest.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

_MOST_HEADER = 1 << 16
_SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
_ASCII_LEAST = 2
"""Bytes of a number in text: a digit and what ends it."""


def count_vertices(path: Path) -> int:
    """Number of points of a PLY file, by its header.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no PLY of points x, y, z, or one that is too short for the points that its header promises.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a point cloud (PLY), found no such file")
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER)
    found = re.search(rb"(?:^|\n)end_header[ \t]*\r?\n", head)
    if not head.startswith(b"ply") or found is None:
        raise ValueError(f"{path}: expected a point cloud (PLY), found no header of one")
    lines = [line.split() for line in head[: found.start()].decode("ascii", "replace").splitlines()]
    kind = next((line[1] for line in lines if line[0:1] == ["format"] and len(line) > 1), "")
    count, properties, has_list = _vertices(lines)
    if count is None or not {"x", "y", "z"} <= {name for name, _ in properties}:
        raise ValueError(f"{path}: expected points with x, y and z, found a header without them")
    least = sum(_ASCII_LEAST if kind == "ascii" else size for _, size in properties)
    # The last number of a text need not be followed by anything.
    there = path.stat().st_size - found.end() + 1
    if count * least > there:
        raise ValueError(
            f"{path}: expected the {count} points of its header, found room for {max(there, 0) // max(least, 1)}: the "
            "file is cut or damaged"
        )
    if kind == "ascii" and not has_list:
        _check_numbers(path, found.end(), count * len(properties))
    return count


def _check_numbers(path: Path, start: int, wanted: int) -> None:
    """Checks that so many numbers follow a header in text."""
    with warnings.catch_warnings():
        # Of text that is no number, before which it stops.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = len(np.fromstring(path.read_bytes()[start:], sep=" "))
    if found < wanted:
        raise ValueError(f"{path}: expected the {wanted} numbers of its points, found fewer: the file is damaged")


def _vertices(lines: List[List[str]]) -> Tuple[Optional[int], List[Tuple[str, int]], bool]:
    """Number of vertices, name and least bytes of each of their properties, and whether one of these is a list."""
    count: Optional[int] = None
    has_list = False
    properties: List[Tuple[str, int]] = []
    element = ""
    for line in lines:
        if line[0:1] == ["element"] and len(line) == 3:
            element = line[1]
            if element == "vertex" and line[2].isdecimal():
                count = int(line[2])
        elif line[0:1] == ["property"] and element == "vertex" and len(line) > 2:
            # A list may be empty, but for its length.
            has_list |= line[1] == "list"
            properties.append((line[-1], 1 if line[1] == "list" else _SIZES.get(line[1], 1)))
    return count, properties, has_list
