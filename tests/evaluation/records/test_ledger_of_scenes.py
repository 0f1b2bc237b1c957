"""Ledgers over many scenes: appended, taken up again, averaged by scene first."""

import json
from pathlib import Path

import pytest

from fewshot_ns.evaluation.records.category_table import write_category_table
from fewshot_ns.evaluation.records.ledger import Ledger, LedgerRow, read_rows, scene_means, summarize_scenes


def row(scene: str, view: int, psnr: float, category: str = "") -> LedgerRow:
    metrics = {"psnr": psnr, "ssim": psnr / 100, "lpips": None}
    return LedgerRow(f"{view:06d}.png", view, view, 7, 100.0, metrics, scene, category, (64,))


ROWS = [row("a", 0, 10.0), row("a", 1, 20.0), row("a", 2, 30.0), row("b", 0, 40.0)]


def test_scenes_count_the_same_whatever_the_number_of_their_views():
    summary = summarize_scenes(ROWS)
    assert summary["psnr"].mean == 30.0 and summary["psnr"].count == 2
    assert summary["lpips"].mean is None
    assert {name: mean.metrics["psnr"] for name, mean in scene_means(ROWS).items()} == {"a": 20.0, "b": 40.0}


def test_rows_come_back_as_they_were(tmp_path: Path):
    ledger = Ledger(tmp_path / "eval" / "scenes.json")
    assert ledger.resume("key", {"step": 7}) == []
    for each in ROWS:
        ledger.append(each)
    assert read_rows(ledger.rows_path) == ROWS
    assert ledger.resume("key", {"step": 7}) == ROWS


def test_half_a_line_is_dropped_and_what_follows_stays_readable(tmp_path: Path):
    ledger = Ledger(tmp_path / "scenes.json")
    ledger.resume("key", {})
    for each in ROWS[:2]:
        ledger.append(each)
    with ledger.rows_path.open("a") as stream:
        stream.write('{"scene": "a", "cat')
    assert ledger.resume("key", {}) == ROWS[:2]
    ledger.append(ROWS[2])
    assert read_rows(ledger.rows_path) == ROWS[:3]


def test_rows_of_another_kind_are_dropped(tmp_path: Path):
    ledger = Ledger(tmp_path / "scenes.json")
    ledger.resume("one", {})
    ledger.append(ROWS[0])
    assert ledger.resume("two", {}) == [] and not ledger.rows_path.exists()
    ledger.path.write_text("not json")
    ledger.append(ROWS[0])
    assert ledger.resume("two", {}) == []


def test_infinite_values_are_refused(tmp_path: Path):
    ledger = Ledger(tmp_path / "scenes.json")
    ledger.resume("key", {})
    with pytest.raises(ValueError, match="finite value of psnr"):
        ledger.append(row("a", 0, float("inf")))


def test_table_by_category(tmp_path: Path):
    rows = [row("a", 0, 10.0, "02691156"), row("a", 1, 30.0, "02691156"), row("b", 0, 40.0, "03001627")]
    write_category_table(tmp_path / "scenes.txt", rows, {"02691156": "airplane"})
    lines = (tmp_path / "scenes.txt").read_text().splitlines()
    assert lines[0].startswith("airplane") and "psnr: 20.000000" in lines[0] and lines[0].endswith("n_inst: 1")
    assert lines[1].startswith("03001627") and lines[-1].startswith("total") and "psnr: 30.000000" in lines[-1]
    assert "lpips" not in lines[0]


def test_finished_record(tmp_path: Path):
    ledger = Ledger(tmp_path / "scenes.json")
    ledger.resume("key", {"step": 7})
    assert json.loads(ledger.path.read_text()) == {"step": 7, "key": "key", "complete": False}
    ledger.finish("key", {"step": 7}, {"psnr": 1.0})
    assert json.loads(ledger.path.read_text())["results"] == {"psnr": 1.0}
