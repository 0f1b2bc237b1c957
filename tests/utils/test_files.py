"""Files are whole or not there."""

import json
import os

import pytest

from fewshot_ns.utils.files import replacing, replacing_folder, write_json


def test_write_json_creates_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": [1, 2.5, None]})
    write_json(path, {"x": 3})
    assert json.loads(path.read_text()) == {"x": 3}
    assert os.listdir(path.parent) == ["b.json"]


def test_nan_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "b.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    assert os.listdir(tmp_path) == ["b.json"]


def test_an_error_while_writing_leaves_no_trace(tmp_path):
    path = tmp_path / "c.txt"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    folder = tmp_path / "below" / "scene"
    for number in range(2):
        with replacing_folder(folder) as fresh:
            (fresh / f"{number}.txt").write_text("whole")
            assert not (folder / f"{number}.txt").exists()
        assert os.listdir(folder) == [f"{number}.txt"]
    assert os.listdir(folder.parent) == ["scene"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_error_leaves_the_old_folder_as_it_was(tmp_path, overwrite):
    folder = tmp_path / "scene"
    with replacing_folder(folder, overwrite) as fresh:
        (fresh / "old.txt").touch()
    with pytest.raises(RuntimeError), replacing_folder(folder, overwrite) as fresh:
        (fresh / "half.txt").touch()
        raise RuntimeError
    assert os.listdir(tmp_path) == ["scene"] and os.listdir(folder) == ["old.txt"]


def test_without_overwrite_a_folder_with_files_stays(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "old.txt").touch()
    with pytest.raises(OSError), replacing_folder(folder, overwrite=False) as fresh:
        (fresh / "new.txt").touch()
    assert os.listdir(tmp_path) == ["run"] and os.listdir(folder) == ["old.txt"]
