"""Lists of a DVR data set that train on some categories and test on the others: pixelNeRF's `gen_*.lst`.

Which objects they hold follows from the published list of source views, `src_gen.txt`: its 25464 lines are as many as
the ten categories that do not train have objects in all three splits. The authors' own script was not at hand.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from fewshot_ns.data.dataparsers.multi.dvr import read_list
from fewshot_ns.utils.files import write_text

TRAINED = ("02691156", "02958343", "03001627")
"""Airplanes, cars and chairs, by the names of their folders: what pixelNeRF trains on in this setting."""
PREFIX = "gen_"
"""Beginning of the names of the lists."""
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class UnseenLists:
    """What has been listed."""

    counts: Dict[str, int]
    """Objects of each split."""
    trained: Tuple[str, ...]
    """Categories that train."""
    tested: Tuple[str, ...]
    """Categories that test."""


def write_unseen_lists(
    data: Path,
    trained: Sequence[str] = TRAINED,
    whole_test: bool = True,
    of_prefix: str = "softras_",
    prefix: str = PREFIX,
    overwrite: bool = False,
) -> UnseenLists:
    """Writes PREFIXtrain.lst and PREFIXval.lst of categories that train, PREFIXtest.lst of all others.

    Args:
        data: folder of the data set, with a folder for each category.
        trained: names of the folders of the categories that train.
        whole_test: whether all objects of the other categories test, as published, not those of their test list alone.
        of_prefix: beginning of the names of the lists that the objects are taken from.
        prefix: beginning of the names of the lists that are written.
        overwrite: whether lists of other content are replaced, and lists that these have no use for removed.

    Raises:
        FileNotFoundError: no such folder, or a category that lacks a list.
        ValueError: an unknown category, none that tests, the same prefix twice, or lists of other content are there.
    """
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: expected the folder of a data set, found nothing")
    if prefix == of_prefix:
        raise ValueError(f"{data}: expected another --prefix than that of the lists that are read, found {prefix!r}")
    with os.scandir(data) as found:
        folders = sorted(item.name for item in found if item.is_dir())
    categories = [name for name in folders if any((data / name / f"{of_prefix}{one}.lst").is_file() for one in _SPLITS)]
    unknown = sorted(set(trained) - set(categories))
    tested = [name for name in categories if name not in set(trained)]
    if unknown or not trained:
        listed = ", ".join(categories) or f"those with {of_prefix}*.lst, of which there are none"
        raise ValueError(
            f"{data}: expected categories that train out of {listed}, found {', '.join(unknown) or 'none'} (--train)"
        )
    if not tested:
        raise ValueError(f"{data}: expected a category that does not train, found none beside {', '.join(trained)}")
    lists: Dict[Path, List[str]] = {}
    for name in categories:
        splits = ("train", "val") if name in set(trained) else ("test",)
        for split in splits:
            sources = _SPLITS if split == "test" and whole_test else (split,)
            objects = [one for source in sources for one in _objects(data / name / f"{of_prefix}{source}.lst")]
            lists[data / name / f"{prefix}{split}.lst"] = objects
    _write(lists, [data / name / f"{prefix}{split}.lst" for name in categories for split in _SPLITS], overwrite)
    counts = {
        split: sum(len(objects) for path, objects in lists.items() if path.name == f"{prefix}{split}.lst")
        for split in _SPLITS
    }
    return UnseenLists(counts, tuple(trained), tuple(tested))


def _objects(path: Path) -> List[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the list of this split, found no such file")
    return read_list(path)


def _write(lists: Dict[Path, List[str]], possible: Sequence[Path], overwrite: bool) -> None:
    """Writes lists; of those that may be there, others than these are in the way."""
    for path in possible:
        if path.is_file() and not overwrite and (path not in lists or read_list(path) != lists[path]):
            raise ValueError(f"{path}: expected no list of other content, found one; give --overwrite or --prefix")
    for path in possible:
        if path not in lists:
            path.unlink(missing_ok=True)
        elif not path.is_file() or read_list(path) != lists[path]:
            write_text(path, "".join(f"{name}\n" for name in lists[path]))
