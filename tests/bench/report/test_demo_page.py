"""The demo's page on three made-up trainings: the scene's own pictures, spoilt by a little and by a lot."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from fewshot_ns.bench.report.demo_cells import DemoPath, load_path, read_demo, save_path
from fewshot_ns.bench.report.demo_page import write_demo
from fewshot_ns.bench.results.cells import BenchResults, CellResult
from fewshot_ns.model_components.splatting.gaussians import initial_gaussians
from fewshot_ns.model_components.splatting.ply import write_splats
from fewshot_ns.presentation.video import RenderedPath
from fewshot_ns.presentation.view_pictures import save_view
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

SCENE = DemoSceneConfig(width=64, height=48, columns=2, rows=2, supersample=1)
SCALE = 0.08
METHODS = {"with-prior": "sparsenerf-lite", "without-prior": "sparsenerf-lite", "splats": "sparse-splatfacto-lite"}
START = "stereo: 5 points from views view_01.png"
HOLE = 14
"""Rows and columns of a corner where the splats cover nothing, so that their distance is 0."""
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


def finished_cell(folder, label, noise, error):
    """A finished cell as bench leaves it, and its flight along a path."""
    cell = folder / "cells" / label
    run = cell / METHODS[label]
    run.mkdir(parents=True)
    (run / "dataparser_transforms.json").write_text(json.dumps({"transform": [], "scale": SCALE}))
    photos = [cv2.imread(str(folder / "scene" / "images" / name)) for name in HELD_OUT]
    truth = [np.ascontiguousarray(photo[..., ::-1], dtype=np.uint8) for photo in photos]
    rng = np.random.default_rng(noise)
    rgb = [np.clip(t + rng.normal(scale=noise, size=t.shape), 0, 255).astype(np.uint8) for t in truth]
    depth = distances(folder / "scene", HELD_OUT, error)
    for number, (photo, render, distance) in enumerate(zip(truth, rgb, depth, strict=True)):
        stem = cell / "views" / f"view-{number:04d}"
        accumulation = np.ones_like(distance)
        if label == "splats":
            accumulation[:HOLE, :HOLE] = distance[:HOLE, :HOLE] = 0.0
        save_view(stem, photo / 255.0, render / 255.0, distance[..., None], accumulation[..., None])
    psnr = [-10 * np.log10(np.mean(((a / 255.0) - (b / 255.0)) ** 2)) for a, b in zip(rgb, truth, strict=True)]
    images = [
        {"file_name": name, "view_index": 3 * index, "psnr": float(value), "ssim": 0.5, "lpips": None}
        for index, (name, value) in enumerate(zip(HELD_OUT, psnr, strict=True))
    ]
    result = CellResult(
        scene="still-life",
        folder_name="scene",
        protocol="llff-3",
        method=METHODS[label],
        label=label,
        seed=42,
        as_published=False,
        status="finished",
        steps=100,
        metrics={"psnr": float(np.mean(psnr)), "ssim": 0.9 if noise < 20 else 0.5, "lpips": None},
        # As after an evaluation that was taken up again; the page has them in their order.
        images=tuple(images[::-1]),
        num_images=2,
        training={"wall_seconds": 12.0},
        initial_points=START if label == "splats" else "",
    )
    return result, cell, DemoPath(RenderedPath(rgb, depth, [np.ones_like(d) for d in depth]), ["view_01.png"])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Folder of a demo, its three results, and the page that was written of them."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_scene(folder / "scene", SCENE)
    spoilt = (("with-prior", 8, 0.03), ("without-prior", 60, 0.4), ("splats", 4, 0.01))
    found = [finished_cell(folder, *what) for what in spoilt]
    results, folders, paths = zip(*found, strict=True)
    pictures = {(r.protocol, r.scene, r.label, r.seed): f / "views" for r, f, _ in found}
    gaussians = initial_gaussians(torch.rand(5, 3), torch.rand(5, 3), torch.ones(5), 1.0, 0.5, 0)
    splats = [None, None, write_splats(gaussians, folder / "splats.ply", "key")]
    finished = BenchResults("demo", "", results, pictures, folders)
    demo = read_demo(finished, paths, splats, folder / "scene", SCENE.focal_share)
    return folder, demo, write_demo(demo, folder, 10)


def test_everything_is_there_and_nothing_half_written(report):
    folder, _, page = report
    written = {"results.json", "table.md", "contact_sheet.png", "training_views.png", "video.mp4", "index.html"}
    written.add("splats.ply")
    assert {entry.name for entry in folder.iterdir()} == {*written, "scene", "cells"}
    assert page == folder / "index.html"


def test_depth_error_is_that_of_the_euclidean_distance(report):
    good, bad, splats = report[1].cells
    np.testing.assert_allclose(good.depth_errors, 0.03, rtol=1e-3)
    np.testing.assert_allclose(bad.depth_errors, 0.4, rtol=1e-3)
    hole = HOLE**2 / (64 * 48)  # Where nothing is, all of the distance is missing.
    np.testing.assert_allclose(splats.depth_errors, 0.01 * (1 - hole) + hole, rtol=1e-3)


def test_numbers_and_what_the_prior_gains(report):
    folder, demo, _ = report
    content = json.loads((folder / "results.json").read_text())
    expected = demo.cells[0].result.metrics["psnr"] - demo.cells[1].result.metrics["psnr"]
    assert content["gain_of_the_prior"] == pytest.approx({"psnr": expected, "ssim": 0.4})
    assert list(content["variants"]) == list(METHODS)
    assert {label: variant["method"] for label, variant in content["variants"].items()} == METHODS
    assert content["variants"]["with-prior"]["images"][1]["file_name"] == "view_03.png"
    splats = content["variants"]["splats"]
    assert splats["initial_points"] == START
    size = (folder / "splats.ply").stat().st_size
    assert splats["splats"] == {"file": "splats.ply", "gaussians": 5, "bytes": size}
    assert not {"initial_points", "splats"} & set(content["variants"]["with-prior"])


def test_table_sets_the_better_in_bold_and_missing_lpips_as_such(report):
    folder, demo, _ = report
    lines = (folder / "table.md").read_text().splitlines()
    assert lines[0].startswith("| training | PSNR ↑ | SSIM ↑ | LPIPS ↓ | depth error % ↓")
    first, second, splats = (f"{cell.result.metrics['psnr']:.2f}" for cell in demo.cells)
    assert lines[2].startswith(f"| with the depth prior | {first} | **0.900** | n/a | **3.0** |")
    assert lines[3].startswith(f"| without the depth prior | {second} | 0.500 | n/a | 40.0 |")
    assert lines[4].startswith(f"| splats, from the photos' own depth | **{splats}** | **0.900** | n/a | 7.3 |")


def test_splats_that_the_photos_gave_no_depth_for_do_not_claim_it(report):
    cell = report[1].cells[2]
    drawn = replace(cell, result=replace(cell.result, initial_points="random: 10000 points from views view_01.png"))
    assert cell.title == "splats, from the photos' own depth" and drawn.title == "splats"


def test_contact_sheet_has_the_photos_in_it(report):
    folder, demo, _ = report
    sheet = cv2.imread(str(folder / "contact_sheet.png"))[..., ::-1]
    assert 7 * 220 < sheet.shape[1] < 8 * 220
    # The photo of the first row is found in the first column, the renders in the second, the fourth and the sixth.
    small = cv2.resize(demo.cells[0].views[0].truth, (220, 165), interpolation=cv2.INTER_AREA)
    match = cv2.matchTemplate(sheet, small, cv2.TM_CCOEFF_NORMED)
    places = [12 + 232 * column for column in (0, 1, 3, 5)]
    found = [match[:200, place - 3 : place + 4].max() for place in places]
    assert found[0] > 0.95 and found[1] > 0.85 and found[3] > found[1] > found[2]


def test_one_colour_is_one_depth_also_where_splats_leave_a_hole(report):
    folder, demo, _ = report
    sheet = cv2.imread(str(folder / "contact_sheet.png"))[..., ::-1]
    true = distances(folder / "scene", HELD_OUT[:1], 0.0)[0]
    depth = sheet[: 12 + 40 + 165 + 12, 12 + 232 * 6 : 12 + 232 * 6 + 220]
    # Blue in front and red behind: the hole, whose distance is 0, does not eat the range of colours.
    colourful = depth.reshape(-1, 3).astype(int)
    assert (colourful[:, 2] - colourful[:, 0] > 60).mean() > 0.02 and true.min() > 0
    assert (colourful[:, 0] - colourful[:, 2] > 60).mean() > 0.02


def test_video_shows_the_trainings_side_by_side_colour_above_depth(report):
    film = cv2.VideoCapture(str(report[0] / "video.mp4"))
    read, frame = film.read()
    film.release()
    assert read and 3 * 320 < frame.shape[1] < 4 * 320 and 2 * 240 < frame.shape[0] < 3 * 240
    photo = cv2.resize(report[1].cells[0].views[0].truth[..., ::-1], (320, 240), interpolation=cv2.INTER_CUBIC)
    match = cv2.matchTemplate(frame, np.ascontiguousarray(photo), cv2.TM_CCOEFF_NORMED)
    first, second, splats = (match[12, 12 + 332 * column] for column in range(3))
    assert splats > first > second and splats > 0.9


def test_page_holds_everything_and_asks_for_nothing(report):
    html = report[2].read_text()
    assert html.count("data:image/png;base64") == 2 and html.count("data:video/mp4;base64") == 1
    assert "with the depth prior" in html and "n/a" in html
    assert not re.search(r'src="(?!data:)', html)
    # But for the splats, which lie beside it.
    assert re.findall(r'href="(?!data:)([^"]*)"', html) == ["splats.ply"]
    assert "splats.ply (5 Gaussians, 0.0 MB)" in html and START in html
    assert "holds 5 Gaussians" in html and "three trainings of 100 steps" in html


def test_a_path_survives_the_disk_and_is_known_by_its_key(report, tmp_path):
    path = report[1].cells[0].path
    save_path(path, tmp_path / "path.npz", "a")
    assert load_path(tmp_path / "path.npz", "b") is None and load_path(tmp_path / "none.npz", "a") is None
    again = load_path(tmp_path / "path.npz", "a")
    assert again is not None and again.train_files == path.train_files
    np.testing.assert_array_equal(np.stack(again.frames.depth), np.stack(path.frames.depth))
    np.testing.assert_array_equal(np.stack(again.frames.rgb), np.stack(path.frames.rgb))
