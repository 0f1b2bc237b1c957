"""The parsers' flags: command line, saved configuration, and what all parsers have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
import yaml
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata

CONFIGS = {
    "tiny_llff_scene": LLFFDataParserConfig,
    "tiny_dtu_scene": DTUDataParserConfig,
    "tiny_blender_scene": FewShotBlenderDataParserConfig,
    "tiny_nerfstudio_scene": FewShotNerfstudioDataParserConfig,
    "tiny_rgbd_scene": RGBDDataParserConfig,
}
ALL = pytest.mark.parametrize("fixture, config", CONFIGS.items())


@ALL
def test_command_line(fixture, config):
    flags = "--data scene --downscale-factor 2 --num-views 4 --train-indices 3 1 --test-indices 0 --depth-dir priors"
    parsed = tyro.cli(config, args=f"{flags} --depth-polarity distance --near 0.5".split())
    assert parsed.data == Path("scene") and parsed.downscale_factor == 2 and parsed.num_views == 4
    assert parsed.train_indices == (3, 1) and parsed.test_indices == (0,)
    assert parsed.depth_dir == Path("priors") and parsed.depth_polarity == "distance"
    assert parsed.near == 0.5 and parsed.far is None
    defaults = tyro.cli(config, args=[])
    assert defaults.train_indices is None and defaults.downscale_factor == 1
    assert yaml.load(yaml.dump(parsed), Loader=yaml.Loader) == parsed


@ALL
def test_every_flag_has_its_help(fixture, config, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(config, args=["--help"])
    help_text = capsys.readouterr().out
    for word in ("divide both sides", "larger is nearer", "Folder of the scene"):
        assert word in " ".join(help_text.replace("│", " ").split())


@ALL
def test_splits_agree_with_each_other(fixture, config, request):
    parser = config(data=request.getfixturevalue(fixture), num_views=3).setup()
    outputs = {split: parser.get_dataparser_outputs(split) for split in ("train", "val", "test")}
    records = {split: get_fewshot_metadata(value.metadata) for split, value in outputs.items()}
    for split, record in records.items():
        assert record.split == split
        assert len(outputs[split].image_filenames) == len(record.image_indices) == len(outputs[split].cameras)
        assert record.geometry == records["train"].geometry
        poses = record.scene_camera_to_worlds[list(record.image_indices)]
        np.testing.assert_array_equal(outputs[split].cameras.camera_to_worlds.numpy(), poses.numpy())
    assert records["train"].image_indices == records["test"].train_indices
    assert records["test"].image_indices == records["train"].test_indices
    assert not set(records["train"].image_indices) & set(records["test"].image_indices)
    assert not set(outputs["train"].image_filenames) & set(outputs["test"].image_filenames)


@ALL
def test_factor_as_nerfstudio_s_renderer_sets_it(fixture, config, request):
    parsed = config(data=request.getfixturevalue(fixture), num_views=3)
    full = parsed.setup().get_dataparser_outputs("train").cameras.width[0].item()
    parsed.downscale_factor = 2.0
    assert parsed.setup().get_dataparser_outputs("train").cameras.width[0].item() == full // 2
    parsed.downscale_factor = 0
    with pytest.raises(ValueError, match="--downscale-factor must be at least 1"):
        parsed.setup().get_dataparser_outputs("train")


@ALL
def test_nerfstudio_s_own_datamanager_takes_them(fixture, config, request):
    """Training and evaluation batches of nerfstudio's datamanager, with rays and pixels of the resized images."""
    dataparser = config(data=request.getfixturevalue(fixture), num_views=3, downscale_factor=2)
    manager = VanillaDataManager[FewShotDataset](
        VanillaDataManagerConfig(dataparser=dataparser, train_num_rays_per_batch=64, eval_num_rays_per_batch=32),
        test_mode="test",
    )
    assert isinstance(manager.train_dataset, FewShotDataset)
    ray_bundle, batch = manager.next_train(0)
    assert batch["image"].shape == (64, 3) and len(ray_bundle) == 64
    position, row, column = batch["indices"].T
    images = torch.stack([manager.train_dataset[index]["image"] for index in range(3)])
    torch.testing.assert_close(batch["image"], images[position, row, column])
    assert ("object_mask" in batch) == (fixture == "tiny_dtu_scene")
    camera, batch = manager.next_eval_image(0)
    assert batch["image"].shape[:2] == (camera.height.item(), camera.width.item())


@ALL
def test_the_scene_may_be_the_working_directory(fixture, config, request, monkeypatch):
    scene = request.getfixturevalue(fixture)
    monkeypatch.chdir(scene)
    record = get_fewshot_metadata(config(data=Path("."), num_views=3).setup().get_dataparser_outputs("test").metadata)
    assert (record.object_mask_filenames is not None) == (fixture == "tiny_dtu_scene")


def test_mixed_priors_leave_the_polarity_to_each_file(tiny_llff_scene):
    folder = tiny_llff_scene / "depth_maps"
    (folder / "depth_image001.png").unlink()
    np.save(folder / "depth_image001.npy", np.ones((24, 32)))
    record = get_fewshot_metadata(LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs().metadata)
    assert record.depth_encoding.polarity is None
    with pytest.raises(ValueError, match=r"depth_image001\.npy: .*--depth-polarity"):
        LLFFDataParserConfig(data=tiny_llff_scene, depth_dir=folder).setup().get_dataparser_outputs()
