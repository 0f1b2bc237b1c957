"""Training photos and depth as pinhole cameras would have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import torch

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.seeds.depth import depth_cloud
from fewshot_ns.data.seeds.views import training_depths, training_views
from fewshot_ns.data.stereo.lens import bent

PLANE = -4.0


def dataset_of(config: Any) -> FewShotDataset:
    return FewShotDataset(config.setup().get_dataparser_outputs("train"))


def in_files(dataset: FewShotDataset, positions: torch.Tensor) -> torch.Tensor:
    """Points of the world in that of the scene's files."""
    transform = dataset.file_to_world
    return (positions / dataset.world_scale - transform[:, 3]) @ transform[:, :3]


def test_points_of_measured_depth_lie_on_the_plane(tiny_rgbd_scene: Path) -> None:
    dataset = dataset_of(RGBDDataParserConfig(data=tiny_rgbd_scene))
    views = training_views(dataset)
    depths = training_depths(dataset, views, [dataset.metric_depth(view) for view in range(3)])
    cloud = depth_cloud("files", views, depths)
    # Depth is stored in whole millimetres.
    assert (in_files(dataset, cloud.positions)[:, 2] - PLANE).abs().max() < 2e-3
    for index, view in enumerate(views):
        assert torch.equal(view.image, dataset.get_data(index)["image"]) and view.mask.all()


def test_what_a_lens_bends_is_straightened(tiny_rgbd_scene: Path) -> None:
    """The same plane photographed through a lens: points lie on it, and straight lines of the world are straight."""
    file = tiny_rgbd_scene / "transforms.json"
    meta: Dict[str, Any] = json.loads(file.read_text())
    k1 = -0.2
    lens = torch.tensor([k1, 0.0, 0.0, 0.0, 0.0, 0.0])
    focal, height, width = meta["fl_x"], meta["h"], meta["w"]
    for frame in meta["frames"]:
        pose = torch.tensor(frame["transform_matrix"])[:3]
        row, column = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        shown = torch.stack([column - width / 2, row - height / 2], dim=-1) / focal
        plane = shown.clone()
        for _ in range(50):  # the place that the lens shows at `shown`
            plane = shown - (bent(plane, lens) - plane)
        local = torch.cat([plane[..., :1], -plane[..., 1:], -torch.ones_like(plane[..., :1])], dim=-1)
        direction = local @ pose[:, :3].T
        depth = (PLANE - pose[2, 3]) / direction[..., 2]
        cv2.imwrite(str(tiny_rgbd_scene / frame["depth_file_path"]), (1000 * depth).round().numpy().astype(np.uint16))
    file.write_text(json.dumps({**meta, "camera_model": "OPENCV", "k1": k1, "k2": 0.0, "p1": 0.0, "p2": 0.0}))
    dataset = dataset_of(RGBDDataParserConfig(data=tiny_rgbd_scene))
    views = training_views(dataset)
    depths = training_depths(dataset, views, [dataset.metric_depth(view) for view in range(3)])
    cloud = depth_cloud("files", views, depths)
    # The nearest pixel of the photo is up to half a pixel away, on a plane that the cameras see at a slant.
    off = (in_files(dataset, cloud.positions)[:, 2] - PLANE).abs()
    assert off.mean() < 5e-3 and off.max() < 0.03
    # Without straightening, the points would lie beside where they are.
    assert not torch.allclose(views[0].image, dataset.get_data(0)["image"], atol=0.02)


def test_what_is_transparent_is_masked(tiny_blender_scene: Path) -> None:
    dataset = dataset_of(FewShotBlenderDataParserConfig(data=tiny_blender_scene))
    for index, view in enumerate(training_views(dataset)):
        alpha = cv2.imread(str(dataset.image_filenames[index]), cv2.IMREAD_UNCHANGED)[..., 3]
        assert torch.equal(view.mask, torch.from_numpy(alpha > 127)) and not view.mask.all()
