"""The code on the pages of the documentation is code that runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator

import numpy as np
import pytest
import torch
from documented_code import block_of, page_module


@pytest.fixture
def dataparser_page(tmp_path: Path) -> Iterator[ModuleType]:
    """The parser of add_a_dataparser.md as an imported module."""
    with page_module("add_a_dataparser.md", tmp_path) as module:
        yield module


@pytest.fixture
def scene(tiny_nerfstudio_scene: Path) -> Path:
    """A tiny capture of 12 views of 32x24, described by a cameras.json."""
    meta = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text("utf8"))
    views = [{"image": frame["file_path"], "pose": frame["transform_matrix"][:3]} for frame in meta["frames"]]
    fov_x = 2.0 * float(np.arctan(0.5 * meta["w"] / meta["fl_x"]))
    cameras = {"fov_x": fov_x, "near": 2.0, "far": 6.0, "views": views}
    (tiny_nerfstudio_scene / "cameras.json").write_text(json.dumps(cameras), "utf8")
    return tiny_nerfstudio_scene


def test_the_stored_file_on_the_page_has_the_keys_that_the_code_reads(scene: Path) -> None:
    shown = json.loads(block_of("add_a_dataparser.md", "json"))
    written = json.loads((scene / "cameras.json").read_text("utf8"))
    assert shown.keys() == written.keys() and shown["views"][0].keys() == written["views"][0].keys()


def test_dataparser_of_the_page_reads_a_scene(dataparser_page: ModuleType, scene: Path) -> None:
    from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig

    parsed = dataparser_page.CamerasJsonDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    known: Any = FewShotNerfstudioDataParserConfig(data=scene, near=2.0, far=6.0, auto_scale_poses=False)
    known.orientation_method = known.center_method = "none"
    expected = known.setup().get_dataparser_outputs("train")
    assert parsed.image_filenames == expected.image_filenames and len(parsed.image_filenames) == 3
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height"):
        torch.testing.assert_close(getattr(parsed.cameras, name), getattr(expected.cameras, name))


def test_dataparser_of_the_page_names_what_is_absent(dataparser_page: ModuleType, scene: Path) -> None:
    (scene / "cameras.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"cameras.json: expected the cameras of the scene"):
        dataparser_page.CamerasJsonDataParserConfig(data=scene).setup().get_dataparser_outputs("train")


def test_two_steps_of_a_lite_method(
    dataparser_page: ModuleType, scene: Path, tiny_pipeline_config: Callable[[Any], Any]
) -> None:
    torch.manual_seed(0)
    config = tiny_pipeline_config(dataparser_page.CamerasJsonDataParserConfig(data=scene))
    config.depth.enabled = False
    pipeline = config.setup(device="cpu", test_mode="val")
    parameters = [parameter for group in pipeline.get_param_groups().values() for parameter in group]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    before = [parameter.detach().clone() for parameter in parameters]
    for step in range(2):
        _, losses, _ = pipeline.get_train_loss_dict(step)
        optimizer.zero_grad()
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    assert any(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
