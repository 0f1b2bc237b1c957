"""The table over categories: order, names, means over objects, errors."""

from __future__ import annotations

from typing import Dict, Optional

import pytest

from fewshot_ns.evaluation.records.category_table import category_names, category_table
from fewshot_ns.evaluation.records.ledger import LedgerRow


def row(scene: str, category: str, value: float) -> LedgerRow:
    metrics: Dict[str, Optional[float]] = {"psnr": value, "ssim": value / 10, "lpips": value / 100}
    return LedgerRow(scene, 1, 0, 0, metrics=metrics, scene=scene, category=category)


def test_the_total_is_over_objects_and_categories_are_in_order():
    rows = [row("c", "2", 30.0), row("a", "1", 10.0), row("b", "2", 20.0)]
    assert category_table(rows, {"1": "chair", "2": "a name of many letters"}).split("\n") == [
        "chair        psnr: 10.000000 ssim: 1.000000 lpips: 0.100000 n_inst: 1",
        "a name of many letters psnr: 25.000000 ssim: 2.500000 lpips: 0.250000 n_inst: 2",
        "---",
        "total        psnr: 20.000000 ssim: 2.000000 lpips: 0.200000",
    ]
    assert category_table(rows[:1], {}).startswith("2            psnr: 30.000000")
    rows[0].metrics["lpips"] = None
    assert category_table(rows) == " psnr: 20.000000 ssim: 2.000000"


@pytest.mark.parametrize("text", ["{", "[]", '{"1": "chair"}', '{"1": {"id": "1"}}'])
def test_damaged_names(tmp_path, text):
    (tmp_path / "metadata.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="metadata.yaml: expected JSON"):
        category_names(tmp_path)
    assert category_names(tmp_path / "none") == {}
