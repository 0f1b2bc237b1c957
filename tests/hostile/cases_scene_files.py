"""Scenes whose files are not there or are of another kind."""

from __future__ import annotations

from pathlib import Path

from corpus import Action, Case, training_inputs


def _no_frames(folder: Path) -> Action:
    (folder / "transforms.json").write_text("[]", encoding="utf8")
    return training_inputs("fewshot-nerfstudio-data", folder)


CASES = [Case("transforms-is-a-list", "json", _no_frames, ("transforms.json", "frames"))]
