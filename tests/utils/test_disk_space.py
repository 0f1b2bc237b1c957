"""A disk without room is said as that, with the file that was to be written; other errors stay as they are."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_ns.engine.error_lines import is_of_this_package
from fewshot_ns.utils.checkpoints import save_checkpoint
from fewshot_ns.utils.disk_space import DiskFullError, full_disk_words, saying_disk_full
from fewshot_ns.utils.files import replacing, replacing_folder, write_text
from fewshot_ns.utils.leftovers import partial_name

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_file_and_the_room_that_is_left_are_named(tmp_path: Path, number: int) -> None:
    path = tmp_path / "below" / "a.txt"
    with pytest.raises(DiskFullError, match=r"a\.txt: .*the disk full.* MB are free in .*") as caught:
        with saying_disk_full(path):
            raise OSError(number, os.strerror(number))
    assert is_of_this_package(caught.value, caught.tb) and ("quota" in str(caught.value)) == (number == errno.EDQUOT)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_the_last_moment_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFullError, match=r"a\.txt: .*the disk full"):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_without_room_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFullError, match="b: .*the disk full"):
        with replacing_folder(tmp_path / "a" / "b"):
            pass
    with pytest.raises(DiskFullError, match=r"c\.txt: .*the disk full"):
        write_text(tmp_path / "a" / "c.txt", "")


def test_inside_a_folder_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=r"scene/a\.txt|scene: "):
        with replacing_folder(tmp_path / "scene") as fresh:
            with (fresh / "a.txt").open("w"):
                full()
    assert os.listdir(tmp_path) == []


@needs_dev_full
def test_what_torch_does_not_say_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.ckpt"
    (tmp_path / partial_name(path.name)).symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match="the disk full"):
        save_checkpoint(path, {"step": 1, "pipeline": {"w": torch.zeros(1000)}}, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error", [RuntimeError("another"), OSError("no number"), PermissionError(errno.EACCES, "denied"), ValueError("x")]
)
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, replacing(tmp_path / "a.txt"):
        raise error
    assert caught.value is error and full_disk_words(error) is None and os.listdir(tmp_path) == []


def test_words_without_a_path_are_those_of_the_error(tmp_path: Path) -> None:
    assert "a file of the run" in str(full_disk_words(OSError(errno.ENOSPC, "full")))
    assert "b.txt: expected room" in str(full_disk_words(OSError(errno.ENOSPC, "full", "b.txt")))
