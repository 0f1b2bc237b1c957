"""The layouts of SparseNeRF: depth maps where its script leaves them, and its own data set NVS-RGBD in `llff-data`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Tuple

import cv2
import numpy as np
import pytest
import torch
from depth_checks import read_all
from PIL import Image

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.maps import read_depth_map
from fewshot_ns.data.records.metadata import FewShotMetadata, get_fewshot_metadata
from fewshot_ns.priors.base import PriorScene
from fewshot_ns.priors.depth.prior import DepthPriorConfig

TRAIN = (1, 4, 7)
SIZE = (48, 64)


def record_of(config: Any, split: str = "train") -> FewShotMetadata:
    return get_fewshot_metadata(config.setup().get_dataparser_outputs(split).metadata)


def make_nvs_scene(folder: Path, scene: Path, device: str) -> Path:
    """Turns a tiny LLFF scene into one of NVS-RGBD; depth in the form of the device, with holes on the left."""
    factor = {"nvs-kinect": 2, "nvs-zed": 2, "nvs-iphone": 8}[device]
    photos = folder / f"images_{factor}"
    for place in (photos, folder / "depth_maps", folder / "images_16"):
        place.mkdir(parents=True)
    shutil.copy(scene / "poses_bounds.npy", folder)
    for index in range(12):
        suffix = "_train" if index in TRAIN else ""
        photo = cv2.imread(str(scene / "images_4" / f"image{index:03d}.png"))
        cv2.imwrite(str(photos / f"{index:04d}{suffix}.jpg"), cv2.resize(photo, SIZE[::-1]))
        depth = np.tile(np.linspace(1000.0, 3000.0, SIZE[1]), (SIZE[0], 1))
        if device == "nvs-kinect":
            depth[:, :20] = 0
            Image.fromarray(depth.astype(np.uint16)).save(folder / "depth_maps" / f"{index:04d}{suffix}.png")
        else:
            inverse = np.round(255.0 * 1000.0 / depth).astype(np.uint8)
            inverse[:, :20] = 0
            name = f"{index:04d}{suffix}" if device == "nvs-zed" else f"{index:04d}-depth{suffix}"
            kind = "png" if device == "nvs-zed" else "jpg"
            Image.fromarray(inverse).save(folder / "depth_maps" / f"{name}.{kind}", quality=100, subsampling=0)
    return folder


@pytest.mark.parametrize("device, side", [("nvs-kinect", 5), ("nvs-zed", 30), ("nvs-iphone", 30)])
def test_nvs_rgbd_views_depth_and_boxes(tmp_path, tiny_llff_scene, device, side):
    scene = make_nvs_scene(tmp_path / "scene", tiny_llff_scene, device)
    config = LLFFDataParserConfig(data=scene, view_protocol=device)
    record = record_of(config)
    assert record.protocol == f"{device}-3" and record.image_indices == TRAIN
    assert record.test_indices == tuple(index for index in range(12) if index not in TRAIN)
    assert record.pair_box is not None and record.pair_box.side == side and record.pair_box.min_valid == 11
    assert record.depth_prior_filenames is not None
    for path in record.depth_prior_filenames:
        prior = read_depth_map(path, record.depth_encoding.polarity, SIZE, record.depth_encoding)
        # Nearer on the left of the valid part whatever the device writes.
        row = prior.nearness()[10]
        assert (np.diff(row[24:]) <= 0).all() and row[24] > row[-1]
        if device != "nvs-iphone":
            assert not prior.valid[:, :20].any()
        assert prior.valid[:, 20:].all()
    read_all(FewShotDataset(config.setup().get_dataparser_outputs("train")))


def test_nvs_rgbd_takes_the_published_resolution_first(tmp_path, tiny_llff_scene):
    scene = make_nvs_scene(tmp_path / "scene", tiny_llff_scene, "nvs-kinect")
    shutil.copytree(scene / "images_2", scene / "images_8")
    outputs = LLFFDataParserConfig(data=scene, view_protocol="nvs-kinect").setup().get_dataparser_outputs("train")
    assert outputs.image_filenames[0].parent.name == "images_2"


def test_nvs_rgbd_is_asked_for_where_the_names_say_so(tmp_path, tiny_llff_scene):
    scene = make_nvs_scene(tmp_path / "scene", tiny_llff_scene, "nvs-zed")
    config = LLFFDataParserConfig(data=scene, images_dir=Path("images_2"))
    with pytest.raises(ValueError, match=r"images_2: photos called \*_train .*--view-protocol nvs-kinect, nvs-zed"):
        record_of(config)
    config.view_protocol = "llff"
    assert record_of(config).protocol == "llff-3" and record_of(config).pair_box is None
    with pytest.raises(ValueError, match=r"expected training photos called \*_train .*found none among 12"):
        record_of(LLFFDataParserConfig(data=tiny_llff_scene, view_protocol="nvs-zed"))


def test_no_quad_leaves_the_valid_boxes(tmp_path, tiny_llff_scene, tiny_pipeline_config):
    scene = make_nvs_scene(tmp_path / "scene", tiny_llff_scene, "nvs-kinect")
    config = tiny_pipeline_config(LLFFDataParserConfig(data=scene, view_protocol="nvs-kinect"))
    sampler = config.setup(device="cpu", test_mode="val").priors.all["depth"].quads
    assert sampler.options.box_pixels == 5 and sampler.options.tie == "first"
    quads = sampler.sample(4000).reshape(-1, 4, 3)
    assert sampler.valid.lookup(quads.reshape(-1, 3)).all()
    assert ((quads[:, 0] - quads[:, 1]).abs().amax(0) <= torch.tensor([0, 4, 4])).all()
    config.depth.protocol_boxes = False
    sampler = config.setup(device="cpu", test_mode="val").priors.all["depth"].quads
    assert sampler.options.box_pixels is None


def llff_maps(scene: Path, where: Path, suffix: str) -> Tuple[Path, ...]:
    """Moves the scene's depth maps to where the original script leaves them."""
    where.mkdir(parents=True)
    for path in sorted((scene / "depth_maps").iterdir()):
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(where / f"{path.stem}{suffix}"), values if suffix == ".png" else values.astype(np.float32))
    shutil.rmtree(scene / "depth_maps")
    return tuple(sorted(where.iterdir()))


@pytest.mark.parametrize("suffix", [".png", ".pfm"])
@pytest.mark.parametrize("above", [0, 2])
def test_depth_of_the_original_script_is_found_without_flags(tmp_path, make_llff_scene, suffix, above):
    scene = make_llff_scene(tmp_path / "nerf_llff_data" / "data" / "fern")
    root = (scene, *scene.parents)[above]
    llff_maps(scene, root / "depth_midas_temp_DPT_Hybrid" / "LLFF" / "fern", suffix)
    record = record_of(LLFFDataParserConfig(data=scene))
    assert record.depth_encoding.polarity == "inverse_depth" and record.depth_prior_filenames is not None
    assert [path.name for path in record.depth_prior_filenames] == [
        f"depth_image{index:03d}{suffix}" for index in record.train_indices
    ]


def test_depth_of_the_original_script_for_dtu(tiny_dtu_scene):
    root = tiny_dtu_scene.parents[1]
    shutil.rmtree(root / "mono_depth")
    folder = root / "depth_midas_temp_DPT_Hybrid" / "DTU" / tiny_dtu_scene.name
    folder.mkdir(parents=True)
    for number in range(1, 50):
        name = f"depth_rect_{number:03d}_3_r5000"
        # Full-size maps beside photos that are already scaled down, as the original's loader has them.
        Image.fromarray(np.full((120, 160), 7, np.uint16)).save(folder / f"{name}.png")
    record = record_of(DTUDataParserConfig(data=tiny_dtu_scene))
    assert record.depth_encoding.polarity == "inverse_depth" and record.depth_prior_filenames is not None
    assert record.depth_prior_filenames[0] == folder / "depth_rect_026_3_r5000.png"
    assert read_depth_map(record.depth_prior_filenames[0], None, (12, 16)).valid.all()


@pytest.mark.parametrize("protocol_boxes", [True, False])
def test_nvs_rgbd_single_pixels_come_from_boxes(tmp_path, tiny_llff_scene, protocol_boxes):
    scene = make_nvs_scene(tmp_path / "scene", tiny_llff_scene, "nvs-iphone")
    config = FewShotDataManagerConfig(
        dataparser=LLFFDataParserConfig(data=scene, view_protocol="nvs-iphone"), train_num_rays_per_batch=4000
    )
    manager = config.setup(device="cpu", test_mode="test")
    prior = DepthPriorConfig(enabled=True, num_quads=500, box_fraction=0.5, protocol_boxes=protocol_boxes)
    scene_known = PriorScene(manager.train_dataset, torch.device("cpu"), scene, num_rays=manager.num_rays)
    depth = prior.setup(scene=scene_known, name="depth")
    depth.prepare()
    singles = manager.next_train(0, [depth.request(0)])[1]["indices"][2000:]
    assert len(singles) == 2000
    # Of 64 columns, boxes of 30 leave the outer 10 on each side about a tenth of the draws; uniform ones 31 %.
    outer = ((singles[:, 2] < 10) | (singles[:, 2] >= 54)).float().mean().item()
    assert outer == pytest.approx(2 * sum(range(1, 11)) / (35 * 30) if protocol_boxes else 20 / 64, abs=0.035)
