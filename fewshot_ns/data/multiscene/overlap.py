"""Scenes of many that both train and test, as where one object stands in two lists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

from fewshot_ns.data.records.scene import SceneEntry

_SHOWN = 3


def scenes_in_both(train: Iterable[SceneEntry], test: Iterable[SceneEntry]) -> Tuple[str, ...]:
    """Names of the scenes of `test` whose folder is one of `train`, by whatever link it is reached."""
    parents: Dict[Path, str] = {}

    def place(entry: SceneEntry) -> Tuple[str, str]:
        # Only folders of scenes are looked up, of which there are few.
        parent = entry.folder.parent
        if parent not in parents:
            parents[parent] = os.path.realpath(parent)
        return parents[parent], entry.folder.name

    trained = {place(entry) for entry in train}
    return tuple(entry.scene_id for entry in test if place(entry) in trained)


def overlap_words(where: Path, both: Tuple[str, ...], count: int) -> str:
    """What is said of scenes that train and test.

    Args:
        where: Folder of the data set.
        both: Their names.
        count: Number of scenes that test.
    """
    shown: List[str] = [*both[:_SHOWN], *([f"{len(both) - _SHOWN} more"] if len(both) > _SHOWN else [])]
    return (
        f"{where}: {len(both)} of {count} scenes that test also train ({', '.join(shown)}): their figures say nothing "
        "of new scenes; remove them from one of the lists"
    )
