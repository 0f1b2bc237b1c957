"""Reports: means, published figures, status words, the README's block, and that equal results give equal files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, Optional

import numpy as np
import pytest

from fewshot_ns.bench.report.files import markdown, write_report
from fewshot_ns.bench.report.paper_sizes import PUBLISHED, at_paper_sizes, published_of_scene
from fewshot_ns.bench.report.pictures import crop_of, zoom
from fewshot_ns.bench.report.readme import BEGIN, END, results_block, update_readme, with_block
from fewshot_ns.bench.report.tables import as_latex, curve_table, image_table, scene_table, summary_table
from fewshot_ns.bench.results.cells import BenchResults, CellResult, CurvePoint, read_results
from fewshot_ns.bench.results.csv_file import as_csv, as_json_text, merge_into, read_csv
from fewshot_ns.bench.results.files import CostInFile
from fewshot_ns.bench.results.status import CONDITIONS, TOLERANCE, differences, not_as_published, published, status_of
from fewshot_ns.bench.results.summary import curve_of, groups_of, spread
from fewshot_ns.presentation.tables import Column, Table, as_markdown
from fewshot_ns.presentation.view_pictures import save_view
from fewshot_ns.scripts.cli import main

ROOT = Path(__file__).resolve().parents[3]
LLFF = CONDITIONS["llff"].scenes


def cell(psnr=19.6, scene="fern", seed=0, trivial=12.0, **changes):
    """A finished cell of freenerf as published, on a scene of llff-3."""
    metrics: Dict[str, Optional[float]] = {
        "psnr": psnr,
        "ssim": 0.612,
        "lpips": 0.4,
        "fps": 2.0,
        "baseline_mean_colour_psnr": trivial,
        "baseline_nearest_view_psnr": trivial - 1.0,
    }
    images = tuple({"file_name": f"{name}.png", "view_index": name, **metrics} for name in (0, 8))
    known = CellResult(
        scene=scene,
        folder_name=scene,
        protocol="llff-3",
        method="freenerf",
        label="freenerf",
        seed=seed,
        as_published=True,
        status="finished",
        steps=69768,
        size=(504, 378),
        test_views=2,
        metrics=metrics,
        images=images,
        num_images=2,
        curve=(CurvePoint(20, 1.5, {"psnr": psnr - 3.0}), CurvePoint(40, 3.0, {"psnr": psnr})),
        training={"cpu_seconds": 10.0, "rays": 5000, "steps": 40, "wall_seconds": 6.0, "peak_memory_bytes": 10**9},
        own_length=True,
        recipe="r",
        device="cpu",
        source="abc",
    )
    return replace(known, **changes)


def results(*cells):
    return BenchResults("r", "A benchmark.", tuple(cells))


def group(*cells):
    (found,) = groups_of(results(*cells), cells[0].protocol)
    return found


def test_means_are_over_scenes_and_deviations_over_seeds():
    cells = [cell(20.0, "fern", 0), cell(24.0, "horns", 0), cell(21.0, "fern", 1), cell(25.0, "horns", 1)]
    found = group(*cells).over_scenes("psnr")
    assert (found.mean, found.count) == (22.5, 2) and found.std == pytest.approx(np.std([22.0, 23.0], ddof=1))
    assert group(*cells).on_scene("horns", "psnr").mean == 24.5
    # A seed that lacks a scene would pull the mean to the others.
    assert group(*cells[:3], replace(cells[3], status="failed")).over_scenes("psnr").mean == 22.0
    assert (
        spread([1.0]).text(1) == "1.0" and spread([1.0, 2.0]).text(1) == "1.5 ± 0.7" and spread([None]).text(1) == "n/a"
    )


def test_reproduced_takes_all_of_the_papers_conditions():
    whole = [cell(scene=name) for name in LLFF]
    assert published(group(*whole))["psnr"].value == 19.63
    assert differences(group(*whole), published(group(*whole))) == []
    assert status_of(group(*whole)).word == "reproduced"
    located = [replace(one, scene_overrides=("--images_dir", "images_8")) for one in whole]
    assert status_of(group(*located)).word == "reproduced"
    for changed, reason in (
        (whole[:-1], "7 of 8 scenes"),
        ([replace(one, size=(252, 189)) for one in whole], "252x189 pixels instead of 504x378"),
        ([replace(one, steps=1000) for one in whole], "1000 steps instead of 69768"),
        ([replace(one, as_published=False) for one in whole], "a variant of the method"),
        ([replace(one, num_images=1) for one in whole], "not all test views"),
        ([replace(one, scene_overrides=("--resize", "area")) for one in whole], "scenes read with --resize"),
        ([cell(19.63 + TOLERANCE["psnr"] + 0.01, name) for name in LLFF], "psnr 20.140, the paper has 19.63"),
        ([cell(19.63 - TOLERANCE["psnr"] - 0.01, name) for name in LLFF], "psnr 19.120"),
        ([replace(one, method="freenerf-lite") for one in whole], "no published figure"),
    ):
        status = status_of(group(*changed))
        assert status.word == "working" and reason in status.reason, reason


def test_one_scene_is_compared_with_what_is_printed_for_it():
    assert published(group(cell()))["psnr"].value == 21.13
    assert published(group(cell(), cell(scene="horns")))["psnr"].value == 19.63
    renamed = group(replace(cell(), scene="fern-small"))
    assert published(renamed, "fern-small")["psnr"].value == 21.13
    assert published(group(cell(protocol="llff-4"))) == {} == published(group(cell(method="nerfacto")))


def test_what_no_training_has_of_the_papers_is_said_and_no_more():
    flow = "the paper's figures are with a normalising flow, which its released code does not have"
    whole = group(*(cell(19.1, name, method="regnerf") for name in LLFF))
    assert not_as_published(whole) == flow and differences(whole, published(whole)) == []
    short = group(cell(19.1, method="regnerf", steps=10))
    assert not_as_published(short) == f"10 steps instead of 69768; 1 of 8 scenes; {flow}"
    # What is printed for this scan is without it.
    scan = cell(21.4, "scan114", protocol="dtu-3", method="regnerf", steps=43945, size=(400, 300))
    assert not_as_published(group(scan)) == "nothing"


def test_working_beats_both_trivial_baselines_on_every_scene():
    assert status_of(group(cell(13.0), cell(13.0, "horns"))).word == "working"
    worse = status_of(group(cell(13.0), cell(12.0, "horns")))
    assert worse.word == "not working" and "the mean colour has 12.00 dB on horns, the method 12.00" in worse.reason
    unknown = replace(cell(), metrics={"psnr": 30.0})
    assert status_of(group(unknown)).word == "not working"
    assert status_of(group(cell(), cell(seed=1, status="failed"))).word == "not run"
    # On DTU it is the object that counts.
    masked = {"psnr": 5.0, "masked_psnr": 20.0, "baseline_mean_colour_masked_psnr": 9.0}
    assert status_of(group(replace(cell(protocol="dtu-3"), metrics=masked))).word == "working"


def test_tables_name_what_failed_and_the_trivial_baselines():
    failed = replace(cell(scene="horns"), status="failed", metrics={}, error="Traceback\n  ValueError: no")
    table = scene_table(results(cell(20.0), failed), "llff-3", "psnr")
    text = as_markdown(table)
    assert "| freenerf | 20.00 | failed |" in text
    assert "| (better of nearest photo and mean colour) | 12.00 | n/a |" in text
    assert "| freenerf, paper | 21.13 | n/a |" in text
    other = replace(cell(30.0), label="other")
    rows = image_table(results(cell(20.0), cell(21.0, seed=1), other), "llff-3", "fern").rows
    assert [list(row) for row in rows] == [["0: 0.png", 20.5, 30.0], ["8: 8.png", 20.5, 30.0]]


def test_the_papers_figure_stands_beside_ours_with_what_differs():
    text = as_markdown(summary_table(results(cell(20.0), cell(21.0, seed=1)), "llff-3"))
    assert "20.50 ± 0.71" in text and "| 21.13 |" in text and "working" in text
    # Methods without published figures have no columns for them.
    flags = ("--pipeline.model.width", "16", "--a", "1", "--b")
    lite = replace(cell(20.0), method="freenerf-lite", overrides=flags)
    text = as_markdown(summary_table(results(lite), "llff-3"))
    said = "lite preset; --pipeline.model.width 16, --a 1 and 1 more"
    assert "paper" not in text and f"| {said} | working |" in text
    assert "| nothing | reproduced |" in as_markdown(
        summary_table(results(*(cell(19.63, name) for name in LLFF)), "llff-3")
    )


def test_latex_survives_every_sign():
    table = Table((Column("a_b"), Column("50 %")), [["x & y", "1 ± 2"]], "#1 \\ {~^}")
    text = as_latex(table)
    assert r"a\_b & 50 \%" in text and r"x \& y & 1 $\pm$ 2" in text
    assert r"\#1 \textbackslash{} \{\textasciitilde{}\textasciicircum{}\}" in text


def test_curves_are_means_over_seeds_at_equal_steps():
    late = replace(cell(20.6, seed=1), curve=(CurvePoint(20, 2.5, {"psnr": 18.6}), CurvePoint(40, None, {"psnr": 1.0})))
    points = curve_of(group(cell(19.6), late), "fern")
    assert points == [(2.0, 17.6, round(float(np.std([16.6, 18.6], ddof=1)), 4)), (3.0, 19.6, 0.0)]
    table = curve_table(
        results(cell(19.6), cell(18.0, label="other", curve=()), cell(17.0, label="short", curve=late.curve[:1])),
        "llff-3",
    )
    assert table is not None and [row[:2] for row in table.rows] == [["freenerf", "fern"], ["short", "fern"]]
    assert table.rows[0][2:] == ["16.60 after 2 s", "19.60 after 3 s"] and table.rows[1][3] is None
    assert curve_table(results(cell(curve=())), "llff-3") is None and "on the way" not in markdown(
        results(cell(curve=()))
    )


def test_crops_show_the_detail():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, :20] = 255  # One hard edge, and fine dots elsewhere.
    image[25:35:2, 25:35:2] = 120
    top, left, height, width = crop_of(image)
    assert (top, left, height, width) == (25, 25, 10, 10)
    assert zoom(image, (25, 25, 10, 10)).shape == image.shape and zoom(image, (25, 25, 10, 10)).max() == 120


def views_of(folder, shade):
    truth = np.linspace(0.0, 1.0, 24 * 32 * 3).reshape(24, 32, 3)
    for index in (0, 1):
        depth = np.full((24, 32, 1), 2.0 + shade)
        save_view(folder / f"view-{index:04d}", truth, truth * shade, depth, np.ones_like(depth))
    return folder


def test_equal_results_give_equal_files(tmp_path):
    cells = (cell(), cell(20.0, seed=1), replace(cell(18.0), label="other"), replace(cell(seed=2), status="failed"))
    folders = {
        ("llff-3", "fern", label, 0): views_of(tmp_path / label, shade)
        for label, shade in (("freenerf", 0.9), ("other", 0.5))
    }
    found = BenchResults("r", "A benchmark.", cells, folders)
    first = {name: path.read_bytes() for name, path in write_report(found, tmp_path / "a").items()}
    second = {name: path.read_bytes() for name, path in write_report(found, tmp_path / "b").items()}
    assert set(first) == {"report.md", "results.csv", "report.tex", "results.json", "index.html"}
    assert first == second
    page = first["index.html"].decode()
    assert "data:image/png;base64," in page and 'id="curve-llff-3-fern"' in page and page.count("plotly.js v") == 1
    # Nothing is asked from elsewhere.
    addresses = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            addresses.extend(value for name, value in attrs if name in ("src", "href") and value)

    Links().feed(page)
    assert addresses and all(address.startswith("data:") for address in addresses)
    # The results file holds all of it but the pictures.
    again = read_results(tmp_path / "a" / "results.json")
    assert again.cells == cells
    remade = write_report(again, tmp_path / "c")["report.md"].read_text().splitlines()
    pictures = [line for line in first["report.md"].decode().splitlines() if line not in remade]
    assert len(pictures) == 1 and "](pictures/llff-3-fern.jpg)" in pictures[0]
    sheet, same = ((tmp_path / name / "pictures" / "llff-3-fern.jpg").read_bytes() for name in "ab")
    assert sheet == same and sheet.startswith(b"\xff\xd8")


def test_notes_stand_ahead_of_the_tables(tmp_path):
    files = write_report(results(cell()), tmp_path, notes="## What it shows\n\nLittle.\n")
    text = files["report.md"].read_text()
    assert text.index("are finished") < text.index("## What it shows\n\nLittle.\n\n") < text.index("| freenerf")
    assert not (tmp_path / "pictures").exists()


def test_csv_keeps_what_tables_need(tmp_path):
    cells = (cell(19.123456789), replace(cell(seed=1), status="failed", metrics={}, error="a\n  b, c"))
    path = tmp_path / "results.csv"
    merge_into(path, results(*cells))
    read = read_csv(path)
    assert status_of(group(*read.cells)) == status_of(group(*cells))
    assert read.cells[0].metrics["psnr"] == 19.123457 and read.cells[1].error == "b, c"
    assert read.cells[0].training["peak_memory_bytes"] == 10**9
    # The cells of a recipe are replaced, those of others stay; and nothing changes by reading and writing.
    merge_into(path, BenchResults("other", "", (replace(cell(), recipe="other"),)))
    before = path.read_text()
    merge_into(path, results(*cells))
    assert path.read_text() == before and before.count("\n") == 4
    assert as_csv(read_csv(path)) == before
    path.write_text("recipe,scene\n")
    with pytest.raises(ValueError, match="expected the columns"):
        read_csv(path)


def test_what_models_started_from_is_in_the_rows(tmp_path):
    words = "stereo: 120 points from views a.png, b.png"
    some = results(cell(seed=0, initial_points=words), cell(seed=1, initial_points=words), cell(label="other"))
    path = tmp_path / "results.csv"
    path.write_text(as_csv(some), encoding="utf8")
    assert [one.initial_points for one in read_csv(path).cells] == [words, words, ""]
    assert "initial_points" not in as_csv(results(cell()))
    text = markdown(some)
    assert text.count(words) == 1 and "started from" in text and "started from" not in markdown(results(cell()))


def test_rows_name_the_gpu_that_trained(tmp_path):
    training = {"cpu_seconds": 9.0, "peak_gpu_memory_bytes": 7 * 10**9}
    some = results(cell(device="cuda", gpu_name="NVIDIA H200, 2", training=training), cell(seed=1))
    path = tmp_path / "results.csv"
    path.write_text(as_csv(some), encoding="utf8")
    read = read_csv(path)
    assert [one.gpu_name for one in read.cells] == ["NVIDIA H200, 2", ""] and as_csv(read) == as_csv(some)
    assert "gpu_name" not in read.cells[0].metrics and read.cells[0].training["peak_gpu_memory_bytes"] == 7 * 10**9
    assert "gpu_name" not in as_csv(results(cell()))
    # Beside rows of before, whose file has no such column.
    older = tmp_path / "older.csv"
    older.write_text(as_csv(BenchResults("old", "", (cell(recipe="old"),))), encoding="utf8")
    assert "gpu_name" not in older.read_text(encoding="utf8")
    merge_into(older, some)
    assert [one.gpu_name for one in read_csv(older).cells] == ["", "NVIDIA H200, 2", ""]
    assert "| NVIDIA H200, 2, CPU |" in results_block(older)
    assert "| NVIDIA H200, 2, cpu |" in markdown(some) and "| cpu |" in markdown(results(cell()))
    (tmp_path / "results.json").write_text(as_json_text(some))
    assert [one.gpu_name for one in read_results(tmp_path / "results.json").cells] == ["NVIDIA H200, 2", ""]


def test_records_name_the_gpu_or_are_of_before():
    cost = {"steps": 4, "cpu_seconds": 1.5, "peak_gpu_memory_bytes": None}
    for more in ({}, {"gpu_name": None}, {"gpu_name": "NVIDIA H200"}):
        read = CostInFile.model_validate({**cost, **more})
        assert read.numbers() == cost and read.gpu_name == more.get("gpu_name")
    for wrong in ({"gpu_name": 3}, {"cpu_seconds": "long"}):
        with pytest.raises(ValueError):
            CostInFile.model_validate({**cost, **wrong})


def test_results_of_the_first_version_are_read(tmp_path):
    written = (ROOT / "docs" / "benchmarks" / "results.csv").read_text(encoding="utf8")
    header, rest = written.split("\n", 1)
    (tmp_path / "old.csv").write_text(f"{header.replace('folder_name', 'place')}\n{rest}", encoding="utf8")
    (tmp_path / "new.csv").write_text(written, encoding="utf8")
    assert "place" in (tmp_path / "old.csv").read_text(encoding="utf8").split("\n")[0]
    assert read_csv(tmp_path / "old.csv") == read_csv(tmp_path / "new.csv")


def test_the_readmes_block_is_replaced_and_nothing_else(tmp_path):
    readme, path = tmp_path / "README.md", tmp_path / "results.csv"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    merge_into(path, results(cell(20.0), cell(21.0, seed=1)))
    assert update_readme(readme, path) and not update_readme(readme, path)
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\nAt the papers' own size") and text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| `freenerf` | llff-3 | fern | 504x378 | 69768 | 2 | 20.50 ± 0.71 |" in text and "| working |" in text
    assert "Not run yet: `depth-mipnerf`" in text and "`freenerf`," not in text.split("Not run yet:")[1]
    with pytest.raises(ValueError, match="once each"):
        with_block("no markers", "block")


def test_rows_of_the_papers_own_sizes(tmp_path):
    small = cell(label="small", size=(126, 94))
    assert at_paper_sizes([group(small)]) is None
    lite = [cell(20.0 + seed, seed=seed, method="freenerf-lite", label="fast", steps=1500) for seed in (0, 1)]
    six = cell(scene="fern-6", folder_name="fern", protocol="llff-6", device="cuda", gpu_name="NVIDIA H200")
    unknown = cell(scene="own", folder_name="own", metrics={"psnr": 19.0})
    table = at_paper_sizes([group(six), group(small), group(*lite), group(unknown)])
    assert table is not None
    rows = [dict(zip((column.title for column in table.columns), row, strict=True)) for row in table.rows]
    assert [(row["scene"], row["views"]) for row in rows] == [("fern", 3), ("fern", 6), ("own", 3)]
    assert rows[0]["method"] == "`freenerf-lite` (fast)" and rows[0]["PSNR"] == "20.50 ± 0.71"
    assert (rows[0]["steps"], rows[0]["CPU s"], rows[0]["trained on"], rows[0]["seeds"]) == ("1500", "10", "CPU", 2)
    # Of the scene, whatever the method; with six views papers print no figures of it.
    assert str(rows[0][PUBLISHED]).startswith("FreeNeRF 21.13 / 0.656 / 0.290; FreeNeRF with ")
    assert rows[1][PUBLISHED] is None and rows[1]["trained on"] == "NVIDIA H200" and rows[2][PUBLISHED] is None
    assert published_of_scene("dtu/scan114", 3) == ("RegNeRF 21.37",)


def test_without_results_the_block_says_so(tmp_path):
    assert results_block(tmp_path / "nothing.csv").startswith("Not run yet: `depth-mipnerf`")


def test_the_readme_says_what_the_results_say():
    """After a change: ns-fewshot report --results docs/benchmarks/results.csv --readme README.md"""
    text = (ROOT / "README.md").read_text(encoding="utf8")
    assert with_block(text, results_block(ROOT / "docs/benchmarks/results.csv")) == text


def test_a_report_needs_a_benchmark(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "expected the plan of a benchmark" in capsys.readouterr().err
    (tmp_path / "results.json").write_text(json.dumps({"cells": 3}))
    assert main(["report", str(tmp_path / "results.json")]) == 1
    assert re.search(r"expected the\s+results of a benchmark", capsys.readouterr().err)
    assert main(["report", str(tmp_path), "--notes", str(tmp_path / "none.md")]) == 1
    assert "expected a Markdown file" in " ".join(capsys.readouterr().err.split())
    assert main(["report"]) == 1 and main(["report", "--readme", "README.md"]) == 1
