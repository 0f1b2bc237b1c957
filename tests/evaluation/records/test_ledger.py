"""Rows per image: written, read back, averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewshot_ns.evaluation.records.ledger import (
    Ledger,
    LedgerRow,
    MetricSummary,
    flatten,
    ledger_path,
    read_rows,
    summarize,
    write_rows,
)


def rows() -> list[LedgerRow]:
    return [
        LedgerRow("IMG_0.png", 0, 0, 500, 120.0, {"psnr": 20.0, "ssim": 0.5, "lpips": None}),
        LedgerRow("IMG_8.png", 8, 1, 500, 140.0, {"psnr": 23.0, "ssim": 0.7, "lpips": None, "masked_psnr": 18.0}),
        LedgerRow("IMG_16 ü.png", 16, 2, 500, None, {"psnr": 21.5, "ssim": 0.9, "lpips": None}),
    ]


def test_rows_survive_the_file(tmp_path: Path) -> None:
    path = ledger_path(tmp_path / "run", 500)
    assert path == tmp_path / "run" / "eval" / "step-000000500.jsonl"
    write_rows(path, rows())
    assert read_rows(path) == rows()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    first = json.loads(path.read_text("utf8").splitlines()[0])
    assert first == {
        **{"file_name": "IMG_0.png", "view_index": 0, "split_index": 0, "step": 500, "num_rays_per_sec": 120.0},
        **{"psnr": 20.0, "ssim": 0.5, "lpips": None},
    }


def test_rewriting_replaces_and_a_failure_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "step-1.jsonl"
    write_rows(path, rows())
    write_rows(path, rows()[:1])
    assert read_rows(path) == rows()[:1]
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a.png: expected a finite value of psnr"):
            write_rows(path, [LedgerRow("a.png", 0, 0, 1, None, {"psnr": value})])
    with pytest.raises(ValueError, match="may not be called 'step'"):
        write_rows(path, [LedgerRow("a.png", 0, 0, 1, None, {"step": 1.0})])
    assert read_rows(path) == rows()[:1]
    assert len(list(tmp_path.iterdir())) == 1


def test_summary_is_numpys_and_skips_what_is_missing() -> None:
    summary = summarize(rows())
    assert list(summary) == ["psnr", "ssim", "lpips", "masked_psnr", "num_rays_per_sec"]
    for name, values in {
        "psnr": [20.0, 23.0, 21.5],
        "ssim": [0.5, 0.7, 0.9],
        "num_rays_per_sec": [120.0, 140.0],
    }.items():
        assert summary[name].mean == pytest.approx(np.mean(values))
        assert summary[name].std == pytest.approx(np.std(values, ddof=1))
        assert summary[name].count == len(values)
    assert summary["lpips"] == MetricSummary(None, None, 0)
    assert summary["masked_psnr"] == MetricSummary(18.0, 0.0, 1)


def test_one_row_gives_valid_json() -> None:
    flat = flatten(summarize(rows()[:1]), with_std=True)
    assert flat["psnr"] == 20.0 and flat["psnr_std"] == 0.0 and flat["lpips"] is None and flat["lpips_std"] is None
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat


def test_flat_form_for_tensorboard_has_numbers_only() -> None:
    flat = flatten(summarize(rows()), keep_missing=False)
    assert set(flat) == {"psnr", "ssim", "masked_psnr", "num_rays_per_sec"}
    assert all(isinstance(value, float) for value in flat.values())
    assert summarize([]) == {}


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.jsonl: expected a ledger"):
        read_rows(tmp_path / "absent.jsonl")
    path = tmp_path / "bad.jsonl"
    write_rows(path, rows()[:1])
    good = path.read_text("utf8")
    path.write_text(good + '{"file_name": "IMG', "utf8")
    with pytest.raises(ValueError, match="bad.jsonl, line 2: expected a JSON object"):
        read_rows(path)
    path.write_text(good + '{"psnr": 3}\n', "utf8")
    with pytest.raises(ValueError, match="bad.jsonl, line 2: expected an object with file_name, view_index"):
        read_rows(path)


EARLIER_VIEWS = """\
{"file_name": "a.png", "view_index": 4, "split_index": 0, "step": 9, "num_rays_per_sec": 8.5, "psnr": 20.25, "fps": 2.0}
{"file_name": "b.png", "view_index": 8, "split_index": 2, "step": 9, "num_rays_per_sec": null, "psnr": null, "fps": 2.5}
"""
"""Rows of one scene as earlier versions wrote them."""
EARLIER_SCENES = (
    '{"scene": "s", "category": "02", "sources": [3, 1], "file_name": "a.png", "view_index": 4, "split_index": 0, '
    '"step": 9, "num_rays_per_sec": 8.5, "psnr": 20.25}\n'
    '{"scene": "t", "category": "", "sources": [], "file_name": "a.png", "view_index": 4, "split_index": 0, '
    '"step": 9, "num_rays_per_sec": 8.0, "psnr": 22.0}\n'
)
"""Rows of many scenes as earlier versions wrote them."""


@pytest.mark.parametrize("text", [EARLIER_VIEWS, EARLIER_SCENES])
def test_files_of_earlier_versions_are_read_and_taken_up(tmp_path: Path, text: str) -> None:
    (tmp_path / "eval.jsonl").write_text(text, "utf8")
    (tmp_path / "eval.json").write_text(json.dumps({"about": 1, "key": "key", "complete": True, "results": {}}), "utf8")
    first, second = read_rows(tmp_path / "eval.jsonl")
    assert (first.file_name, first.view_index, first.step, first.metrics["psnr"]) == ("a.png", 4, 9, 20.25)
    if text is EARLIER_SCENES:
        assert (first.scene, first.category, first.sources) == ("s", "02", (3, 1)) and second.scene == "t"
    else:
        assert first.scene is None and second.metrics == {"psnr": None, "fps": 2.5}
    ledger = Ledger(tmp_path / "eval.json")
    assert ledger.resume("key", {"about": 1}) == [first, second]
    assert ledger.row(first.scene, 0) == first and ledger.row("other", 0) is None
    assert (tmp_path / "eval.jsonl").read_text("utf8") == text
    write_rows(tmp_path / "copy.jsonl", [first, second])
    assert (tmp_path / "copy.jsonl").read_text("utf8") == text


def test_rows_of_one_scene_are_kept_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "eval.json")
    ledger.resume("key", {})
    for index in (2, 0, 1):
        ledger.append(rows()[index])
        assert [row.split_index for row in read_rows(ledger.rows_path)] == sorted(
            (2, 0, 1)[: (2, 0, 1).index(index) + 1]
        )
    assert read_rows(ledger.rows_path) == rows()
    ledger.clear()
    assert not ledger.rows_path.exists() and ledger.row(None, 0) is None


def test_a_metric_may_not_be_called_like_a_column_of_scenes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="may not be called 'scene'"):
        write_rows(tmp_path / "e.jsonl", [LedgerRow("a.png", 0, 0, 1, None, {"scene": 1.0})])
