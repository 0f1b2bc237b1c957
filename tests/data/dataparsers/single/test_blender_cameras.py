"""Test cameras of the Blender layout that have no photo: they are rendered, and nothing is measured on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import pytest
import torch
from nerfstudio.scripts.render import _disable_datamanager_setup

from fewshot_ns.bench.planning.config_identity import identify_scene
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager, FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, validate_dataset


def config(scene: Path, **flags: Any) -> FewShotBlenderDataParserConfig:
    return FewShotBlenderDataParserConfig(data=scene, **{"num_views": 3, "testskip": 4, **flags})


def without(scene: Path, *frames: int) -> Path:
    for frame in frames:
        (scene / "test" / f"r_{frame}.png").unlink()
    return scene


def test_some_without_a_photo(tiny_blender_scene: Path, capsys: pytest.CaptureFixture) -> None:
    """Of the frames 0, 4 and 8 the second has a pose alone."""
    parser = config(without(tiny_blender_scene, 4, 5)).setup()
    train = FewShotDataset(parser.get_dataparser_outputs("train"))
    said = " ".join(capsys.readouterr().out.split())
    assert "test views [10, 18], 1 test cameras without a photo (rendered, not measured)" in said
    assert train.fewshot.test_indices == (10, 18) and train.fewshot.rendered_indices == ()
    test = FewShotDataset(parser.get_dataparser_outputs("test"))
    assert test.fewshot.image_indices == (10, 18, 14) and test.fewshot.rendered_indices == (14,)
    assert [test.has_photo(index) for index in range(3)] == [True, True, False]
    validate_dataset(test)
    assert test.size_of(2) == (20, 20) and torch.equal(test[2]["image"], torch.ones(20, 20, 3))
    assert (test.get_data(2, "uint8")["image"] == 255).all()
    torch.testing.assert_close(test.cameras.camera_to_worlds[2], train.fewshot.scene_camera_to_worlds[14])


def names(dataset: Any) -> List[str]:
    return [path.name for path in dataset.image_filenames]


def test_what_measures_leaves_them_out_and_ns_render_does_not(tiny_blender_scene: Path) -> None:
    parser = config(without(tiny_blender_scene, 0))
    manager = FewShotDataManagerConfig(dataparser=parser)
    measuring = manager.setup(device="cpu", test_mode="test")
    assert measuring.holds_out and names(measuring.eval_dataset) == ["r_4.png", "r_8.png"]
    measured = [int(batch["image_idx"]) for _, batch in measuring.fixed_indices_eval_dataloader]
    assert measured == [0, 1] and names(measuring.create_measured_dataset()) == ["r_4.png", "r_8.png"]
    # As `ns-render dataset` makes its own.
    with _disable_datamanager_setup(FewShotDataManager):
        rendering = manager.setup(device="cpu", test_mode="test")
    assert names(rendering.eval_dataset) == ["r_4.png", "r_8.png", "r_0.png"]
    identity = identify_scene(parser)
    assert identity.test_views == 2


def test_none_with_a_photo(tiny_blender_scene: Path, capsys: pytest.CaptureFixture) -> None:
    parser = config(without(tiny_blender_scene, *range(9)), background="black")
    manager = FewShotDataManagerConfig(dataparser=parser).setup(device="cpu", test_mode="test")
    assert "nothing is held out, 3 test cameras without a photo" in " ".join(capsys.readouterr().out.split())
    assert not manager.holds_out and names(manager.eval_dataset) == ["r_0.png", "r_4.png", "r_8.png"]
    validate_dataset(manager.eval_dataset)
    assert manager.eval_dataset[1]["image"].max() == 0


def test_a_training_photo_has_to_be_there(tiny_blender_scene: Path) -> None:
    (tiny_blender_scene / "train" / "r_4.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"train/r_4\.png: expected the photo of view 4"):
        config(tiny_blender_scene).setup().get_dataparser_outputs("test")
