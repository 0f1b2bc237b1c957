"""Scenes in the folder of a run: what is kept of them is what rendering needs, and it comes back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from fewshot_ns.data.datamanagers.fewshot import with_stored_scene_if_missing
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.stored import (
    FILE_NAME,
    StoredSceneDataParserConfig,
    read_stored_scene,
    store_scene,
    synthetic_scene,
)
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata

PARSERS = {
    "tiny_llff_scene": LLFFDataParserConfig(),
    "tiny_dtu_scene": DTUDataParserConfig(depth_polarity="distance"),
    "tiny_blender_scene": FewShotBlenderDataParserConfig(num_views=3),
}
SAME = (
    "geometry",
    "protocol",
    "split",
    "image_indices",
    "train_indices",
    "test_indices",
    "pool_indices",
    "length_unit",
)


@pytest.fixture(params=PARSERS)
def splits(request) -> Any:
    """Training and test split of a scene."""
    PARSERS[request.param].data = request.getfixturevalue(request.param)
    parser = PARSERS[request.param].setup()
    return {split: parser.get_dataparser_outputs(split) for split in ("train", "test")}


def test_it_comes_back_as_it_was(splits, tmp_path):
    path = store_scene(tmp_path, splits)
    assert path.name == FILE_NAME
    parser: Any = StoredSceneDataParserConfig(data=path).setup()
    for split, before in splits.items():
        after = parser.get_dataparser_outputs(split)
        records = [get_fewshot_metadata(each.metadata) for each in (before, after)]
        for name in SAME:
            assert getattr(records[0], name) == getattr(records[1], name), name
        torch.testing.assert_close(records[0].scene_camera_to_worlds, records[1].scene_camera_to_worlds)
        assert (records[0].scene_bounds is None) == (records[1].scene_bounds is None)
        for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "camera_type"):
            torch.testing.assert_close(getattr(before.cameras, name), getattr(after.cameras, name))
        torch.testing.assert_close(before.dataparser_transform, after.dataparser_transform)
        assert before.dataparser_scale == after.dataparser_scale
        assert torch.equal(torch.as_tensor(before.alpha_color), torch.as_tensor(after.alpha_color))
        dataset = FewShotDataset(after)
        assert len(dataset) == len(before.image_filenames) and not dataset.image_filenames[0].exists()


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the scene of a run"):
        read_stored_scene(tmp_path / FILE_NAME)
    for text, message in (("{", "expected JSON"), ("[]", "found version None"), ('{"version": 9}', "found version 9")):
        (tmp_path / FILE_NAME).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_stored_scene(tmp_path / FILE_NAME)


def manager_of(parser: Any) -> Any:
    from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig

    return FewShotDataManagerConfig(dataparser=parser)


def test_where_cameras_come_from(tiny_blender_scene, tmp_path):
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    there = manager_of(FewShotBlenderDataParserConfig(data=tiny_blender_scene))
    assert with_stored_scene_if_missing(there, tmp_path) is there
    other = manager_of(LLFFDataParserConfig(data=tmp_path / "gone"))
    assert with_stored_scene_if_missing(other, tmp_path) is other and with_stored_scene_if_missing(other, None) is other
    with pytest.raises(FileNotFoundError, match="gone: expected the folder of a scene"):
        other.dataparser.setup().get_dataparser_outputs("train")
    gone = manager_of(FewShotBlenderDataParserConfig(data=tmp_path / "gone", downscale_factor=4, near=1.0))
    (tmp_path / "views.json").write_text(json.dumps({"train_indices": [5, 6, 7]}))
    assumed = with_stored_scene_if_missing(gone, tmp_path).dataparser.setup().get_dataparser_outputs("train")
    record = get_fewshot_metadata(assumed.metadata)
    assert len(assumed.image_filenames) == 3 and int(assumed.cameras.width[0]) == 200
    assert (record.geometry.near, record.geometry.far, record.geometry.background) == (1.0, 6.0, "white")
    splits = {split: there.dataparser.setup().get_dataparser_outputs(split) for split in ("train", "test")}
    store_scene(tmp_path, splits)
    kept = with_stored_scene_if_missing(gone, tmp_path)
    assert kept.dataparser.data == tmp_path / FILE_NAME and gone.dataparser.data == tmp_path / "gone"


def test_the_synthetic_camera_is_that_of_its_files(tmp_path, make_blender_scene):
    """On a scene with the published opening angle."""
    from fewshot_ns.data.dataparsers.single.stored import SYNTHETIC_ANGLE

    folder = make_blender_scene(tmp_path / "scene", size=(20, 20))
    for file in folder.glob("transforms_*.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "camera_angle_x": SYNTHETIC_ANGLE}))
    config = FewShotBlenderDataParserConfig(data=folder, num_views=3)
    real = config.setup().get_dataparser_outputs("train")
    content = synthetic_scene(config, 3)
    ours = StoredSceneDataParserConfig(content=content).setup().get_dataparser_outputs("train")
    torch.testing.assert_close(ours.cameras.fx / ours.cameras.width, real.cameras.fx / real.cameras.width)
    assert get_fewshot_metadata(ours.metadata).geometry == get_fewshot_metadata(real.metadata).geometry
