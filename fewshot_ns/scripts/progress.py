"""Long work in parts: each part with a bar on the screen, and a record by which a later run knows that it is done."""

from __future__ import annotations

import functools
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fewshot_ns.utils.files import write_json
from fewshot_ns.utils.hashing import json_hash, sha256_hex


def content_key(*parts: Any) -> str:
    """A short hash of values that JSON can hold: equal for equal work."""
    return json_hash(parts, sort_keys=True)[:16]


@functools.lru_cache(maxsize=1)
def source_key() -> str:
    """A hash of this package's code (but for the commands) and of the libraries that decide a training's result.

    Work that an older version has done is done anew after an upgrade, and after every edit of the code. It is taken
    once per process, so that an edit meanwhile does not tear one command's work apart.
    """
    from importlib.metadata import PackageNotFoundError, version

    package = Path(__file__).resolve().parent.parent
    parts: List[Union[str, bytes]] = []
    for file in sorted(file for file in package.rglob("*.py") if "scripts" not in file.relative_to(package).parts):
        parts += [str(file.relative_to(package)), file.read_bytes()]
    for library in ("nerfstudio", "torch", "numpy"):
        try:
            parts.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            parts.append(f"{library} without metadata")
    return sha256_hex(parts)[:16]


@dataclass(frozen=True)
class StageRecord:
    """The file that says that a part is done, for which configuration, and what it cost."""

    path: Path
    """A JSON file that is written when the part is complete."""
    key: str
    """Content hash of everything that the part's result depends on."""
    outputs: Sequence[Path] = ()
    """Files that must be there for the part to count as done."""

    def read(self) -> Optional[Dict[str, Any]]:
        """The record of the same work done before, None where it has to be done (anew)."""
        try:
            record = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return None
        same = isinstance(record, dict) and record.get("key") == self.key
        return record if same and all(path.exists() for path in self.outputs) else None

    def write(self, seconds: float, **more: Any) -> None:
        """Records the part as done.

        Args:
            seconds: What it took, wall clock.
            more: Further values to keep.
        """
        write_json(self.path, {"key": self.key, "seconds": seconds, **more})


class Stage:
    """One part's line on the screen.

    Args:
        board: Where the line is.
        title: What is being done.
        total: Steps of the part.
    """

    def __init__(self, board: StageBoard, title: str, total: int) -> None:
        self.board = board
        self.title = title
        self.total = total
        self.done = 0
        self.task: TaskID = board.progress.add_task(title, total=total, note="")
        self._last_tenth = 0

    def update(self, done: int, total: Optional[int] = None, note: str = "") -> None:
        """Moves the bar.

        Args:
            done: Steps done.
            total: Steps in all, where that was not known before.
            note: A few words beside the bar.
        """
        self.done, self.total = done, self.total if total is None else total
        self.board.progress.update(self.task, completed=done, total=self.total, note=note)
        tenth = 10 * done // self.total if self.total else 10
        if not self.board.console.is_terminal and tenth > self._last_tenth:
            # A bar cannot be drawn into a file or a CI log; a line for each tenth can.
            self._last_tenth = tenth
            self.board.console.print(f"{self.title}: {done}/{self.total} {note}".rstrip(), highlight=False)

    def advance(self) -> None:
        """One step more."""
        self.update(self.done + 1)

    def finish(self, note: str = "") -> None:
        """Fills the bar."""
        self.update(self.total, note=note)


class StageBoard:
    """The list of parts on the screen, one bar each.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )

    @contextmanager
    def showing(self) -> Iterator[StageBoard]:
        """The list is alive within the block."""
        with self.progress:
            yield self

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Stage]:
        """A part that takes place within the block."""
        started = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"{title} ...", highlight=False)
        stage = Stage(self, title, total)
        yield stage
        if not self.console.is_terminal:
            self.console.print(f"{title}: done in {time.monotonic() - started:.0f} s", highlight=False)
        self.progress.stop_task(stage.task)

    def reused(self, title: str, seconds: float) -> None:
        """Shows a part that was done by an earlier run."""
        note = f"done before (took {seconds:.0f} s)"
        self.progress.stop_task(self.progress.add_task(title, total=1, completed=1, note=note))
        if not self.console.is_terminal:
            self.console.print(f"{title}: {note}", highlight=False)
