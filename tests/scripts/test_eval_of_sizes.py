"""`ns-fewshot eval` of a scene with images of several sizes: figures of each size beside those of all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from fewshot_ns.data.dataparsers.single.multiscale_blender import MultiscaleBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.multiscale_conversion import convert_blender
from fewshot_ns.evaluation.records.ledger import read_rows
from fewshot_ns.scripts.eval import EvalCommand


def test_each_size_has_its_own_average(make_run, make_blender_scene, tmp_path: Path, capsys):
    scene = make_blender_scene(tmp_path / "scene", (3, 2, 1))
    convert_blender(scene, tmp_path / "scales", 2)
    parser = MultiscaleBlenderDataParserConfig(data=tmp_path / "scales", num_views=3, testskip=1)
    run = make_run(tmp_path / "runs", parser)
    capsys.readouterr()
    EvalCommand(run, tmp_path / "eval.json").main()
    rows = read_rows(tmp_path / "eval.jsonl")
    assert [row.file_name for row in rows] == ["000_d0.png", "000_d1.png", "001_d0.png", "001_d1.png"]
    for row in rows:
        own = row.file_name[4:6]
        assert row.metrics[f"psnr_{own}"] == row.metrics["psnr"]
        assert sum(name.startswith("psnr_d") for name in row.metrics) == 1
    written = json.loads((tmp_path / "eval.json").read_text())
    results, table = written["results"], capsys.readouterr().out
    for own in ("d0", "d1"):
        values = [row.metrics["psnr"] or math.nan for row in rows if row.file_name[4:6] == own]
        np.testing.assert_allclose(results[f"psnr_{own}"], np.mean(values), rtol=1e-12)
    np.testing.assert_allclose(results["psnr"], (results["psnr_d0"] + results["psnr_d1"]) / 2, rtol=1e-12)
    names = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    assert names[:3] == ["psnr", "psnr_d0", "psnr_d1"]
    assert written["evaluation"]["sizes"] == ["d0", "d1"]
