"""What lies in a folder of maps beside its note: what may be removed, and what stops a command."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewshot_ns.data.depth.encoding import read_note
from fewshot_ns.data.depth.map_folder import MapFolder
from fewshot_ns.data.records.metadata import DepthEncoding

WRITER = "ns-fewshot depth"
ENCODING = DepthEncoding("distance", unit=1.0)


def fill(folder: Path, *names: str, **note: Any) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"map")
    if note:
        (folder / "depth.json").write_text(json.dumps({"written_by": WRITER, **note}))


def prepare(folder: Path, *names: str, overwrite: bool = False) -> MapFolder:
    return MapFolder.prepare(folder, names, WRITER, overwrite)


def test_what_the_last_note_covers_goes_and_nothing_else(tmp_path: Path) -> None:
    folder, outside = tmp_path / "maps", tmp_path / "c.npz"
    outside.write_bytes(b"map")
    edited = ["a.npz", "b.npz", "gone.npz", "../c.npz", str(outside), "read me.txt", 3]
    fill(folder, "a.npz", "b.npz", "read me.txt", files=edited)
    (folder / "sub.npz").mkdir()
    found = prepare(folder, "b.npz", "d.npz", "sub.npz")
    assert found.before == {"a.npz", "b.npz"} and found.others == frozenset()
    with found.new_maps() as new:
        fill(new, "b.npz", "d.npz")
        assert found.finish(new, ENCODING, ["b.npz", "d.npz"], model="net") == {"a.npz"}
    note = json.loads((folder / "depth.json").read_text())
    assert note["files"] == ["b.npz", "d.npz"] and note["written_by"] == WRITER and note["model"] == "net"
    assert {path.name for path in folder.iterdir()} == {"b.npz", "d.npz", "read me.txt", "depth.json", "sub.npz"}
    assert outside.is_file()


@pytest.mark.parametrize(
    "note, before",
    [
        ({"views": [{"view": "a.png", "valid": 0.5}, {"view": "b.jpg", "written": False}]}, {"a.npz"}),
        ({"model": "net"}, set()),
        ({"views": "all", "files": None}, set()),
    ],
)
def test_notes_of_earlier_versions(tmp_path: Path, note: Any, before: Any) -> None:
    folder = tmp_path / "maps"
    fill(folder, *sorted(before), **note)
    assert prepare(folder, "x.npz").before == before
    fill(folder, "y.npz")
    with pytest.raises(ValueError, match=r"maps: expected no maps but .* found y\.npz; remove them"):
        prepare(folder, "x.npz")
    assert prepare(folder, "y.npz").others == frozenset(), "a map of these views is replaced"
    assert prepare(folder, "x.npz", overwrite=True).others == {"y.npz"}


@pytest.mark.parametrize("note", ['{"written_by": "someone"}', "[]", None])
def test_a_folder_of_another_origin(tmp_path: Path, note: Any) -> None:
    folder = tmp_path / "maps"
    fill(folder, "a.npz", "a.png")
    if note is not None:
        (folder / "depth.json").write_text(note)
    with pytest.raises(ValueError, match="maps: expected an empty folder or maps of this command, found other files"):
        prepare(folder, "a.npz")
    found = prepare(folder, "a.npz", overwrite=True)
    assert found.before == frozenset() and found.others == {"a.png"}
    with found.new_maps() as new:
        fill(new, "a.npz")
        assert found.finish(new, ENCODING, ["a.npz"]) == frozenset() and (folder / "a.png").is_file()


def test_a_damaged_note_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    assert prepare(folder, "a.npz").before == frozenset()
    fill(folder, "a.npz")
    (folder / "depth.json").write_text("{")
    with pytest.raises(ValueError, match=r"depth\.json: expected JSON"):
        prepare(folder, "a.npz")
    assert prepare(folder, "a.npz", overwrite=True).before == frozenset()


OLD, NEW = {"a.npz": b"old a", "b.npz": b"old b"}, {"b.npz": b"new b", "sub/c.npz": b"new c"}


def _with_old_set(folder: Path) -> Path:
    folder.mkdir()
    for name, content in OLD.items():
        (folder / name).write_bytes(content)
    (folder / "depth.json").write_text(json.dumps({"written_by": WRITER, "unit": 1.0, "files": list(OLD)}))
    return folder


def _replace_maps(folder: Path) -> None:
    found = prepare(folder, *NEW)
    with found.new_maps() as new:
        for name, content in NEW.items():
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_bytes(content)
        found.finish(new, DepthEncoding("distance", unit=2.0), list(NEW))


def _maps(folder: Path) -> Any:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.npz")}


def _is_whole_or_refused(folder: Path) -> bool:
    """Whether the set is one of the two, under its own note; False where its note says that it is a mixture."""
    try:
        unit = read_note(folder)["unit"]
    except ValueError as error:
        assert "depth.json" in str(error) and "was interrupted" in str(error)
        return False
    visible = {name: content for name, content in _maps(folder).items() if not name.startswith(".")}
    assert visible == {1.0: OLD, 2.0: NEW}[unit]
    return True


def test_an_error_half_way_leaves_the_old_set(tmp_path: Path) -> None:
    folder = _with_old_set(tmp_path / "maps")
    found = prepare(folder, *NEW)
    with pytest.raises(OSError, match="disk"), found.new_maps() as new:
        (new / "b.npz").write_bytes(b"new b")
        raise OSError("disk full")
    assert _maps(folder) == OLD and read_note(folder) == {"unit": 1.0}
    assert {path.name for path in folder.iterdir()} == {*OLD, "depth.json"}
    fresh = prepare(tmp_path / "fresh", "a.npz")
    with pytest.raises(OSError, match="disk"), fresh.new_maps():
        raise OSError("disk full")
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("step", range(6))
def test_wherever_it_stops_the_set_is_whole_or_refused(tmp_path: Path, step: int, monkeypatch: Any) -> None:
    """Renames: the note that says incomplete, two maps, the new note; stopped before each, and before none."""
    folder, renames, rename = _with_old_set(tmp_path / "maps"), [], os.replace

    def stopping(source: Any, target: Any) -> None:
        if len(renames) == step:
            raise KeyboardInterrupt
        renames.append(target)
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        if step < 4:
            with pytest.raises(KeyboardInterrupt):
                _replace_maps(folder)
        else:
            _replace_maps(folder)
    assert _is_whole_or_refused(folder) == (step in (0, 4, 5))
    # The next call goes through, and leaves nothing of the one that stopped.
    _replace_maps(folder)
    assert _is_whole_or_refused(folder) and _maps(folder) == NEW
    assert {path.name for path in folder.iterdir()} == {"b.npz", "sub", "depth.json"}


def test_a_killed_call_leaves_the_old_set_and_its_rest_goes(tmp_path: Path) -> None:
    folder = _with_old_set(tmp_path / "maps")
    code = f"""
import os, signal, sys
from pathlib import Path
from fewshot_ns.data.depth.map_folder import MapFolder
with MapFolder.prepare(Path({str(folder)!r}), ["b.npz"], {WRITER!r}, False).new_maps() as new:
    (new / "b.npz").write_bytes(b"new b")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert _is_whole_or_refused(folder) and any(path.name.startswith(".new-maps-") for path in folder.iterdir())
    _replace_maps(folder)
    assert _maps(folder) == NEW and not any(path.name.startswith(".") for path in folder.iterdir())


def test_a_folder_where_a_map_goes_changes_nothing(tmp_path: Path) -> None:
    folder = _with_old_set(tmp_path / "maps")
    (folder / "sub").mkdir()
    (folder / "sub" / "c.npz").mkdir()
    with pytest.raises(ValueError, match=r"c\.npz: expected a file or nothing where a map goes"):
        _replace_maps(folder)
    assert read_note(folder) == {"unit": 1.0} and (folder / "b.npz").read_bytes() == b"old b"
