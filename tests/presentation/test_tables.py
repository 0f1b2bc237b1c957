"""Tables of results, on the screen and in Markdown."""

from __future__ import annotations

import pytest

from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table

TABLE = Table(
    columns=[Column("run"), Column("PSNR", 2, True), Column("LPIPS", 3, False), Column("steps")],
    rows=[["a | b", 18.456, 0.25, 500], ["without", 12.0, None, 500], ["third", 18.4559, 0.3, 400]],
    caption="Means over 3 views & more",
)


def test_a_single_number_is_not_the_best_of_anything() -> None:
    columns = [Column("run"), Column("LPIPS", 3, False)]
    table = Table(columns, [["a", 0.5], ["b", None]])
    assert not any(table.is_best(row, 1) for row in range(2))
    assert [table.text(row, 1) for row in range(2)] == ["0.500", "n/a"]


def test_table_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(TABLE.columns, [["a [red] run", 18.456, None, 7], *TABLE.rows[1:]], TABLE.caption)
    print_table(table, "Held-out views")
    shown = capsys.readouterr().out
    for text in ("Held-out views", "a [red] run", "18.46", "n/a", "PSNR ↑", "Means over 3 views & more"):
        assert text in shown


def test_wide_table_keeps_its_figures_on_a_narrow_screen(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    values = [12.25 + index for index in range(14)]
    print_table(Table([Column("run"), *(Column(f"masked_{n}") for n in range(14))], [["a", *values]]))
    shown = capsys.readouterr().out
    assert all(f"{value:.2f}" in shown for value in values) and "masked_13" in shown


def test_in_markdown() -> None:
    plain = as_markdown(TABLE).splitlines()
    assert plain[:2] == ["| run | PSNR | LPIPS | steps |", "| --- | ---: | ---: | ---: |"]
    assert plain[2] == r"| a \| b | 18.46 | 0.250 | 500 |" and plain[5:] == ["", TABLE.caption]
    marked = as_markdown(TABLE, mark_best=True).splitlines()
    assert marked[0] == "| run | PSNR ↑ | LPIPS ↓ | steps |"
    assert marked[2:5] == [
        r"| a \| b | **18.46** | **0.250** | 500 |",
        "| without | 12.00 | n/a | 500 |",
        "| third | **18.46** | 0.300 | 400 |",
    ]


def test_rows_have_a_cell_per_column() -> None:
    with pytest.raises(ValueError, match="table row 1: expected 2 cells, got 1"):
        Table([Column("a"), Column("b")], [[1, 2], [1]])
