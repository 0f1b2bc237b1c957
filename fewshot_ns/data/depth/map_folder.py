"""A folder that a command fills with depth maps, whose note covers all that lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, FrozenSet, Optional, Sequence, Set

from fewshot_ns.data.depth.encoding import NOTE_NAME, write_note
from fewshot_ns.data.files.depth_formats import SUFFIXES
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.utils.json_files import is_file_name, read_json

_WRITTEN = ".npz"
"""Suffix of the maps that commands write."""


@dataclass(frozen=True)
class MapFolder:
    """A folder that may be written to."""

    path: Path
    """The folder; it need not exist."""
    writer: str
    """The command that writes."""
    before: FrozenSet[str]
    """Names of the maps that an earlier call of it has written there; paths below the folder, with slashes."""
    others: FrozenSet[str]
    """Names of maps of another origin that stay beside the new ones."""

    @classmethod
    def prepare(cls, path: Path, names: Sequence[str], writer: str, overwrite: bool) -> MapFolder:
        """Looks at a folder before anything is computed.

        Args:
            path: the folder.
            names: of the maps that may be written, paths below the folder.
            writer: the command that writes.
            overwrite: whether maps of another origin may be replaced, and others stay under the new note.

        Raises:
            ValueError: it holds files of another origin, or a note that cannot be read.
        """
        before = _covered(path, writer, careful=not overwrite)
        present = _names_in(path, {PurePosixPath(name).parent for name in (*names, *(before or ()))})
        if present and before is None and not overwrite:
            raise ValueError(
                f"{path}: expected an empty folder or maps of this command, found other files; give another "
                "--output, or --overwrite"
            )
        known = frozenset() if before is None else frozenset(name for name in before if (path / name).is_file())
        others = frozenset(name for name in present - known - set(names) if Path(name).suffix.lower() in SUFFIXES)
        if others and not overwrite:
            raise ValueError(
                f"{path}: expected no maps but those that its {NOTE_NAME} names and those of these views, since the "
                f"new note is about all, found {_some(others)}; remove them, give another --output, or --overwrite"
            )
        return cls(path, writer, known, others)

    def finish(self, encoding: DepthEncoding, names: Sequence[str], **more: Any) -> FrozenSet[str]:
        """Writes the note, and removes maps of an earlier call that it does not cover.

        Args:
            encoding: what the numbers of the new maps mean.
            names: of the new maps, which lie there.
            more: where they come from, for people.

        Returns:
            Names of what was removed.
        """
        write_note(self.path, encoding, written_by=self.writer, **more, files=list(names))
        gone = self.before - set(names)
        for name in gone:
            (self.path / name).unlink(missing_ok=True)
        return gone


def _covered(folder: Path, writer: str, careful: bool) -> Optional[FrozenSet[str]]:
    """Names of the maps that a folder's note says a command has written; None where it says nothing of it, and where
    it is damaged unless that is to be an error (`careful`)."""
    path = folder / NOTE_NAME
    if not path.is_file():
        return None
    try:
        note = read_json(path)
    except ValueError:
        if careful:
            raise
        return None
    if not isinstance(note, dict) or note.get("written_by") != writer:
        return None
    names = note.get("files")
    if not isinstance(names, list):
        # Earlier versions named the views, of which those may have a map that fitted; and none of plain maps.
        views = note.get("views")
        rows = [row for row in (views if isinstance(views, list) else []) if isinstance(row, dict)]
        names = [f"{Path(str(row.get('view'))).stem}{_WRITTEN}" for row in rows if row.get("written", True)]
    # A note can be edited, and nothing outside of its folder is anything that it covers.
    return frozenset(name for name in names if isinstance(name, str) and _inside(name) and name.endswith(_WRITTEN))


def _names_in(folder: Path, below: Set[PurePosixPath]) -> Set[str]:
    """What lies in a folder, and in some folders below it, by its path."""
    places = {folder, *(folder / path for path in below)}
    return {path.relative_to(folder).as_posix() for place in places if place.is_dir() for path in place.iterdir()}


def _inside(name: str) -> bool:
    """Whether a name is a plain path below its folder."""
    path = PurePosixPath(name)
    plain = path.as_posix() == name and "\\" not in name and is_file_name(name)
    return plain and not path.is_absolute() and ".." not in path.parts


def _some(names: FrozenSet[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
