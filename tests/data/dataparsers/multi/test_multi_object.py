"""multi-object-data: scenes at any depth, names of images, errors."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fewshot_ns.data.dataparsers.multi.multi_object import MultiObjectDataParserConfig
from fewshot_ns.data.records.scene import SceneError


def write_scene(folder: Path, ending: str = "_obj.png", count: int = 3, **meta) -> None:
    folder.mkdir(parents=True)
    frames = []
    for index in range(count):
        cv2.imwrite(str(folder / f"r_{index}{ending}"), np.full((8, 8, 4), 40 * index, np.uint8))
        matrix = np.eye(4)
        matrix[2, 3] = 5.0 + index
        frames.append({"file_path": f"./r_{index}.png", "transform_matrix": matrix.tolist()})
    content = {"camera_angle_x": 0.8, "frames": frames, **meta}
    (folder / "transforms.json").write_text(json.dumps(content), encoding="utf-8")


def test_scenes_at_any_depth(tmp_path):
    for name in ("b", "a/deep/er", "a/first"):
        write_scene(tmp_path / "train" / name)
    (tmp_path / "train" / "empty").mkdir()
    parser = MultiObjectDataParserConfig(data=tmp_path).setup()
    assert [entry.scene_id for entry in parser.scene_table("train")] == ["a/deep/er", "a/first", "b"]
    scene = parser.open_scene(parser.scene_table("train")[1])
    assert scene.image_filenames[2].name == "r_2_obj.png"
    assert (scene.near, scene.far) == (4.0, 9.0)
    with pytest.raises(FileNotFoundError, match="test: expected a folder of scenes"):
        parser.scene_table("test")


def test_images_named_as_in_nerf(tmp_path):
    write_scene(tmp_path / "train" / "a", ending=".png")
    parser = MultiObjectDataParserConfig(data=tmp_path, image_ending=".png").setup()
    assert parser.open_scene(parser.scene_table("train")[0]).image_filenames[1].name == "r_1.png"
    parser = MultiObjectDataParserConfig(data=tmp_path).setup()
    with pytest.raises(SceneError, match="r_0_obj.png: expected an image file, found none"):
        parser.open_scene(parser.scene_table("train")[0])


@pytest.mark.parametrize("angle", [None, 0.0, 4.0, "wide"])
def test_an_angle_that_is_none(tmp_path, angle):
    write_scene(tmp_path / "train" / "a", camera_angle_x=angle)
    parser = MultiObjectDataParserConfig(data=tmp_path).setup()
    message = (
        "expected a number for 'camera_angle_x'" if angle == "wide" else "expected 'camera_angle_x' between 0 and pi"
    )
    with pytest.raises(SceneError, match=f"transforms.json: {message}"):
        parser.open_scene(parser.scene_table("train")[0])


def test_a_damaged_transforms_file(tmp_path):
    write_scene(tmp_path / "train" / "a")
    (tmp_path / "train" / "a" / "transforms.json").write_text("{", encoding="utf-8")
    parser = MultiObjectDataParserConfig(data=tmp_path).setup()
    with pytest.raises(SceneError, match="transforms.json: expected JSON"):
        parser.open_scene(parser.scene_table("train")[0])


def test_masks_and_depth_are_said_to_be_unread(tmp_path, capsys):
    for name in ("a", "b"):
        write_scene(tmp_path / "train" / name)
        path = tmp_path / "train" / name / "transforms.json"
        meta = json.loads(path.read_text())
        for frame in meta["frames"]:
            frame.update(mask_path="r_0_obj.png", depth_file_path="r_1_obj.png", depth_path="none.png")
        path.write_text(json.dumps(meta))
    parser = MultiObjectDataParserConfig(data=tmp_path).setup()
    scenes = [parser.open_scene(entry) for entry in parser.scene_table("train")]
    assert list(scenes[1].remarks) == ["mask_path", "depth_file_path"]
    said = "".join(capsys.readouterr().out.split())
    # Once, not for each of the scenes.
    assert said.count("'mask_path'") == said.count("'depth_file_path'") == 1 and "'depth_path'" not in said
