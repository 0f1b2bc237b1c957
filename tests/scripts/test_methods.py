"""`ns-fewshot methods`: the list of methods, on the screen and as a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_ns import registry
from fewshot_ns.scripts.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
NAMES = [name.replace("_", "-") for name in registry.METHODS]


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    assert main(["methods", "--markdown", str(tmp_path / "docs" / "methods.md")]) == 0
    made = (tmp_path / "docs" / "methods.md").read_text()
    assert made == PAGE.read_text(), "run `ns-fewshot methods --markdown docs/methods.md`"


def test_the_page_has_a_row_for_every_method() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| [`")]
    assert [row.split("`")[1] for row in rows] == NAMES
    for row, entry in zip(rows, registry.METHODS.values(), strict=True):
        assert entry.description in row and entry.paper.code in row and entry.paper.licence in row
        assert (PAGE.parent / entry.page).is_file() and f"]({entry.page})" in row


def test_the_screen_shows_every_method(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in NAMES)
    assert "BSD-2-Clause" in shown and "Wang et al., ICCV 2023" in shown
