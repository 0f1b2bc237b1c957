"""A folder that a command fills with depth maps, whose note covers all that lies in it.

New maps are written aside and put in place together: whenever the command ends, the folder holds the old set whole, the
new one whole, or a mixture whose note says so and which no reader takes.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, FrozenSet, Iterator, Optional, Sequence, Set

from fewshot_ns.data.depth.encoding import NOTE_NAME, write_incomplete_note, write_note
from fewshot_ns.data.files.depth_formats import SUFFIXES
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.utils.disk_space import saying_disk_full
from fewshot_ns.utils.json_files import is_file_name, read_json
from fewshot_ns.utils.locks import folder_to_itself

_WRITTEN = ".npz"
"""Suffix of the maps that commands write."""
_ASIDE = ".new-maps-"
"""How the folder of new maps begins, before the number of the process that writes them."""


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
    wanted: FrozenSet[str]
    """Names of the maps that may be written."""

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
        return cls(path, writer, known, others, frozenset(names))

    @contextmanager
    def new_maps(self) -> Iterator[Path]:
        """An empty folder for the new maps, which `finish` moves to their places; what is left in it goes.

        It lies in the folder itself, so that moving is renaming. One process at a time has it.

        Raises:
            FolderBusyError: another process writes maps there.
            ValueError: another one has written maps since `prepare`, which these neither replace nor remove.
            DiskFullError: there is no room for the new maps; the folder is as it was.
        """
        was_there = self.path.is_dir()
        with saying_disk_full(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with folder_to_itself(self.path):
            self._check_unchanged()
            with self._aside(was_there) as aside, saying_disk_full(self.path, aside):
                yield aside

    def _check_unchanged(self) -> None:
        now = _covered(self.path, self.writer, careful=False) or frozenset()
        foreign = frozenset(name for name in now - self.before - self.wanted if (self.path / name).is_file())
        if foreign:
            raise ValueError(
                f"{self.path}: expected the maps that were there when this call began, found others that another call "
                f"of {self.writer} has written since, {_some(foreign)}; call again, or give another --output"
            )

    @contextmanager
    def _aside(self, was_there: bool) -> Iterator[Path]:
        for left in self.path.glob(f"{_ASIDE}*"):
            number = left.name[len(_ASIDE) :]
            if number.isdecimal() and not _is_running(int(number)):
                shutil.rmtree(left, ignore_errors=True)
        aside = self.path / f"{_ASIDE}{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if not was_there and not any(self.path.iterdir()):
                self.path.rmdir()

    def finish(self, new: Path, encoding: DepthEncoding, names: Sequence[str], **more: Any) -> FrozenSet[str]:
        """Puts the new maps and their note in place, and removes maps of an earlier call that it does not cover.

        Args:
            new: folder of the new maps, see `new_maps`.
            encoding: what the numbers of the new maps mean.
            names: of the new maps.
            more: where they come from, for people.

        Returns:
            Names of what was removed that an earlier call has written.

        Raises:
            ValueError: a folder is called like a map; nothing has changed then.
        """
        folder = next((name for name in names if (self.path / name).is_dir()), None)
        if folder is not None:
            raise ValueError(f"{self.path / folder}: expected a file or nothing where a map goes, found a folder")
        write_incomplete_note(self.path, self.writer, files=sorted(self.before | self.wanted))
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, self.path / name)
        for name in (self.before | self.wanted) - set(names):
            if (self.path / name).is_file():
                (self.path / name).unlink()
        write_note(self.path, encoding, written_by=self.writer, **more, files=list(names))
        return self.before - set(names)


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
    files = (path for place in places if place.is_dir() for path in place.iterdir())
    return {path.relative_to(folder).as_posix() for path in files if not path.name.startswith(_ASIDE)}


def _is_running(number: int) -> bool:
    """Whether there may be a process of that number."""
    if os.name != "posix":
        # There the question would end the process.
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _inside(name: str) -> bool:
    """Whether a name is a plain path below its folder."""
    path = PurePosixPath(name)
    plain = path.as_posix() == name and "\\" not in name and is_file_name(name)
    return plain and not path.is_absolute() and ".." not in path.parts


def _some(names: FrozenSet[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
