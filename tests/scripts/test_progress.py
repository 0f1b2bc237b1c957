"""Records by which finished work is known again, and the lines that show progress."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fewshot_ns.scripts.progress import StageBoard, StageRecord, content_key, source_key


def test_work_is_known_again_only_when_nothing_has_changed(tmp_path):
    output = tmp_path / "result.bin"
    record = StageRecord(tmp_path / "record.json", content_key("train", 3, {"lr": 0.1}), (output,))
    assert record.read() is None
    output.write_bytes(b"x")
    record.write(1.5, command=["a", "b"])
    assert record.read() == {"key": record.key, "seconds": 1.5, "command": ["a", "b"]}
    assert StageRecord(record.path, content_key("train", 4, {"lr": 0.1}), (output,)).read() is None
    output.unlink()
    assert record.read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_record_counts_as_none(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    assert StageRecord(tmp_path / "record.json", "key").read() is None


def test_keys_do_not_depend_on_the_order_of_names():
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1}) != content_key({"a": 2, "b": 1})
    assert len(source_key()) == 16 and source_key() == source_key()


def test_without_a_terminal_every_tenth_gets_a_line():
    stream = io.StringIO()
    board = StageBoard(Console(file=stream, force_terminal=False, width=80))
    with board.showing(), board.stage("train", 1000) as stage:
        for step in range(0, 1000, 10):
            stage.update(step)
    board.reused("evaluate", 12.3)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train ..." and lines[-1] == "evaluate: done before (took 12 s)"
    assert "train: 500/1000" in lines and len(lines) == 12


def test_on_a_terminal_there_is_one_bar_per_part():
    stream = io.StringIO()
    board = StageBoard(Console(file=stream, force_terminal=True, width=100))
    with board.showing():
        with board.stage("train", 4) as stage:
            stage.advance()
            stage.finish("14.2 dB")
    text = stream.getvalue()
    assert "train" in text and "4/4" in text and "14.2 dB" in text
