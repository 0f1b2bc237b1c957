"""Scenes that both train and test are found, by whatever link."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_ns.data.dataparsers.multi.multi_object import MultiObjectDataParserConfig
from fewshot_ns.data.multiscene.overlap import overlap_words, scenes_in_both
from fewshot_ns.data.records.scene import SceneEntry


def _entries(folder: Path, *names: str) -> list:
    return [SceneEntry(name, "", folder / name) for name in names]


def test_lists_that_share_scenes(tmp_path: Path) -> None:
    train = _entries(tmp_path, "a", "b", "c")
    assert scenes_in_both(train, _entries(tmp_path, "d", "e")) == ()
    assert scenes_in_both(train, _entries(tmp_path, "c", "d", "a")) == ("c", "a")
    # Of the same name in another folder.
    assert scenes_in_both(train, _entries(tmp_path / "test", "a")) == ()


def test_a_folder_of_a_split_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").symlink_to("train")
    assert scenes_in_both(_entries(tmp_path / "train", "a"), _entries(tmp_path / "test", "a", "b")) == ("a",)


def test_words_name_few(tmp_path: Path) -> None:
    words = overlap_words(tmp_path, ("a", "b", "c", "d", "e"), 9)
    assert words.startswith(f"{tmp_path}: 5 of 9 scenes") and "a, b, c, 2 more" in words


def test_a_folder_without_cameras_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b/c"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "a" / "transforms.json").write_text("{}")
    (tmp_path / "train" / "a" / "images").mkdir()
    table = MultiObjectDataParserConfig(data=tmp_path).setup().scene_table("train")
    said = " ".join(capsys.readouterr().out.split())
    assert [entry.scene_id for entry in table] == ["a"]
    assert "1 folders without transforms.json" in said and "b/c" in said and "images" not in said
