"""rgbd-data: the layouts of depth-mipnerf and nerfstudio, units, holes, limits, and real frames of a depth camera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from depth_checks import read_all

from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.files.normals import read_normals
from fewshot_ns.data.records.metadata import get_fewshot_metadata


def dataset_of(scene: Path, split: str = "train", **flags: Any) -> FewShotDataset:
    return FewShotDataset(RGBDDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs(split))


@pytest.fixture
def scannet_scene(tiny_nerfstudio_scene, tmp_path) -> Path:
    """The tiny capture in the layout of depth-mipnerf's ScanNet scenes: 6 training, 3 validation, 3 test frames."""
    source = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())
    scene = tmp_path / "scannet"
    counts = {"train": source["frames"][:6], "val": source["frames"][6:9], "test": source["frames"][9:]}
    for split, entries in counts.items():
        for name in ("rgb", "target_depth", "omni"):
            (scene / split / name).mkdir(parents=True)
        frames = []
        for entry in entries:
            stem = Path(entry["file_path"]).stem
            photo = cv2.imread(str(tiny_nerfstudio_scene / entry["file_path"]))
            depth = cv2.imread(str(tiny_nerfstudio_scene / entry["depth_file_path"]), cv2.IMREAD_UNCHANGED)
            np.save(scene / split / "omni" / f"{stem}_depth.npy", 0.1 * depth / 1000 + 0.2)
            depth[:4], depth[4, :2], depth[4, 2:4] = 0, 50, 60000
            cv2.imwrite(str(scene / split / "rgb" / f"{stem}.jpg"), photo)
            cv2.imwrite(str(scene / split / "target_depth" / f"{stem}.png"), depth)
            normals = np.full((24, 32, 3), 128, np.uint8)
            normals[:, :16] = (255, 128, 128)
            cv2.imwrite(str(scene / split / "omni" / f"{stem}_normal.png"), normals)
            frames.append(
                {
                    "file_path": f"{split}/rgb/{stem}.jpg",
                    "fx": source["fl_x"],
                    "transform_matrix": entry["transform_matrix"],
                }
            )
        meta = {"near": 0.3, "far": 9.0, "frames": frames}
        (scene / f"transforms_{split}.json").write_text(json.dumps(meta))
    (scene / "config.json").write_text(json.dumps({"max_depth": 8.0}))
    return scene


def test_layout_of_depth_mipnerf(scannet_scene, tiny_nerfstudio_scene):
    dataset = dataset_of(scannet_scene, num_views=4)
    record = dataset.fewshot
    assert record.protocol == "rgbd-4" and record.image_indices == (0, 1, 2, 3)
    assert record.test_indices == (6, 7, 8) and record.geometry.near == 0.3 and record.geometry.far == 9.0
    assert dataset.image_filenames[0].name == "frame_00000.jpg"
    assert dataset.cameras.fx[0].item() == pytest.approx(1.2 * 32) and dataset.cameras.cx[0].item() == 16
    read_all(dataset)
    depth = dataset.metric_depth(0)
    original = cv2.imread(str(tiny_nerfstudio_scene / "depths" / "frame_00000.png"), cv2.IMREAD_UNCHANGED) / 1000
    # Holes, what is nearer than 0.1 m, and what is beyond config.json's max_depth.
    assert not depth.valid[:4].any() and not depth.valid[4, :4].any() and depth.valid[4, 4:].all()
    np.testing.assert_allclose(depth.z_depth[5:], original[5:], rtol=1e-6)
    assert dataset_of(scannet_scene, "test").fewshot.image_indices == (6, 7, 8)
    assert dataset_of(scannet_scene, "val").fewshot.image_indices == (9, 10, 11)
    poses = json.loads((scannet_scene / "transforms_train.json").read_text())["frames"][2]["transform_matrix"]
    np.testing.assert_allclose(dataset.cameras.camera_to_worlds[2].numpy(), np.array(poses)[:3], rtol=1e-6)


def test_cues_of_omnidata(scannet_scene):
    mono = dataset_of(scannet_scene, depth_source="mono")
    assert mono.fewshot.depth_prior_filenames is not None
    assert mono.fewshot.depth_prior_filenames[0].name == "frame_00000_depth.npy"
    assert mono.fewshot.depth_encoding.polarity == "distance" and mono.fewshot.depth_encoding.unit is None
    read_all(mono)
    with pytest.raises(ValueError, match="expected depth of known scale"):
        mono.metric_depth(0)
    files = mono.fewshot.normal_filenames
    assert files is not None and files[0] is not None and files[0].name == "frame_00000_normal.png"
    normals, valid = read_normals(files[0], (24, 32))
    # Written blue, green, red: z is the last channel. Grey is no normal.
    assert valid[:, :16].all() and not valid[:, 16:].any()
    np.testing.assert_allclose(normals[0, 0], [0, 0, 1], atol=0.01)
    assert not normals[:, 16:].any()


def test_limits_given_by_hand(scannet_scene):
    assert dataset_of(scannet_scene, max_depth=100.0).metric_depth(0).valid[4, 2:4].all()
    assert dataset_of(scannet_scene, near=1.0, far=2.0).fewshot.geometry.far == 2.0
    (scannet_scene / "config.json").write_text("[")
    with pytest.raises(ValueError, match=r"config\.json: expected a JSON object with a number max_depth"):
        dataset_of(scannet_scene)


def test_near_and_far_from_the_sensor(scannet_scene):
    for split in ("train", "val", "test"):
        path = scannet_scene / f"transforms_{split}.json"
        meta = json.loads(path.read_text())
        path.write_text(json.dumps({"frames": meta["frames"]}))
    geometry = dataset_of(scannet_scene).fewshot.geometry
    depths = [dataset_of(scannet_scene).metric_depth(view) for view in range(3)]
    values = np.concatenate([depth.z_depth[depth.valid] for depth in depths])
    assert geometry.near < values.min() and geometry.far > values.max()
    assert geometry.near == pytest.approx(0.8 * np.quantile(values, 0.01), rel=0.05)
    assert geometry.far == pytest.approx(1.25 * np.quantile(values, 0.99), rel=0.05)


@pytest.mark.parametrize("kind", ["depth_file_path", "folder of millimetres", "folder of metres"])
def test_transforms_json_with_depth_beside_it(tiny_nerfstudio_scene, kind):
    expected = dataset_of(tiny_nerfstudio_scene).metric_depth(1)
    if kind != "depth_file_path":
        path = tiny_nerfstudio_scene / "transforms.json"
        meta = json.loads(path.read_text())
        for frame in meta["frames"]:
            name = tiny_nerfstudio_scene / frame.pop("depth_file_path")
            if kind == "folder of metres":
                np.save(name.with_suffix(".npy"), cv2.imread(str(name), cv2.IMREAD_UNCHANGED) / 1000)
                name.unlink()
        path.write_text(json.dumps(meta))
    assert dataset_of(tiny_nerfstudio_scene).world_scale == 1.0
    dataset = dataset_of(tiny_nerfstudio_scene, auto_scale_poses=True)
    scale = dataset.world_scale
    found = dataset.metric_depth(1)
    np.testing.assert_allclose(found.z_depth, scale * expected.z_depth, rtol=1e-5)
    assert dataset.fewshot.depth_encoding.unit == pytest.approx((1.0 if kind == "folder of metres" else 0.001) * scale)
    assert dataset.fewshot.length_unit == pytest.approx(scale) and scale != 1.0
    geometry = dataset.fewshot.geometry
    assert geometry.near < found.z_depth.min() and geometry.far > found.z_depth.max()
    assert geometry.near > 0.5 * found.z_depth.min() and geometry.far < 2 * found.z_depth.max()


def test_depth_that_is_not_there(tiny_nerfstudio_scene, scannet_scene):
    (scannet_scene / "train" / "target_depth" / "frame_00001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"frame_00001\.png: expected the sensor's depth of view 1"):
        dataset_of(scannet_scene)
    path = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(path.read_text())
    for frame in meta["frames"]:
        (tiny_nerfstudio_scene / frame.pop("depth_file_path")).unlink()
    path.write_text(json.dumps(meta))
    with pytest.raises(FileNotFoundError, match=r"expected the sensor's depth of view 1 \(frame_00001\.png\)"):
        dataset_of(tiny_nerfstudio_scene)


def test_a_frame_without_a_focal_length(scannet_scene):
    path = scannet_scene / "transforms_train.json"
    meta = json.loads(path.read_text())
    del meta["frames"][1]["fx"]
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"transforms_train\.json: expected the focal length fx of frame_00001\.jpg"):
        dataset_of(scannet_scene)


@pytest.fixture
def redwood(data_dir, tmp_path) -> Path:
    """The real frames with their trajectory as transforms.json; OpenCV axes, 525 pixels focal length."""
    source = data_dir / "rgbd_redwood"
    lines = (source / "trajectory.log").read_text().splitlines()
    frames = []
    for index in range(len(lines) // 5):
        pose = np.array([[float(value) for value in line.split()] for line in lines[5 * index + 1 : 5 * index + 5]])
        frames.append(
            {
                "file_path": str(source / "color" / f"{index:05d}.jpg"),
                "depth_file_path": str(source / "depth" / f"{index:05d}.png"),
                "transform_matrix": (pose @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist(),
            }
        )
    meta = {"w": 640, "h": 480, "fl_x": 525.0, "fl_y": 525.0, "cx": 319.5, "cy": 239.5, "frames": frames[:5]}
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    return tmp_path


def test_real_frames_agree_with_each_other(redwood):
    """Depth of one frame, carried into the next by the poses, meets the sensor's depth there."""
    views = {"train_indices": (0, 1, 2, 3), "test_indices": (4,)}
    dataset = dataset_of(redwood, **views, downscale_factor=2, allow_outside=True)
    record = get_fewshot_metadata(dataset.metadata)
    assert record.geometry.near > 0
    first, second = dataset.metric_depth(0), dataset.metric_depth(3)
    assert 0.3 < first.valid.mean() < 1.0
    cameras = dataset.cameras
    poses = cameras.camera_to_worlds.double().numpy()
    fx, cx, cy = cameras.fx[0].item(), cameras.cx[0].item(), cameras.cy[0].item()
    row, column = np.nonzero(first.valid)
    depth = first.z_depth[row, column].astype(np.float64)
    local = np.stack([(column + 0.5 - cx) / fx * depth, -(row + 0.5 - cy) / fx * depth, -depth], axis=1)
    world = local @ poses[0][:, :3].T + poses[0][:, 3]
    there = (world - poses[3][:, 3]) @ poses[3][:, :3]
    z = -there[:, 2]
    columns, rows = (cx + fx * there[:, 0] / z).astype(int), (cy - fx * there[:, 1] / z).astype(int)
    seen = (z > 0) & (columns >= 0) & (columns < 320) & (rows >= 0) & (rows < 240)
    seen[seen] &= second.valid[rows[seen], columns[seen]]
    assert seen.sum() > 10000
    relative = np.abs(second.z_depth[rows[seen], columns[seen]] - z[seen]) / z[seen]
    moved = np.abs(first.z_depth[rows[seen], columns[seen]] - z[seen]) / z[seen]
    assert np.median(relative) < 0.01 and np.median(relative) < np.median(moved)
    # In metres of the room.
    scale = dataset._dataparser_outputs.dataparser_scale
    assert 0.5 < np.median(depth) / scale < 5.0


def test_the_stated_size_has_to_be_that_of_the_photo(scannet_scene):
    path = scannet_scene / "transforms_train.json"
    meta = json.loads(path.read_text())
    for frame in meta["frames"]:
        frame.update(w=100, h=100)
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"expected the proportions .* w and h of its frame in transforms_train\.json"):
        dataset_of(scannet_scene)
