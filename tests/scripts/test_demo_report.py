"""The demo's report on two made-up trainings: the scene's own pictures, spoilt by a little and by a lot."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from fewshot_ns.evaluation.records.ledger import LedgerRow
from fewshot_ns.presentation.video import RenderedPath
from fewshot_ns.scripts.demo import VARIANTS, DemoCommand
from fewshot_ns.scripts.demo_renders import DemoRenders, depth_errors, load_renders, save_renders
from fewshot_ns.scripts.demo_report import VariantResult, write_report
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

SCENE = DemoSceneConfig(width=64, height=48, columns=2, rows=2, supersample=1)
SCALE = 0.08
HELD_OUT = ["view_00.png", "view_03.png"]


def distances(folder, names, error):
    """Exact Euclidean distances in world units, wrong by the factor 1 + error."""
    result = []
    for name in names:
        planar = np.load(folder / "exact_depth" / name.replace("png", "npy"))
        rows, columns = np.indices(planar.shape) + 0.5
        x, y = (columns - 32) / SCENE.focal, (rows - 24) / SCENE.focal
        result.append((planar * np.sqrt(1 + x**2 + y**2) * SCALE * (1 + error)).astype(np.float32))
    return result


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A demo command, its two results, and the page that was written of them."""
    command = DemoCommand(output_dir=tmp_path_factory.mktemp("demo"), width=64, fps=10)
    write_demo_scene(command.scene_dir, SCENE)
    photos = [cv2.imread(str(command.scene_dir / "images" / name)) for name in HELD_OUT]
    truth = [np.ascontiguousarray(photo[..., ::-1], dtype=np.uint8) for photo in photos]
    results = []
    for variant, noise, error, lpips in ((VARIANTS[0], 8, 0.03, None), (VARIANTS[1], 60, 0.4, None)):
        rng = np.random.default_rng(noise)
        rgb = [np.clip(t + rng.normal(scale=noise, size=t.shape), 0, 255).astype(np.uint8) for t in truth]
        depth = distances(command.scene_dir, HELD_OUT, error)
        shown = RenderedPath(rgb, depth, [np.ones_like(d) for d in depth])
        renders = DemoRenders(["view_01.png", "view_02.png"], HELD_OUT, truth, shown, shown, SCALE)
        psnr = [-10 * np.log10(np.mean(((a / 255.0) - (b / 255.0)) ** 2)) for a, b in zip(rgb, truth, strict=True)]
        images = [
            LedgerRow(name, index, index, 99, 1e4, {"psnr": float(value), "ssim": 0.5, "lpips": lpips})
            for index, (name, value) in enumerate(zip(HELD_OUT, psnr, strict=True))
        ]
        metrics = {"psnr": float(np.mean(psnr)), "ssim": 0.9 if noise < 20 else 0.5, "lpips": lpips}
        errors = depth_errors(renders, command.scene_dir, SCENE.focal_share)
        results.append(VariantResult(variant, metrics, images, renders, errors, 12.0))
    return command, results, write_report(command, results)


def test_everything_is_there_and_nothing_half_written(report):
    command, _, page = report
    names = {"results.json", "table.md", "contact_sheet.png", "training_views.png", "video.mp4", "index.html", "scene"}
    assert {entry.name for entry in command.output_dir.iterdir()} == names
    assert page == command.output_dir / "index.html"


def test_depth_error_is_that_of_the_euclidean_distance(report):
    _, results, _ = report
    np.testing.assert_allclose(results[0].depth_errors, 0.03, rtol=1e-3)
    np.testing.assert_allclose(results[1].depth_errors, 0.4, rtol=1e-3)


def test_numbers_and_what_the_prior_gains(report):
    command, results, _ = report
    content = json.loads((command.output_dir / "results.json").read_text())
    expected = results[0].metrics["psnr"] - results[1].metrics["psnr"]
    assert content["gain_of_the_prior"] == pytest.approx({"psnr": expected, "ssim": 0.4})
    assert list(content["variants"]) == ["with-prior", "without-prior"]
    assert content["variants"]["with-prior"]["images"][1]["file_name"] == "view_03.png"


def test_table_sets_the_better_in_bold_and_missing_lpips_as_such(report):
    command, results, _ = report
    lines = (command.output_dir / "table.md").read_text().splitlines()
    assert lines[0].startswith("| sparsenerf-lite | PSNR ↑ | SSIM ↑ | LPIPS ↓ | depth error % ↓")
    assert f"| with the depth prior | **{results[0].metrics['psnr']:.2f}** | **0.900** | n/a | **3.0** |" in lines[2]
    assert f"| without the depth prior | {results[1].metrics['psnr']:.2f} | 0.500 | n/a | 40.0 |" in lines[3]


def test_contact_sheet_has_the_photos_in_it(report):
    command, results, _ = report
    sheet = cv2.imread(str(command.output_dir / "contact_sheet.png"))[..., ::-1]
    assert sheet.shape[1] > 7 * 220
    # The photo of the first row is found in the first column, its good render in the second.
    small = cv2.resize(results[0].renders.truth[0], (220, 165), interpolation=cv2.INTER_AREA)
    match = cv2.matchTemplate(sheet, small, cv2.TM_CCOEFF_NORMED)
    assert match[:, :20].max() > 0.95
    assert match[:, 220:260].max() > 0.85


def test_page_holds_everything_and_asks_for_nothing(report):
    html = report[2].read_text()
    assert html.count("data:image/png;base64") == 2 and html.count("data:video/mp4;base64") == 1
    assert "with the depth prior" in html and "n/a" in html
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_renders_survive_the_disk(report, tmp_path):
    renders = report[1][0].renders
    save_renders(renders, tmp_path / "renders.npz")
    again = load_renders(tmp_path / "renders.npz")
    assert again.train_files == renders.train_files and again.scale == renders.scale
    np.testing.assert_array_equal(np.stack(again.path.depth), np.stack(renders.path.depth))
    np.testing.assert_array_equal(np.stack(again.held_out.rgb), np.stack(renders.held_out.rgb))
