"""scene-folder-data: scenes of single-scene formats, their protocols, ranges and sizes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.records.scene import SceneError

METRIC_LLFF = LLFFDataParserConfig(ray_space="metric")


@pytest.fixture
def llff_folder(make_llff_scene, tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    make_llff_scene(folder / "b")
    make_llff_scene(folder / "a", size=(12, 16))
    (folder / ".hidden").mkdir()
    return folder


def opened(data: Path, place: int = 0, **flags):
    parser = SceneFolderDataParserConfig(data=data, **{"parser": METRIC_LLFF, **flags}).setup()
    return parser.open_scene(parser.scene_table("train")[place])


def names_of(data: Path, split: str):
    return [entry.scene_id for entry in SceneFolderDataParserConfig(data=data).setup().scene_table(split)]


def test_splits_by_folder_list_or_none(llff_folder):
    assert names_of(llff_folder, "train") == names_of(llff_folder, "test") == ["a", "b"]
    (llff_folder / "test.lst").write_text("b\n", encoding="utf-8")
    assert names_of(llff_folder, "test") == ["b"] and names_of(llff_folder, "val") == ["a", "b"]
    (llff_folder / "train").mkdir()
    shutil.move(llff_folder / "a", llff_folder / "train" / "a")
    assert names_of(llff_folder, "train") == ["a"]
    # With folders of splits their names are no scenes.
    with pytest.raises(FileNotFoundError, match="val: expected the scenes of this split, found no such folder"):
        names_of(llff_folder, "val")
    assert names_of(llff_folder, "test") == ["b"]
    with pytest.raises(FileNotFoundError, match="expected a folder of scenes"):
        names_of(llff_folder / "none", "train")


def test_the_protocol_says_what_trains_and_what_tests(llff_folder):
    scene = opened(llff_folder)
    assert scene.view_indices == tuple(range(12))
    assert scene.pool == tuple(index for index in range(12) if index % 8 != 0)
    few = opened(llff_folder, whole_pool=False)
    assert few.view_indices == (0, 1, 5, 8, 11) and few.pool == (1, 2, 4)
    assert [path.stem for path in few.image_filenames] == ["image000", "image001", "image005", "image008", "image011"]


def test_sizes(llff_folder):
    small, large = opened(llff_folder, 0), opened(llff_folder, 1)
    assert (small.cameras.width[0].item(), large.cameras.width[0].item()) == (16, 32)
    both = [opened(llff_folder, place, image_size=(6, 8)) for place in (0, 1)]
    for scene in both:
        assert SceneImages().image(scene, 0).shape == (6, 8, 3)
    torch.testing.assert_close(both[0].cameras.fx, both[1].cameras.fx)
    assert opened(llff_folder, 1, downscale_factor=2).cameras.width[0].item() == 16
    with pytest.raises(SceneError, match="image000.png: expected the proportions of --image-size"):
        opened(llff_folder, image_size=(8, 8))


def test_ndc_rays_are_refused(llff_folder):
    with pytest.raises(SceneError, match="expected a scene in world space, found NDC rays"):
        opened(llff_folder, parser=LLFFDataParserConfig())


def test_range_of_rays_that_start_at_a_plane(make_dtu_scene, tmp_path):
    make_dtu_scene(tmp_path / "dtu")
    config = DTUDataParserConfig(near=0.25, far=2.5)
    scene = opened(tmp_path / "dtu" / "Rectified", parser=config)
    cameras = scene.cameras
    nearest, farthest = np.inf, 0.0
    for index in range(len(cameras)):
        rays = cameras.generate_rays(camera_indices=index, keep_shape=True)
        directions = (rays.directions * rays.metadata["directions_norm"]).numpy()
        start = -rays.origins.numpy()[..., 2] / directions[..., 2]
        lengths = np.linalg.norm(directions, axis=-1)
        nearest = min(nearest, np.maximum((start + 0.25) * lengths, 0.0).min())
        farthest = max(farthest, ((start + 2.5) * lengths).max())
    # The pixel centres lie within the corners that the range is made of.
    assert scene.near <= nearest + 1e-5 and scene.far >= farthest - 1e-5
    assert scene.near == pytest.approx(nearest, abs=0.05) and scene.far == pytest.approx(farthest, abs=0.3)
    assert opened(tmp_path / "dtu" / "Rectified", parser=config, far=9.0).far == 9.0


def test_background_is_the_parsers(make_blender_scene, tmp_path):
    make_blender_scene(tmp_path / "set" / "lego")
    scene = opened(tmp_path / "set", parser=FewShotBlenderDataParserConfig(testskip=1))
    assert scene.background == "white" and scene.pool == tuple(range(10)) and len(scene.image_filenames) == 19


def test_damaged_scenes_are_scene_errors(llff_folder):
    (llff_folder / "a" / "poses_bounds.npy").unlink()
    with pytest.raises(SceneError, match="poses_bounds.npy"):
        opened(llff_folder)
    assert len(opened(llff_folder, 1).cameras) == 12


def test_the_format_is_a_subcommand():
    config = tyro.cli(
        SceneFolderDataParserConfig,
        args=["--whole-pool", "False", "dtu-data", "--num-views", "6"],
        config=(tyro.conf.FlagConversionOff,),
    )
    assert isinstance(config.parser, DTUDataParserConfig) and config.parser.num_views == 6 and not config.whole_pool
    default = tyro.cli(SceneFolderDataParserConfig, args=[])
    assert isinstance(default.parser, LLFFDataParserConfig) and default.parser.ray_space == "metric"


def test_what_lies_beside_photos_is_said_to_be_unread(make_nerfstudio_scene, tmp_path, capsys):
    for name in ("a", "b"):
        folder = tmp_path / "set" / name
        make_nerfstudio_scene(folder)
        path = folder / "transforms.json"
        meta = json.loads(path.read_text())
        photo = Image.open(folder / meta["frames"][0]["file_path"])
        (folder / "depth").mkdir()
        Image.fromarray(np.ones(photo.size[::-1], np.uint16)).save(folder / "depth" / "1.png")
        Image.fromarray(np.full(photo.size[::-1], 255, np.uint8)).save(folder / "mask.png")
        for frame in meta["frames"]:
            frame.update(depth_file_path="depth/1.png", mask_path="mask.png", static_mask="mask.png")
        path.write_text(json.dumps(meta))
    parser = SceneFolderDataParserConfig(data=tmp_path / "set", parser=FewShotNerfstudioDataParserConfig()).setup()
    scenes = [parser.open_scene(entry) for entry in parser.scene_table("train")]
    assert len(scenes[1].remarks) == 3
    said = "".join(capsys.readouterr().out.split())
    for words in ("'static_mask'", "depthmapsarenotread", "masksofpixelsthatmaytrainarenotread"):
        assert said.count(words) == 1
    capsys.readouterr()
    # Runs of earlier versions may have been saved with such flags.
    (tmp_path / "maps").mkdir()
    for image in scenes[0].image_filenames:
        Image.fromarray(np.ones((4, 4), np.uint16)).save(tmp_path / "maps" / f"{image.stem}.png")
    flags = {flag: tmp_path / "maps" for flag in ("depth_dir", "training_mask_dir")}
    scene = opened(tmp_path / "set", parser=FewShotNerfstudioDataParserConfig(**flags))
    said = "".join(capsys.readouterr().out.split())
    assert "--depth-dir" in scene.remarks and "--training-mask-dir" in scene.remarks
    for flag in ("--depth-dir", "--training-mask-dir"):
        assert said.count(flag) >= 1 and "iswithouteffectonafolderofscenes" in said
