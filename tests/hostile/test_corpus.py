"""Every broken input ends in one error of this package that names the file, and leaves nothing half-written."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Set

import pytest
from corpus import LEAST_CASES, Case, all_cases

from fewshot_ns.engine.error_lines import is_of_this_package


def _files(folder: Path) -> Set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_case(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    action = case.prepare(folder)
    before = _files(tmp_path)
    if case.says is None:
        action()
    else:
        # Whatever comes: that it is no error of ours is what the test is about.
        with pytest.raises(Exception) as caught:
            action()
        said = str(caught.value)
        assert is_of_this_package(caught.value, caught.tb), f"raw {caught.type.__name__}: {said}"
        missing = [part for part in case.says if part not in said]
        assert not missing, f"{missing} is not said in: {said}"
        assert len(said) < 2000, "the error quotes everything"
    left = [path for path in _files(tmp_path) - before if not any(fnmatch(path, f"*{mask}") for mask in case.leaves)]
    assert not left, f"left behind: {sorted(left)}"


def test_cases_are_many_and_have_names_of_their_own() -> None:
    names = Counter(case.name for case in all_cases())
    assert not [name for name, count in names.items() if count > 1]
    assert len(names) >= LEAST_CASES
