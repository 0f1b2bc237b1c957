"""Photos that would both train and test: one file under two names, and copies with the same bytes."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.views.selection import ViewSelection
from fewshot_ns.utils.hashing import file_hash

_SHOWN = 3


def without_leakage(scene: SceneFiles, selection: ViewSelection, where: Path) -> SceneFiles:
    """Checks that no photo both trains and is held out. Views that the rule itself tests and trains on do not count.

    Args:
        scene: The scene.
        selection: Its views.
        where: Folder or file of the scene, for the message.

    Returns:
        The scene; with a remark and `equal_photos` where a held-out photo is a copy of one that trains, as captures
        with two exposures of one moment have them, or is listed under the same name in both splits.

    Raises:
        ValueError: two views, of which one trains and one is held out, are of the same file under two names.
    """
    train = set(selection.train)
    held_out = sorted({*selection.test, *(scene.validation or ())} - train)
    stats = {view: _stat(scene.images[view]) for view in (*selection.train, *held_out)}
    by_file: Dict[Tuple[int, int], List[int]] = defaultdict(list)
    by_size: Dict[int, List[int]] = defaultdict(list)
    for view in selection.train:
        found = stats[view]
        if found is not None:
            by_file[found.st_dev, found.st_ino].append(view)
            by_size[found.st_size].append(view)
    pairs = []
    for view in held_out:
        found = stats[view]
        if found is None:
            continue
        for other in by_file.get((found.st_dev, found.st_ino), ()) if found.st_ino else ():
            # Lists of a scene that name one photo by one name say so plainly, as in scenes that are to be memorised.
            named_alike = scene.images[view] == scene.images[other]
            if not named_alike and _is_one_file(scene.images[view], scene.images[other], found.st_nlink):
                raise ValueError(
                    f"{where}: expected held-out photos that do not train, found one file under two names, "
                    f"{scene.images[other]} (view {other}, which trains) and {scene.images[view]} (view {view}, which "
                    "is held out); remove one of the two views, or choose others (--train-indices, --test-indices)"
                )
        alike = [other for other in by_size.get(found.st_size, ()) if _same_bytes(scene, view, other)]
        pairs += [(scene.photos[view].name, scene.photos[other].name) for other in alike[:1]]
    if not pairs:
        return scene
    shown = ", ".join(f"{view} is {other}" for view, other in pairs[:_SHOWN])
    more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    remark = (
        f"{where}: {len(pairs)} of {len(held_out)} held-out photos have the same bytes as one that trains ({shown}"
        f"{more}): their figures say nothing of new views; remove one of each two"
    )
    return replace(scene, remarks=(*scene.remarks, remark), equal_photos=tuple(pairs))


def _stat(path: Path) -> Optional[os.stat_result]:
    try:
        return path.stat()
    except OSError:
        # A photo that is not there is an error, or left out, where it is read.
        return None


def _is_one_file(one: Path, other: Path, links: int) -> bool:
    """Whether two names of one file are spellings or symbolic links, not hard links, which are copies to a user."""
    return links == 1 or os.path.realpath(one) == os.path.realpath(other)


def _same_bytes(scene: SceneFiles, one: int, other: int) -> bool:
    return file_hash(scene.images[one]) == file_hash(scene.images[other])
