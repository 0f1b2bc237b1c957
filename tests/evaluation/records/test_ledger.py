"""Rows per image: written, read back, averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewshot_ns.evaluation.records.ledger import (
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
