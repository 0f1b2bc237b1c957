"""`ns-fewshot depth --source stereo` and `ns-fewshot inspect --depth-source stereo`: what they write and show."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.encoding import read_note
from fewshot_ns.presentation.scene_page import depth_section, views_section
from fewshot_ns.priors.depth import photo_depths as photo_depths_module
from fewshot_ns.scripts.cli import main


@pytest.fixture
def scene(make_llff_scene: Any, tmp_path: Path) -> Path:
    """Folder of a scene of 64x48 photos without depth maps."""
    folder = make_llff_scene(tmp_path / "scene", size=(48, 64))
    shutil.rmtree(folder / "depth_maps")
    return folder


@pytest.fixture
def blind_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is confirmed in the second view."""
    real = photo_depths_module.stereo_depths

    def partly(config: Any, views: Any) -> Any:
        found = real(config, views)
        found[1] = replace(found[1], valid=torch.zeros_like(found[1].valid))
        return found

    monkeypatch.setattr(photo_depths_module, "stereo_depths", partly)


def depth(scene: Path, *flags: Any) -> int:
    words = ["depth", "--data", scene, "--source", "stereo", "--device", "cpu", *flags]
    return main([str(word) for word in words])


def dataset_of(scene: Path) -> FewShotDataset:
    return FewShotDataset(LLFFDataParserConfig(data=scene).setup().get_dataparser_outputs("train"))


def test_maps_of_known_scale_are_found_by_the_dataparser(scene: Path, capsys: pytest.CaptureFixture) -> None:
    assert depth(scene) == 0
    shown = capsys.readouterr().out
    assert "depth from the photos: stereo" in shown and "maps of 3 training views" in shown
    # In NDC near and far are no depths.
    assert "--near" not in shown
    folder = scene / "depth_maps"
    expected = {"polarity": "distance", "meaning": "z_depth", "unit": 1.0, "may_be_empty": True}
    assert read_note(folder) == expected
    rows = json.loads((folder / "depth.json").read_text())["views"]
    assert [row["view"] for row in rows] == ["image001.png", "image005.png", "image011.png"]
    assert all(f"{row['valid']:.1%}" in shown and f"{row['relative_sigma']:.2%}" in shown for row in rows)
    dataset = dataset_of(scene)
    assert dataset.world_scale != 1.0
    for view, row in enumerate(rows):
        found = dataset.metric_depth(view)
        assert found.valid.mean() == pytest.approx(row["valid"], abs=1e-3) and row["valid"] > 0.3
        # The plane is about 4 away in units of the files.
        assert np.median(found.z_depth[found.valid]) == pytest.approx(4.0 * dataset.world_scale, rel=0.1)
        assert found.sigma is not None
        relative = np.median(found.sigma[found.valid] / found.z_depth[found.valid])
        assert relative == pytest.approx(row["relative_sigma"], rel=1e-3)
    # A second call replaces what the first one wrote.
    capsys.readouterr()
    assert depth(scene, "llff-data", "--ray-space", "metric") == 0
    bounds = re.search(r"planar depth: --near ([0-9.]+) --far ([0-9.]+)", " ".join(capsys.readouterr().out.split()))
    metric = FewShotDataset(
        LLFFDataParserConfig(data=scene, ray_space="metric").setup().get_dataparser_outputs("train")
    )
    z_depth = np.concatenate([found.z_depth[found.valid] for found in map(metric.metric_depth, range(3))])
    assert bounds is not None
    expected = np.quantile(z_depth, (0.01, 0.99)) * (0.8, 1.25)
    assert [float(bound) for bound in bounds.groups()] == pytest.approx(expected.tolist(), rel=0.02)


def test_a_view_without_depth_has_an_empty_map(
    scene: Path, blind_view: None, tiny_pipeline_config: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert depth(scene) == 0
    assert "0.0%" in capsys.readouterr().out
    config = tiny_pipeline_config(LLFFDataParserConfig(data=scene))
    for loss in ("ranking", "cdf"):
        config.depth.loss, config.depth.source = loss, "files"
        pipeline = config.setup(device="cpu", test_mode="val")
        losses = pipeline.get_train_loss_dict(0)[1]
        assert all(term.isfinite() for term in losses.values())
    section = depth_section(dataset_of(scene))
    assert section.tables[0].rows[1][3:] == [0.0, None, None, None, None, None, ""]
    captions = [picture.caption for picture in views_section({"train": dataset_of(scene)}, 64).pictures]
    assert "0% valid" in captions[1] and "median sigma" in captions[0] and "median sigma" not in captions[1]
    capsys.readouterr()
    assert main(["inspect", "--data", str(scene), "--output", str(tmp_path / "page.html")]) == 0


def test_old_maps_do_not_stay_under_a_new_note(
    scene: Path, make_llff_scene: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A monocular call wrote six views, and stereo writes three."""
    mono = make_llff_scene(tmp_path / "mono") / "depth_maps"
    maps = ["depth", "--data", str(scene), "--maps", str(mono), "--polarity", "inverse_depth"]
    assert main([*maps, "llff-data", "--num-views", "6"]) == 0
    folder = scene / "depth_maps"
    six = {path.name for path in folder.glob("*.npz")}
    assert len(six) == 6 and set(json.loads((folder / "depth.json").read_text())["files"]) == six
    capsys.readouterr()
    assert depth(scene) == 0
    three = {path.name for path in folder.glob("*.npz")}
    assert three == {"image001.npz", "image005.npz", "image011.npz"}
    gone = ", ".join(sorted(six - three))
    assert len(six - three) >= 3 and f"removed {gone}: maps of an earlier call" in " ".join(
        capsys.readouterr().out.split()
    )
    # Maps of another origin are not touched; they stop the command before it computes anything.
    (folder / "image003.npy").write_bytes(b"somebody's")
    note = (folder / "depth.json").read_bytes()
    assert depth(scene) == 1
    assert "found image003.npy; remove them, give another --output, or --overwrite" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (folder / "depth.json").read_bytes() == note
    assert depth(scene, "--overwrite") == 0
    assert "image003.npy are of another origin" in " ".join(capsys.readouterr().out.split())
    assert (folder / "image003.npy").read_bytes() == b"somebody's"


def test_flags_that_belong_to_another_source(scene: Path, capsys: pytest.CaptureFixture) -> None:
    assert depth(scene, "--align", "colmap") == 1
    assert "--align and --maps are for --source mono" in " ".join(capsys.readouterr().err.split())
    assert main(["depth", "--data", str(scene), "--fill", "mono"]) == 1
    assert "--fill mono is for --source stereo and mvs" in " ".join(capsys.readouterr().err.split())
    assert depth(scene, "--max-side", "16") == 1
    assert "--max-side: expected at least 32, found 16" in " ".join(capsys.readouterr().err.split())


def test_one_photo_or_none_that_agree(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert depth(scene, "llff-data", "--train-indices", "1") == 1
    assert "training needs at least 2 views, got 1: [1]" in capsys.readouterr().err
    real = photo_depths_module.stereo_depths
    monkeypatch.setattr(
        photo_depths_module,
        "stereo_depths",
        lambda *given: [replace(found, valid=torch.zeros_like(found.valid)) for found in real(*given)],
    )
    assert depth(scene) == 1
    assert "in none of image001.png, image005.png, image011.png another photo confirms any" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (scene / "depth_maps").exists()


def test_inspect_shows_what_the_photos_say(scene: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    def inspect(*flags: str) -> str:
        assert main(["inspect", "--data", str(scene), "--output", str(page), *flags]) == 0
        return page.read_text()

    text = inspect()
    assert "The training views have none." in text and "--depth-source stereo" in text
    text = inspect("--depth-source", "stereo")
    assert "hatched has no value" in text and "% valid, median sigma" in text and "depth of view 1" in text
    assert not (scene / "depth_maps").exists()
    assert depth(scene) == 0
    assert "% valid, median sigma" in inspect()
    assert "% valid" not in inspect("--depth-source", "none")


@pytest.mark.parametrize("share, warned", [(0.0, True), (0.05, True), (0.5, False)])
def test_inspect_and_depth_warn_of_very_few_pixels(
    scene: Path, share: float, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As with wrong poses."""
    real = photo_depths_module.stereo_depths

    def partly(config: Any, views: Any) -> Any:
        rows = torch.arange(48)[:, None] < share * 48
        return [replace(found, valid=found.valid & rows) for found in real(config, views)]

    monkeypatch.setattr(photo_depths_module, "stereo_depths", partly)
    page = tmp_path / "page.html"
    assert main(["inspect", "--data", str(scene), "--output", str(page), "--depth-source", "stereo"]) == 0
    words = "In every view less than 15% of the pixels has a depth: the poses may be wrong"
    shown = " ".join(capsys.readouterr().out.split())
    assert page.is_file() and (words in shown) == warned
    assert "depth of the training views from the photos (stereo): image001.png" in shown
    assert depth(scene) == int(share == 0)
    assert (words in " ".join(capsys.readouterr().out.split())) == (warned and share > 0)
