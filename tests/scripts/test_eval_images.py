"""`ns-fewshot eval --images --truth`: images on disk are measured like renders, and never beside a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.ledger import read_rows
from fewshot_ns.evaluation.runners.image_pairs import pair_images
from fewshot_ns.scripts.cli import main
from fewshot_ns.scripts.eval import EvalCommand
from fewshot_ns.utils.natural_order import natural_key

METRICS = ("psnr", "ssim")


def write(folder: Path, names: str, seed: int, size=(12, 16), channels: int = 3) -> Dict[str, npt.NDArray[np.uint8]]:
    """Random images by their paths, which are written below the folder."""
    images = {}
    for number, name in enumerate(names.split()):
        image = np.random.default_rng([seed, number]).integers(0, 256, (*size, channels), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
        images[name] = image
    return images


def rows_of(folder: Path, **flags):
    EvalCommand(images=folder / "renders", truth=folder / "truth", metrics=METRICS, **flags).main()
    return read_rows(folder / "renders" / "eval.jsonl")


def test_figures_are_those_of_the_suite_and_the_files_those_of_a_run(tmp_path):
    renders = write(tmp_path / "renders", "left/0005.png right/0005.png right/0010.png", 1)
    truth = write(tmp_path / "truth", "left/0005.png right/0005.png right/0010.png", 2)
    rows = rows_of(tmp_path)
    suite = MetricSuite(EvaluationConfig(metrics=METRICS))
    for index, (name, row) in enumerate(zip(truth, rows, strict=True)):
        expected = suite(torch.from_numpy(renders[name]), torch.from_numpy(truth[name]))
        assert (row.file_name, row.view_index, row.split_index) == (name, index, index)
        # No speed: nothing was rendered.
        assert row.metrics == expected and row.num_rays_per_sec is None
        error = ((renders[name].astype(float) - truth[name]) / 255.0) ** 2
        assert row.metrics["psnr"] == pytest.approx(-10 * np.log10(error.mean()), abs=1e-4)
    written = json.loads((tmp_path / "renders" / "eval.json").read_text())
    assert written["complete"] and written["views"] == [0, 1, 2] and written["left_out"] == 0
    assert written["results"]["psnr"] == pytest.approx(sum(row.metrics["psnr"] or 0.0 for row in rows) / 3)


def test_measured_again_only_where_an_image_has_changed(tmp_path, capsys):
    write(tmp_path / "renders", "0.png 1.png", 1)
    write(tmp_path / "truth", "0.png 1.png", 2)
    first = rows_of(tmp_path, views=(1,))
    assert [row.view_index for row in first] == [1]
    capsys.readouterr()
    assert [row.view_index for row in rows_of(tmp_path)] == [0, 1]
    printed = capsys.readouterr().out
    assert "0.png: psnr" in printed and "1.png: psnr" not in printed
    write(tmp_path / "renders", "0.png 1.png", 3)
    assert rows_of(tmp_path)[1].metrics["psnr"] != first[0].metrics["psnr"]
    assert "1.png: psnr" in capsys.readouterr().out
    EvalCommand(images=tmp_path / "renders", truth=tmp_path / "truth", summarise_only=True).main()
    assert "psnr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("renders", "truth", "expected"),
    [
        # Another format, and folders that only one side has.
        ("a/1.jpg a/2.jpg", "a/1.png a/2.png", {"a/1.png": "a/1.jpg", "a/2.png": "a/2.jpg"}),
        ("9.png 10.png", "photos/9.png photos/10.png", {"photos/9.png": "9.png", "photos/10.png": "10.png"}),
        # The path counts before the name.
        ("l/1.png r/1.png", "r/1.png l/1.png", {"l/1.png": "l/1.png", "r/1.png": "r/1.png"}),
    ],
)
def test_partners(tmp_path, renders, truth, expected):
    write(tmp_path / "renders", renders, 1)
    write(tmp_path / "truth", truth, 2)
    pairs, left_out = pair_images(tmp_path / "renders", tmp_path / "truth")
    found = {pair.name: pair.render.relative_to(tmp_path / "renders").as_posix() for pair in pairs}
    assert found == expected and list(found) == list(expected) and left_out == 0


@pytest.mark.parametrize(
    ("renders", "truth", "message"),
    [
        (
            "1.png 2.png 7.png",
            "1.png 2.png",
            r"truth: expected an image for each one of .*renders, found none for 7\.png",
        ),
        ("1.png", "1.png 2.png", r"renders: expected an image for each one of .*truth, found none for 2\.png"),
        ("5.png", "l/5.png r/5.png", r"truth: expected one image for 5\.png, found l/5\.png, r/5\.png"),
        ("l/5.png r/5.png", "5.png", r"renders: expected one image for .*5\.png, found l/5\.png, r/5\.png"),
        ("1.png", "1.jpg 1.webp", r"expected one image for 1\.png, found 1\.jpg, 1\.webp"),
        ("1.png", "notes/1.txt", "truth: expected a folder of images"),
    ],
)
def test_what_has_no_partner_or_two_is_named(tmp_path, renders, truth, message):
    write(tmp_path / "renders", renders, 1)
    if "txt" not in truth:
        write(tmp_path / "truth", truth, 2)
    with pytest.raises((ValueError, OSError), match=message):
        rows_of(tmp_path)
    assert not (tmp_path / "renders" / "eval.json").exists()


def test_missing_ones_are_left_out_where_that_is_asked_for(tmp_path, capsys):
    write(tmp_path / "renders", "2.png 7.png", 1)
    write(tmp_path / "truth", "1.png 2.png 3.png", 2)
    assert [row.file_name for row in rows_of(tmp_path, on_missing="skip")] == ["2.png"]
    assert "3 images have no partner" in capsys.readouterr().out
    write(tmp_path / "others", "7.png", 1)
    with pytest.raises(FileNotFoundError, match=r"found none for 7\.png; they are matched by path"):
        pair_images(tmp_path / "others", tmp_path / "truth", "skip")


def test_two_renders_of_one_name_in_one_folder(tmp_path):
    write(tmp_path, "0-truth.png 0-render.png 0.png", 1)
    with pytest.raises(
        ValueError, match=r"expected one image of a name, found .*0-render\.png.*0\.png|0\.png.*0-render"
    ):
        pair_images(tmp_path, tmp_path)


def test_sizes_must_agree(tmp_path):
    write(tmp_path / "renders", "1.png", 1, size=(12, 16))
    write(tmp_path / "truth", "1.png", 2, size=(16, 12))
    with pytest.raises(ValueError, match=r"renders/1\.png: expected 12x16 pixels .*truth/1\.png has, found 16x12"):
        rows_of(tmp_path)


def test_transparent_images_need_a_background(tmp_path):
    write(tmp_path / "renders", "1.png", 1)
    truth = write(tmp_path / "truth", "1.png", 2, channels=4)["1.png"].astype(float)
    with pytest.raises(ValueError, match=r"truth/1\.png: expected an opaque image.* give --background"):
        rows_of(tmp_path)
    alpha = truth[..., 3:] / 255
    for background, under in (("white", 255), ("black", 0)):
        Image.fromarray(np.round(truth[..., :3] * alpha + under * (1 - alpha)).astype(np.uint8)).save(
            tmp_path / "renders" / "1.png"
        )
        (row,) = rows_of(tmp_path, background=background)
        assert row.metrics["psnr"] == 100.0


def test_masks_by_name_or_number(tmp_path):
    renders, truth = (write(tmp_path / part, "v/a.png v/b.png", seed) for part, seed in (("renders", 1), ("truth", 2)))
    mask = np.zeros((12, 16), dtype=np.uint8)
    mask[:6] = 255
    (tmp_path / "masks").mkdir()
    for name in ("a.png", "001.png"):
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    rows = rows_of(tmp_path, mask_dir=tmp_path / "masks")
    for name, row in zip(truth, rows, strict=True):
        error = (((renders[name].astype(float) - truth[name]) / 255.0)[:6] ** 2).mean()
        assert row.metrics["masked_psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-4)
    (tmp_path / "masks" / "001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"masks: expected a mask for v/b\.png, or 001\.png"):
        rows_of(tmp_path, mask_dir=tmp_path / "masks")


def test_pictures_that_an_evaluation_kept(tmp_path):
    """Both images of a view lie in one folder."""
    write(tmp_path, "view-0002-truth.png view-0002-render.png s/7-truth.png s/7.png", 1)
    pairs, _ = pair_images(tmp_path, tmp_path)
    assert [(pair.name, pair.render.name) for pair in pairs] == [
        ("s/7-truth.png", "7.png"),
        ("view-0002-truth.png", "view-0002-render.png"),
    ]
    write(tmp_path, "view-0003-truth.png", 1)
    with pytest.raises(FileNotFoundError, match=r"found none for view-0003-truth\.png"):
        pair_images(tmp_path, tmp_path)
    write(tmp_path / "other", "1.png", 1)
    with pytest.raises(ValueError, match="expected NAME-truth"):
        pair_images(tmp_path / "other", tmp_path / "other")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "either a run .* or two folders"),
        (["--images", "a"], "either a run .* or two folders"),
        (["--load-config", "a", "--images", "a", "--truth", "a"], "either a run .* or two folders"),
        (["--images", "a", "--truth", "b", "--max-side", "99"], "--max-side: for runs alone"),
        (["--images", "a", "--truth", "b", "--region", "true-depth"], "images on disk have no depth"),
        (["--load-config", "a", "--background", "white"], "--on-missing and --background are for --images"),
        (["--images", "a", "--truth", "b"], "a: expected a folder of images"),
    ],
)
def test_flags_that_do_not_go_together(flags, message, capsys, tmp_path, monkeypatch):
    import re

    monkeypatch.chdir(tmp_path)
    assert main(["eval", *flags]) == 1
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_natural_order():
    assert sorted(["b10", "b9", "B9", "a/2", "a/10"], key=natural_key) == ["a/2", "a/10", "B9", "b9", "b10"]
