"""Measured normals: reading, axes on tilted planes, and the way to the batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.normals import read_normals
from fewshot_ns.data.labels import normal_labels, world_normals
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModelConfig
from fewshot_ns.priors.normals import NormalsPriorConfig

SMALL: Dict[str, Any] = dict(
    width=16, num_layers=3, skip_layer=1, num_octaves=3, proposal_width=16, num_proposal_layers=2
)


def write_png(path: Path, normals: np.ndarray, alpha: bool = False) -> None:
    path.parent.mkdir(exist_ok=True)
    picture = np.round((normals + 1) * 127.5).clip(0, 255).astype(np.uint8)[..., ::-1]
    if alpha:
        opaque = np.full_like(picture[..., :1], 255)
        opaque[:3] = 0
        picture = np.concatenate([picture, opaque], axis=-1)
    assert cv2.imwrite(str(path), picture)


def write_exr(path: Path, normals: np.ndarray) -> None:
    assert cv2.imwrite(str(path), normals[..., ::-1].astype(np.float32))


def tilted(size: tuple, direction: tuple = (0.36, -0.48, -0.8)) -> np.ndarray:
    """(H, W, 3) of one normal, unless told that of a plane that a camera in OpenCV's axes sees."""
    return np.broadcast_to(np.array(direction), (*size, 3)).astype(np.float64)


def test_pixels_without_a_normal(tmp_path: Path) -> None:
    normals = tilted((8, 10)).copy()
    normals[:, 5:] = 0.0  # grey
    normals[6:] = -1.0  # black
    write_png(tmp_path / "n.png", normals, alpha=True)
    found, valid = read_normals(tmp_path / "n.png", (8, 10))
    expected = np.zeros((8, 10), bool)
    expected[3:6, :5] = True
    assert np.array_equal(valid, expected) and not found[~valid].any()
    np.testing.assert_allclose(found[valid], tilted((15,)), atol=6e-3)
    np.testing.assert_allclose(np.linalg.norm(found[valid], axis=-1), 1.0, atol=1e-6)
    with pytest.raises(ValueError, match=r"n\.png: expected the proportions of the image"):
        read_normals(tmp_path / "n.png", (8, 20))


def test_exr_holds_the_coordinates_as_they_are(tmp_path: Path) -> None:
    normals = tilted((4, 6)).copy()
    normals[0] = 0.0
    write_exr(tmp_path / "n.exr", normals)
    found, valid = read_normals(tmp_path / "n.exr", (4, 6))
    assert valid[1:].all() and not valid[0].any()
    np.testing.assert_allclose(found[1:], normals[1:], atol=1e-6)


def test_axes() -> None:
    """The camera looks along the world's x axis, its up is the world's z; the file's world is turned around z."""
    pose = torch.tensor([[0.0, 0.0, -1.0, 7.0], [-1.0, 0.0, 0.0, 8.0], [0.0, 1.0, 0.0, 9.0]])
    turned = torch.tensor([[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0]])
    facing = torch.tensor([-1.0, 0.0, 0.0])

    def close(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected)

    # A wall before the camera, then the floor.
    close(world_normals(torch.tensor([0.0, 0.0, -1.0]), "opencv", pose, turned), facing)
    close(world_normals(torch.tensor([0.0, 0.0, 1.0]), "opengl", pose, turned), facing)
    close(world_normals(torch.tensor([0.0, 1.0, 0.0]), "world", pose, turned), facing)
    up = torch.tensor([0.0, 0.0, 1.0])
    close(world_normals(torch.tensor([0.0, -1.0, 0.0]), "opencv", pose, turned), up)
    close(world_normals(torch.tensor([0.0, 1.0, 0.0]), "opengl", pose, turned), up)
    close(world_normals(up, "world", pose, turned), up)


def normals_by_depth(dataset: FewShotDataset, view: int) -> Tensor:
    """World normal of the plane that a view's depth map shows, from three of its points, towards the camera."""
    depth = torch.as_tensor(dataset.metric_depth(view).ray_distance)
    rays = dataset.cameras.generate_rays(camera_indices=view, keep_shape=True)
    points = rays.origins + rays.directions * depth[..., None]
    a, b, c = points[2, 2], points[2, -3], points[-3, 2]
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=0)
    return normal if normal @ (rays.origins[0, 0] - a) > 0 else -normal


@pytest.mark.parametrize("axes", ["opencv", "opengl", "world"])
def test_plane_of_a_capture(tiny_rgbd_scene: Path, axes: str) -> None:
    """All photos show one plane, tilted against each of the cameras; its normal is the same in the world of all."""
    meta = json.loads((tiny_rgbd_scene / "transforms.json").read_text())
    for frame in meta["frames"]:
        rotation = np.array(frame["transform_matrix"])[:3, :3]
        normal = np.array([0.0, 0.0, 1.0])
        if axes != "world":
            normal = rotation.T @ normal * (1 if axes == "opengl" else np.array([1, -1, -1]))
        photo = tiny_rgbd_scene / frame["file_path"]
        height, width = cv2.imread(str(photo)).shape[:2]
        write_png(photo.parent.parent / "normals" / f"{photo.stem}_normal.png", tilted((height, width), tuple(normal)))
    config: Any = RGBDDataParserConfig(data=tiny_rgbd_scene, normal_axes=axes)  # type: ignore[arg-type]
    dataset = FewShotDataset(config.setup().get_dataparser_outputs("train"))
    labels = normal_labels(dataset)
    for view in range(len(dataset)):
        expected = normals_by_depth(dataset, view)
        torch.testing.assert_close(labels[view], expected.expand_as(labels[view]), rtol=0, atol=0.02)


def test_rendered_normals_of_blender(tiny_blender_scene: Path) -> None:
    for index, write in enumerate((write_exr, write_png)):
        suffix = "exr" if write is write_exr else "png"
        write(tiny_blender_scene / "train" / f"r_{index}_normal_0001.{suffix}", tilted((20, 20)))
    config = FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3, view_protocol="first")
    dataset = FewShotDataset(config.setup().get_dataparser_outputs("train"))
    files = dataset.fewshot.normal_filenames
    assert files is not None and [path is None for path in files] == [False, False, True]
    labels = normal_labels(dataset)
    for view in (0, 1):
        torch.testing.assert_close(labels[view].double(), torch.tensor(tilted((20, 20))), rtol=0, atol=6e-3)
    assert labels[2].shape == (20, 20, 3) and not labels[2].any()
    assert FewShotDataset(config.setup().get_dataparser_outputs("test")).fewshot.normal_filenames is None


def test_from_the_files_to_the_loss(tiny_rgbd_scene: Path, tiny_pipeline_config: Any) -> None:
    photos = sorted((tiny_rgbd_scene / "images").iterdir())
    height, width = cv2.imread(str(photos[0])).shape[:2]

    def build(**fields: Any) -> Any:
        config = tiny_pipeline_config(RGBDDataParserConfig(data=tiny_rgbd_scene))
        config.model = DepthMipNeRFModelConfig(num_proposal_samples=(8, 8), num_samples=8, **SMALL)
        config.plane_smoothness.enabled = False
        config.normals = NormalsPriorConfig(enabled=bool(fields), **fields)
        return config.setup(device="cpu", test_mode="val")

    with pytest.raises(ValueError, match=r"expected measured normals of the train views \(.*--pipeline.normals.weight"):
        build(weight=0.1)
    assert "normal" not in build(weight=0.0, orientation_weight=0.1).datamanager.next_train(0)[1]
    for photo in (photos[1], photos[5]):
        write_png(tiny_rgbd_scene / "normals" / f"{photo.stem}.png", tilted((height, width)))
    pipeline = build(weight=0.1, orientation_weight=0.1)
    _, batch = pipeline.datamanager.next_train(0)
    stored = normal_labels(pipeline.datamanager.train_dataset)
    for ray, (view, row, column) in enumerate(batch["indices"].tolist()):
        assert torch.equal(batch["normal"][ray], stored[view][row, column])
    _, losses, _ = pipeline.get_train_loss_dict(0)
    assert losses["normal_loss"] > 0 and losses["orientation_loss"].isfinite()
    assert "normal" not in build().datamanager.next_train(0)[1]
    shutil.rmtree(tiny_rgbd_scene / "normals")
