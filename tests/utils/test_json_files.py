"""JSON that anybody may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_ns.utils import json_files
from fewshot_ns.utils.json_files import (
    FILE_NAME,
    NUMBER,
    NUMBER_OR_TEXT,
    POSITIVE,
    SWITCH,
    TEXT,
    WHOLE,
    Kind,
    checked,
    is_file_name,
    list_of,
    numbers,
    one_of,
    read_json,
    read_json_object,
    shown_keys,
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_of_json(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.json"
    content = {"name": "Büro", "rows": [[1, 2.5, None], []], "on": True}
    file.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert read_json(file) == read_json_object(file) == content


def test_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    for text, message in (
        ("", "expected JSON, found"),
        ('{"a": 1, "a": 2}', "found 'a' twice"),
        ("[" * 33 + "]" * 33, "at most 32 levels"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"a\.json: .*{message}"):
            read_json(file)
    file.write_text("[" * 32 + "]" * 32)
    assert read_json(file)
    # Said twice, and the same.
    file.write_text('{"a": 1, "a": 1}')
    assert read_json(file) == {"a": 1}
    file.write_text("[]")
    with pytest.raises(ValueError, match="expected a JSON object, found list"):
        read_json_object(file)
    with pytest.raises(OSError, match="cannot be read"):
        read_json(tmp_path)
    with pytest.raises(OSError, match="cannot be read"):
        read_json(tmp_path / "none.json")
    monkeypatch.setattr(json_files, "MOST_BYTES", 1)
    with pytest.raises(ValueError, match="at most 0 MB"):
        read_json(file)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (NUMBER, (0, -1.5, 10**20), ("1", True, 10**400, float("nan"), [1])),
        (POSITIVE, (1, 1e-9), (0, -1, 1e-310, float("inf"))),
        (WHOLE, (0, 10**400), (1.0, True)),
        (TEXT, ("", "a"), (1,)),
        (SWITCH, (True, False), (0, "yes")),
        (
            FILE_NAME,
            ("a", "a/b.png", "./a", "../a", "C:\\a", "a/"),
            ("", "/", ".", "a/..", "\0", "x" * 256, "\ud800", 1),
        ),
        (one_of("a", "b"), ("a",), ("c", ["a"], 1)),
        (list_of(WHOLE, "whole numbers"), ([], [1]), ([1.5], 3, {"0": 1})),
        (
            numbers("a matrix", (2, -1)),
            ([[1], [2]], [[1, 2], [3, 4]]),
            ([[1], [2, 3]], [[True], [False]], [["1"], ["2"]]),
        ),
        (numbers("a matrix", (2,)), ([1, 2.5],), ([1, float("nan")], [1, None], [10**400, 1], [1], 1)),
    ],
)
def test_kinds(kind: Kind, good: Any, bad: Any) -> None:
    for value in good:
        assert checked({"key": value}, {"key": kind}, "file")["key"] == value
    for value in bad:
        with pytest.raises(ValueError, match=rf"file: expected {kind.words} for 'key', found "):
            checked({"key": value}, {"key": kind}, "file")


def test_numbers_as_text_become_numbers() -> None:
    taken = checked({"a": "1.5", "b": 2, "c": None, "d": None}, {**dict.fromkeys("abc", NUMBER_OR_TEXT)}, "file")
    assert taken == {"a": 1.5, "b": 2, "d": None}
    for word in ("", "wide", "nan", "1e999"):
        with pytest.raises(ValueError, match="expected a number for 'a'"):
            checked({"a": word}, {"a": NUMBER_OR_TEXT}, "file")


def test_keys_that_are_missing() -> None:
    with pytest.raises(ValueError, match=r"file: expected a number for 'a', found null"):
        checked({"a": None}, {"a": NUMBER}, "file", ("a",))
    with pytest.raises(ValueError, match=r"file: expected a number for 'a', found \['b', 'c'\]"):
        checked({"c": 1, "b": 2}, {"a": NUMBER}, "file", ("a",))
    assert len(shown_keys({str(number): 0 for number in range(10**5)})) < 200


def test_a_name_is_measured_as_the_system_does() -> None:
    assert is_file_name("ä" * 127) and not is_file_name("ä" * 128)
    assert is_file_name("/".join(["x" * 200] * 10)) and not is_file_name("/".join(["x" * 200] * 11))


def test_a_matrix_is_left_as_it_is() -> None:
    value = np.eye(3).tolist()
    assert checked({"a": value}, {"a": numbers("a matrix", (3, 3))}, "file")["a"] is value
