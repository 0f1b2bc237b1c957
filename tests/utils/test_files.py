"""Files are whole or not there."""

import json
import os

import pytest

from fewshot_ns.utils.files import replacing, write_json


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
