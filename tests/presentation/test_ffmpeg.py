"""The ffmpeg program that is put on PATH: found where there is none, left alone where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import imageio_ffmpeg
import pytest

from fewshot_ns.presentation.ffmpeg import ensure_ffmpeg_on_path

if sys.platform == "win32":
    pytest.skip("the tests build a POSIX program folder", allow_module_level=True)


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    """No ffmpeg on PATH, and a cache folder of our own."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_makes_a_program_that_runs(empty_path):
    assert shutil.which("ffmpeg") is None
    program = ensure_ffmpeg_on_path()
    assert program is not None and program == empty_path / "cache" / "fewshot_ns" / "bin" / "ffmpeg"
    assert shutil.which("ffmpeg") == str(program)
    text = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    assert text.startswith("ffmpeg version")
    assert [entry.name for entry in program.parent.iterdir()] == ["ffmpeg"]  # No temporary file stays behind.


def test_a_second_call_changes_nothing(empty_path):
    program = ensure_ffmpeg_on_path()
    path = os.environ["PATH"]
    assert ensure_ffmpeg_on_path() == program
    assert os.environ["PATH"] == path


def test_replaces_a_link_into_an_environment_that_is_gone(empty_path):
    folder = empty_path / "cache" / "fewshot_ns" / "bin"
    folder.mkdir(parents=True)
    (folder / "ffmpeg").symlink_to(empty_path / "gone" / "ffmpeg")
    program = ensure_ffmpeg_on_path()
    assert program is not None
    assert program.resolve() == type(program)(imageio_ffmpeg.get_ffmpeg_exe()).resolve()


def test_leaves_an_installed_program_alone(empty_path):
    own = empty_path / "bin" / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    path = os.environ["PATH"]
    assert ensure_ffmpeg_on_path() == own
    assert os.environ["PATH"] == path
    assert not (empty_path / "cache").exists()


def test_falls_back_where_the_cache_folder_cannot_be_made(empty_path, monkeypatch):
    (empty_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setattr("tempfile.tempdir", str(empty_path))
    program = ensure_ffmpeg_on_path()
    assert program is not None and program.parent.parent == empty_path
    assert shutil.which("ffmpeg") == str(program)
