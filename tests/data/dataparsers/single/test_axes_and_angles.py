"""Poses with other axes than their layout's, and angles that several photos share, are said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dialects import DIALECTS
from PIL import Image

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig


def _said(config, capsys: pytest.CaptureFixture) -> str:
    config.setup().get_dataparser_outputs("train")
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("turned", [False, True])
def test_llff_poses_that_look_the_other_way(turned: bool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    DIALECTS["llff"].write(tmp_path)
    rows = np.load(tmp_path / "poses_bounds.npy")
    if turned:
        matrices = rows[:, :15].reshape(-1, 3, 5).copy()
        matrices[:, :, 1:3] *= -1
        rows[:, :15] = matrices.reshape(-1, 15)
        np.save(tmp_path / "poses_bounds.npy", rows)
    said = _said(LLFFDataParserConfig(data=tmp_path, num_views=3), capsys)
    assert ("are not LLFF's axes (down, right, backward)" in said) == turned


@pytest.mark.parametrize(("name", "said"), [("{}.png", True), ("{:02d}.png", False), ("Photo_{:03d}.png", False)])
def test_numbers_that_are_not_in_the_order_of_names(
    name: str, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    DIALECTS["llff"].write(tmp_path)
    for number, photo in enumerate(sorted((tmp_path / "images").iterdir())):
        photo.rename(tmp_path / "images" / name.format(3 * number))
    found = _said(LLFFDataParserConfig(data=tmp_path, num_views=3), capsys)
    assert ("which is not that of the numbers in them, 0.png, 12.png" in found) == said


@pytest.mark.parametrize("turned", [False, True])
def test_blender_test_frames_that_look_the_other_way(
    turned: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    DIALECTS["blender"].write(tmp_path)
    path = tmp_path / "transforms_test.json"
    meta = json.loads(path.read_text())
    for frame in meta["frames"] if turned else ():
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()
    path.write_text(json.dumps(meta))
    said = _said(FewShotBlenderDataParserConfig(data=tmp_path, num_views=3), capsys)
    assert ("transforms_test.json: all cameras look away" in said) == turned


@pytest.mark.parametrize("kind", ["same", "smaller", "upright", "stated"])
def test_photos_of_several_proportions_share_an_angle(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    DIALECTS["blender"].write(tmp_path)
    photo = Image.open(tmp_path / "train" / "r_1.png")
    size = {"same": photo.size, "smaller": (32, 24), "upright": (48, 64), "stated": (48, 64)}[kind]
    photo.resize(size).save(tmp_path / "train" / "r_1.png")
    path = tmp_path / "transforms_train.json"
    meta = json.loads(path.read_text())
    if kind == "stated":
        for frame, (width, height) in zip(meta["frames"], ((64, 48), (48, 64), (64, 48)), strict=True):
            frame.update(w=width, h=height)
    path.write_text(json.dumps(meta))
    said = _said(FewShotBlenderDataParserConfig(data=tmp_path, num_views=3), capsys)
    assert ("photos of several proportions share 'camera_angle_x'" in said) == (kind == "upright")


def test_too_few_photos_are_left(tmp_path: Path) -> None:
    DIALECTS["transforms"].write(tmp_path)
    for photo in sorted((tmp_path / "images").iterdir())[:7]:
        photo.unlink()
    with pytest.raises(ValueError, match="training needs at least 2 views, found 1 that may train by the protocol"):
        FewShotNerfstudioDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train")
