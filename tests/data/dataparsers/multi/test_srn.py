"""srn-data, and with it what all dataparsers of many scenes share: table, active scene, errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.data.records.scene import SceneError


def parser_of(data: Path, **flags):
    return SRNDataParserConfig(data=data, **flags).setup()


def opened(data: Path, **flags):
    parser = parser_of(data, **flags)
    return parser.open_scene(parser.scene_table("train")[0])


def test_table_of_each_split(solids_once):
    parser = parser_of(solids_once)
    names = {split: [entry.scene_id for entry in parser.scene_table(split)] for split in ("train", "val", "test")}
    assert names["train"] == sorted(names["train"]) and len(names["train"]) == 5
    assert names["val"] == ["chair_0005"] and names["test"] == ["chair_0006", "table_0007"]
    assert {entry.split for entry in parser.scene_table("test")} == {"test"}
    assert {entry.folder.parent.name for entry in parser.scene_table("test")} == {"solids_test"}
    with pytest.raises(ValueError, match="unknown split 'all'; expected train, val, test"):
        parser.scene_table("all")


def test_listing_opens_nothing(solids):
    for path in solids.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert len(parser_of(solids).scene_table("train")) == 5


@pytest.mark.parametrize("layout", ["inside", "beside", "nested"])
def test_where_the_splits_may_lie(solids, tmp_path, layout):
    if layout == "beside":
        data = solids / "solids"
    elif layout == "nested":
        (tmp_path / "chairs_train").mkdir()
        shutil.move(solids / "solids_train", tmp_path / "chairs_train" / "chairs_2.0_train")
        data = tmp_path / "chairs"
    else:
        data = solids
    assert len(parser_of(data).scene_table("train")) == 5


def test_a_missing_set_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected objects in .*cars_train, or in one folder \*_train"):
        parser_of(tmp_path / "cars").scene_table("train")


def test_categories(solids_once):
    assert {entry.category for entry in parser_of(solids_once).scene_table("train")} == {""}
    parser = parser_of(solids_once, categories_in_names=True, categories=("lamp", "table"))
    assert [entry.category for entry in parser.scene_table("train")] == ["lamp", "table"]
    parser = parser_of(solids_once, categories_in_names=True, categories=("lamp", "ship"))
    with pytest.raises(ValueError, match=r"expected categories among \['cabinet', .*\], got \['ship'\]"):
        parser.scene_table("train")


def test_nerfstudio_gets_the_active_scene(solids_once):
    assert parser_of(solids_once).scene_name == "cabinet_0003"
    outputs = parser_of(solids_once).get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == len(outputs.cameras) == 5
    assert outputs.image_filenames[0].parent.parent.name == "cabinet_0003"
    record = get_fewshot_metadata(outputs.metadata)
    # Distances in the files, planar depths for nerfstudio.
    assert record.geometry.near < 0.8 and record.geometry.far == pytest.approx(1.8)
    assert record.geometry.background == "white" and torch.equal(outputs.alpha_color, torch.ones(3))
    test = parser_of(solids_once, scene="table_0007").get_dataparser_outputs("test")
    assert test.image_filenames[0].parent.parent.parent.name == "solids_test"


def test_an_active_scene_of_another_split_is_found(solids_once):
    parser = parser_of(solids_once, scene="lamp_0002")
    assert parser.get_dataparser_outputs("test").image_filenames[0].parent.parent.name == "lamp_0002"
    with pytest.raises(ValueError, match=r"such as lamp_0002.*; got 'lamp_2'"):
        parser_of(solids_once, scene="lamp_2").get_dataparser_outputs("train")


def test_training_on_a_few_views_of_the_active_scene(solids_once):
    flags = {"train_indices": (1, 3)}
    train = parser_of(solids_once, **flags).get_dataparser_outputs("train")
    test = parser_of(solids_once, **flags).get_dataparser_outputs("test")
    assert [path.stem for path in train.image_filenames] == ["000001", "000003"]
    record = get_fewshot_metadata(test.metadata)
    assert record.test_indices == (0, 2, 4) and record.image_indices == (0, 2, 4)
    torch.testing.assert_close(test.cameras.camera_to_worlds, record.scene_camera_to_worlds[[0, 2, 4]])
    for flags in ({"train_indices": (5,)}, {"test_indices": (-1,)}, {"train_indices": ()}):
        with pytest.raises(ValueError, match=r"must lie in 0..4 \(5 views\), got"):
            parser_of(solids_once, **flags).get_dataparser_outputs("train")


def test_sizes_and_half_pixels(solids_once):
    scene, half = opened(solids_once), opened(solids_once, downscale_factor=2)
    assert (scene.cameras.width == 16).all() and (half.cameras.height == 8).all()
    torch.testing.assert_close(half.cameras.fx, scene.cameras.fx / 2)
    # As in the original the principal point counts from the first pixel's centre at every size.
    torch.testing.assert_close(half.cameras.cx - 0.5, (scene.cameras.cx - 0.5) / 2)
    corner = opened(solids_once, image_size=(8, 8), integer_pixels=False)
    torch.testing.assert_close(corner.cameras.cx, (scene.cameras.cx - 0.5) / 2)
    with pytest.raises(SceneError, match="expected the proportions of --image-size"):
        opened(solids_once, image_size=(8, 12))


def test_near_and_far(solids, tmp_path):
    assert (opened(solids, near=0.5).near, opened(solids, far=3.0).far) == (0.5, 3.0)
    assert (opened(solids, sampling_range="chairs").near, opened(solids, sampling_range="chairs").far) == (1.25, 2.75)
    (solids / "solids_train" / "near_far.txt").unlink()
    with pytest.raises(SceneError, match="near_far.txt: expected near and far .* found neither; give --near and --far"):
        opened(solids)
    assert opened(solids, near=0.5, far=0.75).far == 0.75
    shutil.move(solids / "solids_train", tmp_path / "srn_cars_train")
    assert opened(tmp_path / "srn_cars").far == 1.8
    with pytest.raises(SceneError, match="expected 0 <= near < far, got near 2.0 and far 1.8"):
        opened(tmp_path / "srn_cars", near=2.0)


def broken(folder: Path, what: str) -> None:
    pose = folder / "pose" / "000002.txt"
    if what == "no intrinsics":
        (folder / "intrinsics.txt").unlink()
    elif what == "words for intrinsics":
        (folder / "intrinsics.txt").write_text("f cx cy\n16 16\n", encoding="utf-8")
    elif what == "short intrinsics":
        (folder / "intrinsics.txt").write_text("20 8 8 0\n", encoding="utf-8")
    elif what == "wide intrinsics":
        (folder / "intrinsics.txt").write_text("20 8 8 0\n16 32\n", encoding="utf-8")
    elif what == "no focal":
        (folder / "intrinsics.txt").write_text("0 8 8 0\n16 16\n", encoding="utf-8")
    elif what == "short pose":
        pose.write_text("1 0 0 0 0 1 0 0", encoding="utf-8")
    elif what == "binary pose":
        pose.write_bytes(bytes(range(128, 256)))
    elif what == "nan pose":
        pose.write_text(" ".join(["nan"] * 16), encoding="utf-8")
    elif what == "zero pose":
        pose.write_text(" ".join(["0"] * 16), encoding="utf-8")
    elif what == "mirrored pose":
        matrix = np.array(pose.read_text(encoding="utf-8").split(), dtype=float).reshape(4, 4)
        pose.write_text(" ".join(map(str, (matrix @ np.diag([-1, 1, 1, 1])).ravel())), encoding="utf-8")
    elif what == "no pose":
        pose.unlink()
    elif what == "no images":
        shutil.rmtree(folder / "rgb")
    elif what == "one view":
        for path in [*sorted((folder / "rgb").iterdir())[1:], *sorted((folder / "pose").iterdir())[1:]]:
            path.unlink()
    else:
        (folder / "rgb" / "000000.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    "what, message",
    [
        ("no intrinsics", "intrinsics.txt: expected the camera of the object, found no such file"),
        ("words for intrinsics", "intrinsics.txt: expected focal length .* as numbers, found could not convert"),
        ("short intrinsics", "intrinsics.txt: expected lines 'f cx cy ..' to 'height width', found 1 lines"),
        ("wide intrinsics", r"000000.png: expected the proportions of its calibration \(32x16, .*found 16x16"),
        ("no focal", "cabinet_0003: photo 000000.png: expected positive focal lengths, found 0"),
        ("short pose", "pose/000002.txt: expected a 4x4 camera-to-world matrix, 16 finite numbers, found 1 0 0"),
        ("binary pose", "pose/000002.txt: expected text, found"),
        ("nan pose", "pose/000002.txt: expected a 4x4 camera-to-world matrix, 16 finite numbers, found nan"),
        ("zero pose", "cabinet_0003: expected a rotation in the 3x3 part .* found none for 000002.png"),
        ("mirrored pose", "cabinet_0003: expected a rotation .* found none for 000002.png"),
        ("no pose", "pose: expected a file NAME.txt per image of rgb, found 4 files for 5 .*partner: 000002"),
        ("no images", "rgb: expected a folder of images"),
        ("one view", "cabinet_0003: expected at least 2 views, found 1"),
        ("damaged image", "000000.png: expected a readable image, found a file that cannot be opened"),
    ],
)
def test_a_damaged_scene_is_named_when_it_is_opened(solids, what, message):
    broken(solids / "solids_train" / "cabinet_0003", what)
    parser = parser_of(solids)
    table = parser.scene_table("train")
    with pytest.raises(SceneError, match=message):
        parser.open_scene(table[0])
    assert len(parser.open_scene(table[1]).cameras) == 5


def test_poses_are_those_of_the_files(solids_once):
    scene = opened(solids_once)
    for path, pose in zip(sorted((scene.entry.folder / "pose").iterdir()), scene.cameras.camera_to_worlds, strict=True):
        matrix = np.array(path.read_text().split(), dtype=float).reshape(4, 4)
        np.testing.assert_allclose(pose, matrix[:3] @ np.diag([1, -1, -1, 1]), atol=1e-6)
        # The cameras stand above the ground (z up) and look at the object in the middle.
        assert pose[2, 3] > 0
        np.testing.assert_allclose(pose[:, 3] / pose[:, 3].norm(), pose[:, 2], atol=1e-5)
