"""`ns-fewshot photos` before and beside its training: methods, what they need, flags, places, progress, errors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, List

import pytest
from rich.console import Console

from fewshot_ns import registry
from fewshot_ns.scripts.cli import main
from fewshot_ns.scripts.photos import PhotosCommand
from fewshot_ns.scripts.photos_training import (
    ProgressLines,
    check_method,
    check_needs,
    last_message,
    per_scene_methods,
    split_words,
)


def test_the_registry_knows_which_methods_train_across_scenes() -> None:
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManagerConfig

    for name, method in registry.METHODS.items():
        manager: Any = registry.method_specification(name).config.pipeline.datamanager
        assert method.many_scenes == isinstance(manager, MultiSceneDataManagerConfig), name


@pytest.mark.parametrize("method", ["pixelnerf", "idnerf-lite", "matchnerf", "nerfacto"])
def test_methods_of_many_scenes_are_refused_at_once(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not even the photos are looked at.
    assert main(["photos", str(tmp_path / "none"), "--output-dir", str(tmp_path / "out"), "--method", method]) == 1
    said = capsys.readouterr().err
    assert f"got '{method}'" in said and "sparse-splatfacto-lite" in said
    assert not (tmp_path / "out").exists()
    assert not {"pixelnerf", "idnerf", "matchnerf"} & set(per_scene_methods())
    with pytest.raises(ValueError, match="train on one scene"):
        check_method(method)


@pytest.mark.parametrize(
    ("method", "words", "maps"),
    [
        ("sparse-splatfacto-lite", ("--pipeline.model.sh-degree", "0"), False),
        ("sparsenerf", (), True),
        ("sparsenerf", ("--pipeline.depth.source", "stereo"), False),
        ("sparsenerf", ("fewshot-nerfstudio-data", "--depth-dir", "maps"), False),
        ("dietnerf-lite", ("--pipeline.semantic.enabled", "False"), False),
    ],
)
def test_a_method_with_what_it_needs_may_begin(method: str, words: tuple, maps: bool) -> None:
    check_needs(method, words, maps)


def test_what_a_method_lacks_is_said_with_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FEWSHOT_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"expected depth maps(.|\n)*after `--`(.|\n)*--pipeline.depth.source stereo"):
        check_needs("sparsenerf", (), False)
    missing = tmp_path / "clip.pt"
    with pytest.raises(FileNotFoundError, match=r"weights not found(.|\n)*--pipeline.semantic.enabled False"):
        check_needs("dietnerf-lite", ("--pipeline.semantic.encoder.weights", str(missing)), False)
    mono = ("--pipeline.depth.source", "mono", "--pipeline.depth.mono.download", "False")
    with pytest.raises(FileNotFoundError, match=r"monocular depth network(.|\n)*--pipeline.depth.source stereo"):
        check_needs("sparsenerf", (*mono, "--pipeline.depth.mono.weights", str(tmp_path / "none")), False)
    with pytest.raises(ValueError, match="--pipeline.nonsense"):
        check_needs("sparse-splatfacto-lite", ("--pipeline.nonsense", "3"), False)


def test_further_flags_are_of_the_method_or_of_its_dataparser() -> None:
    method, parser = ["--pipeline.a", "1"], ["--b", "2"]
    assert split_words([*method, "fewshot-nerfstudio-data", *parser]) == (method, parser)
    assert split_words(method) == (method, []) and split_words([]) == ([], [])
    for words in (["--data", "x"], ["--load_dir=x"], ["llff-data"]):
        with pytest.raises(ValueError, match="leave it out|expected flags of ns-train"):
            split_words(words)


def test_flags_behind_two_dashes_reach_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: List[PhotosCommand] = []
    monkeypatch.setattr(PhotosCommand, "main", lambda self: seen.append(self))
    words = ["--pipeline.depth.source", "stereo", "fewshot-nerfstudio-data", "--depth-dir", "maps"]
    assert main(["photos", str(tmp_path), "--steps", "3", "--", *words]) == 0
    assert seen[0].training_arguments == tuple(words) and seen[0].steps == 3


def test_everything_goes_to_a_folder_of_the_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walk.mp4").touch()
    (tmp_path / "garden").mkdir()
    monkeypatch.chdir(tmp_path / "garden")
    places = {source: PhotosCommand(source).folder for source in (Path("."), tmp_path / "walk.mp4", Path("../garden"))}
    assert list(places.values()) == [Path("outputs/photos") / name for name in ("garden", "walk", "garden")]
    assert PhotosCommand(Path("."), output_dir=Path("here")).folder == Path("here")


def test_a_failure_is_told_by_its_last_message() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    raise ValueError()\n    ^^^^^\n'
    assert last_message(f"steps\n{trace}ValueError: no maps in x\n  ways out: y\n") == "no maps in x\n  ways out: y"
    chained = f"{trace}KeyError: 'a'\n\nThe above exception was the direct cause of the following:\n\n{trace}"
    assert last_message(f"{chained}fewshot_ns.a.WeightsNotFoundError: none of them\n") == "none of them"
    assert last_message(f"{trace}KeyError: 'a'\n") == "KeyError: 'a'"
    assert last_message("one\n\ntwo\n") == "one\ntwo" and last_message("") == "it said nothing"


def test_progress_is_a_line_now_and_then() -> None:
    text, updates, now = io.StringIO(), [], [0.0]
    lines = ProgressLines("m", Console(file=text, force_terminal=False), updates.append, lambda: now[0])
    for step in range(0, 300, 10):
        lines.read(f"{step} ({step / 10:.2f}%)        59.197 ms            20 s")
    lines.read("Step (% Done)")
    assert text.getvalue().splitlines() == ["training m: 10 %", "training m: 20 %"] and updates == []
    now[0] = 31.0
    lines.read("300 (30.00%)  ")
    lines.read("310 (31.00%)  ")
    now[0] = 62.0
    lines.read("320 (32.00%)  ")
    assert text.getvalue().splitlines()[2:] == ["training m: 30 %", "training m: 32 %"]
    shown = ProgressLines("m", Console(file=text, force_terminal=True), updates.append, lambda: now[0])
    shown.read("10 (1.00%)  ")
    assert updates == ["training m: 1 %"]
