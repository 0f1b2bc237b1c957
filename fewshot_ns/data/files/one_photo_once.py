"""Photos that a scene has twice under different names: links, and paths that lead to the same file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Hashable, Optional, Sequence


def file_identity(path: Path) -> Hashable:
    """What two paths have in common that lead to the same file, by links of either kind or by another spelling; of
    a file that is not there, its path without detours."""
    try:
        status = path.stat()
    except OSError:
        return os.path.normpath(path)
    return status.st_dev, status.st_ino


def check_one_name_each(images: Sequence[Path], lists: Optional[Sequence[int]], where: Path) -> None:
    """Checks that no photo comes twice under two names in one list of photos.

    Args:
        images: N files.
        lists: Lengths of the lists that they are joined from, such as splits, which may share photos; None: one list.
        where: Folder or file of the scene.

    Raises:
        ValueError: two names of one file; names both.
    """
    start = 0
    for length in (len(images),) if lists is None else lists:
        first: Dict[Hashable, Path] = {}
        for image in images[start : start + length]:
            other = first.setdefault(file_identity(image), image)
            if str(other) != str(image):
                raise ValueError(
                    f"{where}: expected each photo once, found one file under two names: {_below(other, where)} and "
                    f"{_below(image, where)} (a link, or another spelling of the path); remove one of them"
                )
        start += length


def _below(file: Path, where: Path) -> str:
    folder = where if where.is_dir() else where.parent
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)
