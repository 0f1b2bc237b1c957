"""What killed processes leave half-written goes at the next start, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Set

import pytest

from fewshot_ns.utils import leftovers
from fewshot_ns.utils.files import replacing, replacing_folder, write_text
from fewshot_ns.utils.leftovers import is_running, partial_name, sweep

WRITER = """
import sys, time
from pathlib import Path
from fewshot_ns.utils.files import replacing, replacing_folder
folder = Path(sys.argv[1])
with replacing(folder / "weights.ckpt") as file, replacing_folder(folder / "scene") as fresh:
    file.write_text("half")
    (fresh / "half.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def start_writer(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.stdout.close()
    return process


@pytest.fixture
def dead() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> Set[str]:
    return {path.name for path in folder.iterdir()}


def named(name: str, process: int) -> str:
    """As another process of this machine would name it."""
    return partial_name(name).replace(f"-{os.getpid()}.", f"-{process}.")


def test_what_a_killed_process_was_writing_goes_with_the_next_write(tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "old.txt").write_text("whole")
    process = start_writer(tmp_path)
    try:
        assert len(names(tmp_path)) == 3
        sweep(tmp_path)
        # It runs: what it writes is its own.
        assert len(names(tmp_path)) == 3
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    leftovers._swept.discard(tmp_path)  # as in a new process
    write_text(tmp_path / "other.txt", "whole")
    assert names(tmp_path) == {"scene", "other.txt"} and names(tmp_path / "scene") == {"old.txt"}


def test_a_killed_process_that_nobody_asked_after_counts_as_ended(tmp_path: Path) -> None:
    process = start_writer(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while is_running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(process.pid) and is_running(os.getpid())
    process.wait()


def test_only_our_own_names_of_processes_that_have_ended_go(tmp_path: Path, dead: int) -> None:
    kept = [
        "a.partial",
        ".a.partial",
        ".a.12x.partial",
        "notes.12.partial",
        partial_name("mine"),
        f".other-machine.{'0000' if not named('x', 1).startswith('.x.0000') else '0001'}-{dead}.partial",
        f".earlier.{dead}.partial",
        ".a.b.c",
    ]
    gone = [named("weights.ckpt", dead), named("x" * 150, dead)]
    for name in (*kept, *gone):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert names(tmp_path) == set(kept)
    # After a day, what cannot be asked after has been forgotten.
    leftovers._swept.discard(tmp_path)
    for name in kept:
        os.utime(tmp_path / name, (time.time() - 90_000, time.time() - 90_000))
    sweep(tmp_path)
    assert names(tmp_path) == set(kept) - {kept[5], kept[6]}


@pytest.mark.parametrize("moved", [False, True])
def test_a_folder_that_was_being_replaced_is_put_back(tmp_path: Path, dead: int, moved: bool) -> None:
    partial = tmp_path / named("scene.ab12", dead)
    for name in ("old", "new") if moved else ("new",):
        (partial / name).mkdir(parents=True)
        (partial / name / f"{name}.txt").write_text("whole")
    if not moved:
        # Killed before the old folder was moved away: the new one may be half-written.
        (tmp_path / "scene").mkdir()
        (tmp_path / "scene" / "old.txt").write_text("whole")
    sweep(tmp_path)
    assert names(tmp_path) == {"scene"}
    assert names(tmp_path / "scene") == {"new.txt" if moved else "old.txt"}


def test_a_folder_is_looked_through_once(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scandir(path))
    for number in range(3):
        write_text(tmp_path / f"{number}.txt", "")
    assert looked.count(tmp_path) == 1


def test_what_cannot_be_removed_is_no_error(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / named("a", dead)).write_text("")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    sweep(tmp_path)
    sweep(tmp_path / "absent")


def test_threads_and_names_do_not_meet(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "a") as first, replacing_folder(tmp_path / "a") as second:
        assert first != second
    with replacing(tmp_path / "a.txt") as one, replacing(tmp_path / "b.txt") as other:
        assert one != other
        one.write_text("")
        other.write_text("")
