"""What lies in a folder of maps beside its note: what may be removed, and what stops a command."""

import json
from pathlib import Path
from typing import Any

import pytest

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
    fill(folder, "d.npz")
    assert found.finish(ENCODING, ["b.npz", "d.npz"], model="net") == {"a.npz"}
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
    assert found.finish(ENCODING, ["a.npz"]) == frozenset() and (folder / "a.png").is_file()


def test_a_damaged_note_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    assert prepare(folder, "a.npz").before == frozenset()
    fill(folder, "a.npz")
    (folder / "depth.json").write_text("{")
    with pytest.raises(ValueError, match=r"depth\.json: expected JSON"):
        prepare(folder, "a.npz")
    assert prepare(folder, "a.npz", overwrite=True).before == frozenset()
