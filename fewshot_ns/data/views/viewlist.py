"""Lists of source views per object, in the text format of pixelNeRF's evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Tuple

from fewshot_ns.data.records.scene import SceneError
from fewshot_ns.utils.reading import read_text
from fewshot_ns.utils.shown_values import shown


@dataclass(frozen=True)
class Viewlist:
    """Source views by category and object."""

    path: Path
    """The file."""
    views: Dict[Tuple[str, str], Tuple[int, ...]]
    """Views by (category, object)."""
    lines: Dict[Tuple[str, str], int]
    """Line of each object in the file, from 1."""

    def views_of(self, category: str, scene_id: str) -> Tuple[Tuple[int, ...], str]:
        """Views of a scene, and 'FILE line N' where they stand.

        Args:
            category: Of the scene; '' where its dataset has none, which then matches any category of the file.
            scene_id: 'object' or 'category/object'.

        Raises:
            SceneError: the file does not list the object, or lists it in several categories that cannot be told apart.
        """
        name = scene_id.rsplit("/", 1)[-1]
        keys = [(category, name)] if category else [key for key in self.views if key[1] == name]
        keys = [key for key in keys if key in self.views]
        if len(keys) != 1:
            what = f"'{category or '<category>'} {name} <views>'"
            found = "none" if not keys else f"lines {', '.join(str(self.lines[key]) for key in keys)}"
            raise SceneError(f"{self.path}: expected one line {what} in {len(self.views)} lines, found {found}")
        return self.views[keys[0]], f"{self.path} line {self.lines[keys[0]]}"


def read_viewlist(path: Path) -> Viewlist:
    """Reads lines '<category> <object> <view> ...'; empty lines are skipped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that says something else, or an object that is listed twice; with its line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a list of source views, found no such file")
    views: Dict[Tuple[str, str], Tuple[int, ...]] = {}
    lines: Dict[Tuple[str, str], int] = {}
    expected = "expected '<category> <object> <view> ...' with views from 0"
    text = read_text(path)
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) < 3 or not all(word.isdecimal() for word in words[2:]):
            raise ValueError(f"{path} line {number}: {expected}, found {shown(line.strip())}")
        key = (words[0], words[1])
        if key in views:
            raise ValueError(f"{path} line {number}: expected each object once, found {words[1]} in line {lines[key]}")
        views[key], lines[key] = tuple(int(word) for word in words[2:]), number
    if not views:
        raise ValueError(f"{path}: {expected}, found an empty file")
    return Viewlist(path, views, lines)
