"""What the base class does for a format of its own: here images with the poses in a .npz, as one small class."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Type

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_ns.cameras.paths import spheric
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser, FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.files.images import list_images
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.data.views.selection import every_eighth_protocol

COUNT, SIZE = 9, (12, 16)


@dataclass
class NpzDataParserConfig(FewShotDataParserConfig):
    """Images in images/, poses and focal lengths (fractions of the width) in cameras.npz."""

    _target: Type = field(default_factory=lambda: NpzDataParser)
    """Parser class to instantiate."""


class NpzDataParser(FewShotDataParser):
    """Parser of this format."""

    config: NpzDataParserConfig

    def _read_scene(self) -> SceneFiles:
        images = list_images(self.config.data / "images")
        stored = np.load(self.config.data / "cameras.npz")
        focal, half = stored["focal"], np.full(len(images), 0.5)
        near, far = self._near_far(2.0, 6.0)
        return SceneFiles(
            images=images,
            camera_to_worlds=stored["poses"],
            intrinsics=np.stack([focal, focal * SIZE[1] / SIZE[0], half, half], axis=1),
            protocol=every_eighth_protocol(len(images), "npz"),
            geometry=SceneGeometry("metric", near, far, background=self.config.background),
            calibrated_sizes=np.tile(SIZE, (len(images), 1)),
            calibration="cameras.npz",
        )


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index in range(COUNT):
        Image.new("RGB", (SIZE[1], SIZE[0]), (20 * index, 0, 0)).save(tmp_path / f"images/{index}.png")
    np.savez(tmp_path / "cameras.npz", poses=spheric(4.0, 30.0, COUNT), focal=np.full(COUNT, 1.2))
    return tmp_path


def test_a_format_is_one_method(scene: Path):
    parser = NpzDataParserConfig(data=scene, downscale_factor=2, far=5.0).setup()
    train, test = (parser.get_dataparser_outputs(split) for split in ("train", "test"))
    record = get_fewshot_metadata(train.metadata)
    assert record.protocol == "npz-3" and record.train_indices == (1, 4, 7) and record.test_indices == (0, 8)
    assert [path.name for path in train.image_filenames] == ["1.png", "4.png", "7.png"]
    assert [path.name for path in test.image_filenames] == ["0.png", "8.png"]
    assert (record.geometry.near, record.geometry.far) == (2.0, 5.0)
    assert train.cameras.width.tolist() == [[8]] * 3
    torch.testing.assert_close(train.cameras.fx, torch.full((3, 1), 9.6))
    torch.testing.assert_close(train.cameras.camera_to_worlds, record.scene_camera_to_worlds[[1, 4, 7]])


def test_flags_choose_views(scene: Path):
    parser = NpzDataParserConfig(data=scene, train_indices=(5, 2), test_indices=(3,)).setup()
    record = get_fewshot_metadata(parser.get_dataparser_outputs("train").metadata)
    assert record.train_indices == (5, 2) and record.test_indices == (3,) and record.protocol == "indices"
    with pytest.raises(ValueError, match=r"--num-views must lie in 2..7 for the protocol npz"):
        NpzDataParserConfig(data=scene, num_views=8).setup().get_dataparser_outputs()


def test_other_proportions_than_calibrated_are_refused(scene: Path):
    Image.new("RGB", (16, 16)).save(scene / "images/4.png")
    with pytest.raises(ValueError, match=r"4.png: expected the proportions of cameras.npz \(16x12.*found 16x16"):
        NpzDataParserConfig(data=scene).setup().get_dataparser_outputs()
    # The image of a view that is not chosen is not looked at.
    NpzDataParserConfig(data=scene, train_indices=(1, 2)).setup().get_dataparser_outputs()


def test_views_without_a_split(scene: Path):
    files, selection, cameras = NpzDataParserConfig(data=scene).setup().read_views()
    assert selection.views == (0, 1, 4, 7, 8) and len(cameras) == 5 and len(files.images) == COUNT


def test_a_scene_is_told_of_once(tiny_llff_scene: Path, tiny_rgbd_scene: Path, capsys: pytest.CaptureFixture) -> None:
    """Commands read a scene several times: as training views, as evaluated ones, for a camera path."""
    first, second = LLFFDataParserConfig(data=tiny_llff_scene), RGBDDataParserConfig(data=tiny_rgbd_scene)

    def told(config: Any) -> int:
        config.setup().get_dataparser_outputs(split="train")
        return capsys.readouterr().out.count("train views")

    assert [told(first), told(first), told(second), told(first)] == [1, 0, 1, 1]
    assert told(replace(first, near=0.01)) + told(replace(first, num_views=2)) == 2, "what else is decided is said"
