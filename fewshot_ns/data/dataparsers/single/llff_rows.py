"""Which photo of an LLFF capture each row of `poses_bounds.npy` is of, where there is not one for each."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from fewshot_ns.data.dataparsers.single.left_out import NO_PHOTO, NO_POSE, OnMissing
from fewshot_ns.data.files.colmap import find_model, read_model
from fewshot_ns.data.files.images import list_images


class RowPhotos(NamedTuple):
    """The photos of a capture in the order of its rows."""

    images: Tuple[Path, ...]
    """(N) photos; one that is missing, where it is expected."""
    left_out: Mapping[str, int]
    """What was skipped, see `SceneFiles.left_out`."""


class _Names(NamedTuple):
    """Names of the photos of all rows, without suffix, in their order."""

    stems: Sequence[str]
    source: str
    """What says so."""
    sure: bool
    """Whether it is said, and not only likely."""


def photos_of_rows(
    photos: Tuple[Path, ...], count: int, path: Path, folders: Sequence[str], on_missing: Optional[OnMissing]
) -> RowPhotos:
    """The photos of the rows: by order where there are as many, else by the names that the rows were made with, which
    COLMAP's model beside them or another folder of photos tells, or numbers in names.

    Args:
        photos: Photos of the folder that is read, sorted by name.
        count: N rows.
        path: poses_bounds.npy, beside which the other folders lie.
        folders: Names of folders that may hold the same photos in other sizes.
        on_missing: What the user wants; None skips where names are said, and stops where only numbers speak.

    Raises:
        ValueError: the numbers differ, and the user wants to stop or nothing tells which photo is whose.
    """
    if len(photos) == count:
        return RowPhotos(photos, {})
    own = {photo.stem: photo for photo in photos}
    names = None if len(own) < len(photos) else _names_of_rows(own, count, path.parent, folders)
    if names is None or on_missing == "stop" or (on_missing is None and not names.sure):
        way = "" if names is None else f"; {names.source} which are missing, --on-missing skip goes on without them"
        raise ValueError(
            f"{path}: expected one row per photo, found {count} rows and {len(photos)} in {photos[0].parent}{way}"
        )
    images = tuple(own.get(stem, photos[0].with_name(f"{stem}{photos[0].suffix}")) for stem in names.stems)
    lacking = sum(stem not in own for stem in names.stems)
    unplaced = len(own) - (count - lacking)
    counts = {NO_PHOTO: lacking, NO_POSE: unplaced}
    return RowPhotos(images, {what: number for what, number in counts.items() if number})


def _names_of_rows(own: Mapping[str, Path], count: int, scene: Path, folders: Sequence[str]) -> Optional[_Names]:
    registered = _registered(scene)
    # Of photos that were renamed since, such as image000.png, the names say nothing.
    if len(registered) == count and 2 * sum(stem in own for stem in registered) >= count:
        return _Names(registered, "COLMAP's model tells", sure=True)
    for folder in folders:
        files = list_images(scene / folder) if (scene / folder).is_dir() and any((scene / folder).iterdir()) else ()
        stems = [file.stem for file in files]
        if len(stems) == count == len(set(stems)) and {*own} < {*stems}:
            return _Names(stems, f"{folder} tells", sure=True)
    numbered = _numbered([*own], count)
    return None if numbered is None else _Names(numbered, "numbers in their names tell", sure=False)


def _registered(scene: Path) -> Sequence[str]:
    """Names of COLMAP's images in the order of LLFF's rows, without suffix; empty without a model, or of one that tells
    nothing."""
    try:
        model = find_model(scene)
        names = [] if model is None else sorted(read_model(model).images)
    except (OSError, ValueError):
        return ()
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in names]
    return stems if len({*stems}) == len(stems) else ()


def _numbered(stems: Sequence[str], count: int) -> Optional[Sequence[str]]:
    """Names of which some are missing, where all begin alike and end in a number below (or up to) `count`."""
    parts: Dict[int, str] = {}
    prefixes = set()
    for stem in stems:
        match = re.fullmatch(r"(.*?)(\d+)", stem)
        if match is None:
            return None
        prefixes.add(match[1])
        parts[int(match[2])] = match[2]
    if len(prefixes) > 1 or len(parts) >= count or len(parts) < len(stems):
        return None
    # Whether numbers begin at 0 or at 1 shows where the first or the last photo is there.
    first = 0 if 0 in parts else 1
    if max(parts) > count - 1 + first or (first == 1 and count not in parts):
        return None
    widths = {len(digits) for digits in parts.values()}
    padded = any(str(number) != digits for number, digits in parts.items())
    # Of 10 and 11 alone nothing shows if the others are 01 or 1, which sort otherwise.
    if len(widths) > 1 if padded else widths == {len(str(count - 1 + first))} != {len(str(first))}:
        return None
    width = max(widths) if padded else 0
    prefix = prefixes.pop()
    return sorted(f"{prefix}{number:0{width}d}" for number in range(first, first + count))
