"""Keys about depth and masks that are not read are said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from PIL import Image

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.unread_keys import unread_keys

UNITS: Dict[str, Dict[str, Any]] = {
    "depth_scale": {"depth_scale": 5000},
    "depthScale": {"depthScale": 5000},
    "depth_png_scale": {"depth_png_scale": 0.0002},
    "depth.scale": {"depth": {"scale": 5000}},
    "scale_of_depth": {"scale_of_depth": 5000},
}


@pytest.mark.parametrize("of_frame", [False, True])
@pytest.mark.parametrize("key", UNITS)
def test_units_in_other_words(key: str, of_frame: bool, tmp_path: Path) -> None:
    meta: Dict[str, Any] = {"frames": [{}, {}]}
    for stated in meta["frames"] if of_frame else [meta]:
        stated.update(UNITS[key])
    (remark,) = unread_keys(meta, tmp_path / "t.json", tmp_path)
    assert remark.startswith(f"{tmp_path}/t.json: {key!r} (") and "--depth-unit" in remark


def test_files_in_other_words(tmp_path: Path) -> None:
    for name in ("mask", "depth"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"{name}.png")
    frame = {
        "mask_file_path": "mask.png",
        "depth_image": "depth.png",
        "static_mask": "none.png",
        "mask_path": "mask.png",
    }
    remarks = unread_keys({"frames": [frame, frame]}, tmp_path / "t.json", tmp_path)
    assert len(remarks) == 2 and "'mask_path'" in remarks[0] and "'depth_file_path'" in remarks[1]


def test_masks_that_are_written_out_are_no_files(tmp_path: Path) -> None:
    frame = {"mask_rle": "1 2 3 4 " * 60, "depth_blob": "a\0b"}
    assert unread_keys({"frames": [frame]}, tmp_path / "t.json", tmp_path) == ()


def test_what_is_read_is_not_said(tmp_path: Path) -> None:
    meta = {"depth_scaling_factor": 5000, "max_depth": 9.0, "scale": 3, "frames": [{"integer_depth_scale": 0.0002}]}
    assert unread_keys(meta, tmp_path / "t.json", tmp_path) == ()


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_unit_of_fractions(kind: type, tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", np.ones((4, 4), kind))
    meta = {"depth_scaling_factor": 5000, "frames": [{"depth_file_path": "0.npy"}, {"depth_file_path": "1.npy"}]}
    remarks = unread_keys(meta, tmp_path / "t.json", tmp_path)
    assert [("depth_scaling_factor" in remark and "1.npy" in remark) for remark in remarks] == [True] * (
        kind == np.float32
    )


@pytest.mark.parametrize("kind", ["tiny_nerfstudio_scene", "tiny_blender_scene"])
def test_scenes_say_so(kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture) -> None:
    scene: Path = request.getfixturevalue(kind)
    of_blender = kind == "tiny_blender_scene"
    path = scene / ("transforms_train.json" if of_blender else "transforms.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "depthScale": 5000}))
    config = FewShotBlenderDataParserConfig if of_blender else FewShotNerfstudioDataParserConfig
    config(data=scene, num_views=3).setup().get_dataparser_outputs("train")
    assert f"{path.name}: 'depthScale' (5000) is not read" in capsys.readouterr().out
