"""Object masks that only metrics know of: of sets of scans in the layout of IDR and NeuS, and of DTU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dialects import DIALECTS
from PIL import Image

from fewshot_ns.data.dataparsers.multi.dvr_dtu import DVRDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.idr import IDRDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.multiscene.library import SceneLibrary
from fewshot_ns.data.records.scene import SceneError

FORMATS = ("scene-folder-data", "dvr-dtu-data")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two scans of IDR's layout, listed as in DVR's format; the second without masks."""
    folder = tmp_path / "scans"
    for name in ("scan1", "scan2"):
        (folder / name).mkdir(parents=True)
        DIALECTS["idr"].write(folder / name)
        (folder / name / "cameras_sphere.npz").rename(folder / name / "cameras.npz")
    shutil.rmtree(folder / "model")  # COLMAP's
    (folder / "scan2" / "mask").rename(tmp_path / "away")
    for split in ("train", "val"):
        (folder / f"new_{split}.lst").write_text("scan1\nscan2\n", "utf8")
        (folder / f"{split}.lst").write_text("scan1\nscan2\n", "utf8")
    return folder


def parser_of(name: str, data: Path, **flags: Any) -> Any:
    if name == "dvr-dtu-data":
        return DVRDTUDataParserConfig(data=data, **flags).setup()
    return SceneFolderDataParserConfig(data=data, parser=IDRDataParserConfig(), **flags).setup()


@pytest.mark.parametrize("size", [None, (24, 32)])
@pytest.mark.parametrize("name", FORMATS)
def test_they_are_those_of_one_scan(name: str, size: Any, scans: Path):
    """Bit-equal to what idr-data measures within, and the photos and boxes are whole."""
    factor = 1 if size is None else 2
    own = IDRDataParserConfig(data=scans / "scan1", num_views=0, masks="evaluation", downscale_factor=factor)
    expected = FewShotDataset(own.setup().get_dataparser_outputs("test"))
    parser, images = parser_of(name, scans, image_size=size), SceneImages()
    scene = parser.open_scene(parser.scene_table("val")[0])
    for position, view in enumerate(expected.fewshot.image_indices):
        mask = images.mask(scene, view)
        assert mask is not None and 0 < mask.mean() < 0.9
        truth = expected.get_metadata({"image_idx": position})["object_mask"][..., 0]
        assert torch.equal(mask, truth)
        height, width = truth.shape
        assert images.box(scene, view).tolist() == [0, 0, width - 1, height - 1]
        assert images.image(scene, view).amin(dim=-1)[0, 0] < 0.2  # the photo's dark wall, not a white background
    assert SceneLibrary(parser).may_have_evaluation_masks


@pytest.mark.parametrize("name", FORMATS)
def test_one_scene_of_the_set_is_measured_within_them(name: str, scans: Path):
    parser = parser_of(name, scans, scene="scan1", train_indices=(0, 3), test_indices=(1, 4))
    test = FewShotDataset(parser.get_dataparser_outputs("test"))
    validate_dataset(test)
    own = IDRDataParserConfig(data=scans / "scan1", train_indices=(0, 3), test_indices=(1, 4), masks="evaluation")
    truth = FewShotDataset(own.setup().get_dataparser_outputs("test"))
    for position in range(2):
        data, expected = test.get_data(position), truth.get_data(position)
        assert torch.equal(data["object_mask"], expected["object_mask"])
        torch.testing.assert_close(data["image"], expected["image"])


@pytest.mark.parametrize("name", FORMATS)
def test_scans_without_masks_have_none(name: str, scans: Path):
    parser = parser_of(name, scans, scene="scan2", train_indices=(0, 3), test_indices=(1, 4))
    scene = parser.open_scene(parser.scene_table("val")[1])
    assert scene.evaluation_masks is None and SceneImages().mask(scene, 1) is None
    assert "object_mask" not in FewShotDataset(parser.get_dataparser_outputs("test")).get_data(0)


@pytest.mark.parametrize("name", FORMATS)
def test_masks_of_some_views_are_an_error_where_the_others_are_measured(name: str, scans: Path):
    lost = scans / "scan1" / "mask" / "photo_001.png"
    lost.unlink()
    parser = parser_of(name, scans, scene="scan1", train_indices=(0, 3), test_indices=(1, 4))
    scene = parser.open_scene(parser.scene_table("val")[0])
    assert SceneImages().mask(scene, 0) is not None
    with pytest.raises(SceneError, match="photo_001.png"):
        SceneImages().mask(scene, 1)
    with pytest.raises(FileNotFoundError, match=r"photo_001.png: expected the object mask of view 1"):
        parser.get_dataparser_outputs("test")
    Image.fromarray(np.full((64, 48), 255, np.uint8)).save(lost)
    with pytest.raises(SceneError, match=r"photo_001.png: expected the proportions of its camera"):
        SceneImages().mask(scene, 1)


def test_dtu_counts_white_alone(make_dtu_scene, tmp_path: Path):
    make_dtu_scene(tmp_path / "dtu")
    grey = np.full((12, 16), 200, dtype=np.uint8)
    grey[3:9, 4:8] = 255
    view = 1  # which dtu-data tests
    Image.fromarray(grey).save(tmp_path / "dtu" / "idrmasks" / "scan1" / f"{view:03d}.png")
    folder = SceneFolderDataParserConfig(data=tmp_path / "dtu" / "Rectified", parser=DTUDataParserConfig()).setup()
    scene = folder.open_scene(folder.scene_table("test")[0])
    position = (scene.view_indices or ()).index(view)
    mask = SceneImages().mask(scene, position)
    assert mask is not None and mask.sum() == 24
