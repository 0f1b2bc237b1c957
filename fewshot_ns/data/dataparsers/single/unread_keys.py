"""What is said of keys of a `transforms*.json` about depth and masks that are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Collection, Dict, Iterable, Iterator, Mapping, Tuple

from fewshot_ns.data.depth.stated_unit import UNIT_KEYS, holds_whole_numbers, named_depth_map
from fewshot_ns.data.files.photo_files import named_file
from fewshot_ns.data.files.transforms_keys import FRAME_FILES
from fewshot_ns.data.files.transforms_other_words import plain_key
from fewshot_ns.utils.json_files import is_number
from fewshot_ns.utils.shown_values import shown

_UNIT_WORDS = ("scale", "factor", "unit", "divisor", "divider")
_INSTEAD = {
    "mask": "masks go by 'mask_path' or --training-mask-dir",
    "depth": "depth maps go by 'depth_file_path' or --depth-dir",
}
"""Parts of the names of keys, and what is read instead of them."""


def unread_keys(meta: Dict[str, Any], path: Path, folder: Path) -> Tuple[str, ...]:
    """Remarks about what a file states in words that are not read.

    Args:
        meta: Content of the file.
        path: The file, for messages.
        folder: That names of files are relative to.
    """
    found: Dict[str, str] = {}
    for stated in (meta, *meta["frames"]):
        for key, value in _units(stated):
            found.setdefault(
                key,
                f"{path}: {key!r} ({shown(value)}) is not read, since programs mean different things by it; "
                "--depth-unit says what a stored unit of depth is",
            )
    files = unread_files((meta, *meta["frames"]), path, folder, _INSTEAD, FRAME_FILES)
    return (*found.values(), *files.values(), *_unit_of_fractions(meta, path, folder))


def unread_files(
    stated: Iterable[Mapping[str, Any]],
    path: Path,
    folder: Path,
    instead: Mapping[str, str],
    read: Collection[str] = (),
) -> Dict[str, str]:
    """Remarks about masks and depth maps that a file names under keys which are not read, by the key.

    Args:
        stated: What the file says of the whole and of its frames.
        path: The file, for messages.
        folder: That names of files are relative to.
        instead: For masks ('mask') and for depth maps ('depth') what a user can do.
        read: Keys that are read.
    """
    found: Dict[str, str] = {}
    for values in stated:
        for key, value in values.items():
            kind = next((part for part in instead if part in plain_key(key)), None)
            if kind is None or key in read or key in found or not isinstance(value, str) or not value:
                continue
            if _names_a_file(folder, value):
                found[key] = f"{path}: files under {key!r}, such as {shown(value)}, are not read; {instead[kind]}"
    return found


def _names_a_file(folder: Path, value: str) -> bool:
    try:
        return (folder / named_file(folder, value)).is_file()
    except (OSError, ValueError):
        # Masks themselves, say, as a text that is too long for a name.
        return False


def _unit_of_fractions(meta: Dict[str, Any], path: Path, folder: Path) -> Tuple[str, ...]:
    """What is said of a unit that is stated of maps which hold no whole numbers."""
    keys = [key for key in UNIT_KEYS if any(key in stated for stated in (meta, *meta["frames"]))]
    names = [name for frame in meta["frames"] if (name := named_depth_map(frame)) is not None]
    there = next((name for name in names if (folder / name).is_file()), None)
    if not keys or there is None or holds_whole_numbers(folder / there):
        return ()
    return (
        f"{path}: {keys[0]!r} is of depth maps of whole numbers, and {there} holds fractions, to which it is not "
        "applied; where it holds for them, give --depth-unit",
    )


def _units(stated: Dict[str, Any]) -> Iterator[Tuple[str, Any]]:
    """Place and value of each number that may be a unit of depth."""
    for key, value in stated.items():
        plain = plain_key(key)
        if "depth" not in plain or key in UNIT_KEYS:
            continue
        if isinstance(value, dict):
            inner = ((f"{key}.{name}", entry, plain_key(str(name))) for name, entry in value.items())
        else:
            inner = iter([(key, value, plain)])
        for place, entry, words in inner:
            if is_number(entry) and any(word in words for word in _UNIT_WORDS):
                yield place, entry
