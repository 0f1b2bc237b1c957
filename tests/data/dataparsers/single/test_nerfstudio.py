"""fewshot-nerfstudio-data: pooling, sizes, near and far, priors, masks, errors."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from depth_checks import read_all
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from fewshot_ns.cameras.poses import planar_depth
from fewshot_ns.data.dataparsers.single.nerfstudio import (
    FewShotNerfstudioDataParserConfig,
    bounds_from_points,
)
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import get_fewshot_metadata


def parse(scene: Path, split: str = "train", **flags):
    return FewShotNerfstudioDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs(split)


def change(scene: Path, **entries) -> None:
    path = scene / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_views_and_cameras_are_those_of_nerfstudio(tiny_nerfstudio_scene):
    outputs = parse(tiny_nerfstudio_scene)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.train_indices == (1, 5, 11) and record.test_indices == (0, 8) and record.protocol == "nerfstudio-3"
    parser = NerfstudioDataParserConfig(
        data=tiny_nerfstudio_scene, downscale_factor=1, train_split_fraction=1.0
    ).setup()
    expected = parser.get_dataparser_outputs("train")
    torch.testing.assert_close(record.scene_camera_to_worlds, expected.cameras.camera_to_worlds)
    torch.testing.assert_close(outputs.cameras.fx, expected.cameras.fx[[1, 5, 11]])
    assert outputs.image_filenames == [expected.image_filenames[index] for index in (1, 5, 11)]
    assert outputs.dataparser_scale == pytest.approx(expected.dataparser_scale)
    torch.testing.assert_close(outputs.dataparser_transform, expected.dataparser_transform)


def test_the_json_itself_may_be_the_data(tiny_nerfstudio_scene):
    outputs = parse(tiny_nerfstudio_scene / "transforms.json")
    assert outputs.image_filenames == parse(tiny_nerfstudio_scene).image_filenames


def test_splits_listed_in_the_file_are_pooled(tiny_nerfstudio_scene):
    before = get_fewshot_metadata(parse(tiny_nerfstudio_scene).metadata)
    names = [f"images/frame_{index:05d}.png" for index in range(12)]
    change(tiny_nerfstudio_scene, train_filenames=names[6:], test_filenames=names[:6])
    outputs = parse(tiny_nerfstudio_scene)
    after = get_fewshot_metadata(outputs.metadata)
    assert after.image_indices == before.image_indices
    torch.testing.assert_close(after.scene_camera_to_worlds, before.scene_camera_to_worlds)
    assert [path.name for path in outputs.image_filenames] == [f"frame_{i:05d}.png" for i in before.image_indices]


def test_intrinsics_follow_files_that_are_smaller_than_stated(tiny_nerfstudio_scene):
    change(tiny_nerfstudio_scene, w=64, h=48, fl_x=76.8, fl_y=76.8, cx=33.0, cy=24.0)
    outputs = parse(tiny_nerfstudio_scene, downscale_factor=2)
    assert (outputs.cameras.width == 16).all() and (outputs.cameras.height == 12).all()
    np.testing.assert_allclose(outputs.cameras.fx.numpy(), 76.8 / 4, rtol=1e-6)
    np.testing.assert_allclose(outputs.cameras.cx.numpy(), 33.0 / 4, rtol=1e-6)
    assert FewShotDataset(outputs)[0]["image"].shape == (12, 16, 3)


@pytest.mark.parametrize("axes", [np.zeros((3, 3)), 2.0 * np.eye(3), np.diag([1.0, 1.0, -1.0])])
def test_poses_that_are_no_rotations_are_named(axes, tiny_nerfstudio_scene):
    meta = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())
    pose = np.array(meta["frames"][1]["transform_matrix"])
    pose[:3, :3] = axes
    meta["frames"][1]["transform_matrix"] = pose.tolist()
    name = Path(meta["frames"][1]["file_path"]).name
    (tiny_nerfstudio_scene / "transforms.json").write_text(json.dumps(meta))
    flags = {"orientation_method": "none", "center_method": "none", "auto_scale_poses": False}
    with pytest.raises(
        ValueError, match=rf"expected a rotation in the 3x3 part of each camera pose, found none for {name}"
    ):
        parse(tiny_nerfstudio_scene, near=1.0, far=9.0, **flags)


def test_near_and_far_from_the_common_focus(tiny_nerfstudio_scene):
    outputs = parse(tiny_nerfstudio_scene)
    record = get_fewshot_metadata(outputs.metadata)
    poses = record.scene_camera_to_worlds.double().numpy()
    plane = outputs.dataparser_scale * (outputs.dataparser_transform.double().numpy() @ np.array([0, 0, -4.0, 1.0]))
    depth = planar_depth(poses, plane[None])
    assert record.geometry.near == pytest.approx(0.25 * depth.min(), rel=1e-3)
    assert record.geometry.far == pytest.approx(2.5 * depth.max(), rel=1e-3)
    given = get_fewshot_metadata(parse(tiny_nerfstudio_scene, near=0.5).metadata).geometry
    assert given.near == 0.5 and given.far == record.geometry.far


def test_near_and_far_from_sparse_points(tiny_nerfstudio_scene):
    points = np.random.default_rng(0).uniform([-0.5, -0.5, -5.0], [0.5, 0.5, -3.0], (500, 3))
    header = "ply\nformat ascii 1.0\nelement vertex 500\n" + "".join(f"property float {axis}\n" for axis in "xyz")
    lines = "\n".join(" ".join(f"{value:.6f}" for value in point) for point in points)
    (tiny_nerfstudio_scene / "sparse_pc.ply").write_text(f"{header}end_header\n{lines}\n")
    change(tiny_nerfstudio_scene, ply_file_path="sparse_pc.ply")
    outputs = parse(tiny_nerfstudio_scene)
    geometry = get_fewshot_metadata(outputs.metadata).geometry
    near, far = geometry.near / outputs.dataparser_scale, geometry.far / outputs.dataparser_scale
    assert 0.8 * 2.5 < near < 0.8 * 3.5 and 1.25 * 4.5 < far < 1.25 * 5.5


def test_near_and_far_of_the_file(tiny_nerfstudio_scene):
    change(tiny_nerfstudio_scene, near=2.0, far=7)
    outputs = parse(tiny_nerfstudio_scene)
    geometry = get_fewshot_metadata(outputs.metadata).geometry
    assert outputs.dataparser_scale != 1.0
    assert (geometry.near, geometry.far) == pytest.approx(
        (2.0 * outputs.dataparser_scale, 7.0 * outputs.dataparser_scale)
    )
    assert get_fewshot_metadata(parse(tiny_nerfstudio_scene, near=0.5).metadata).geometry.near == 0.5
    # They count from the poses of the file, which were scaled by `applied_scale` before.
    for applied in (0.25, 4.0):
        change(tiny_nerfstudio_scene, applied_scale=applied)
        again = parse(tiny_nerfstudio_scene)
        assert again.dataparser_scale == pytest.approx(applied * outputs.dataparser_scale)
        same = get_fewshot_metadata(again.metadata).geometry
        assert (same.near, same.far) == pytest.approx((geometry.near, geometry.far))
    change(tiny_nerfstudio_scene, applied_scale=1.0)
    for bounds in ({"near": 7.0}, {"near": 2.0, "far": None}, {"near": "2", "far": 7.0}):
        change(tiny_nerfstudio_scene, **{"near": 2.0, "far": 7.0, **bounds})
        with pytest.raises(ValueError, match=r"transforms\.json: expected numbers 0 <= near < far, found near"):
            parse(tiny_nerfstudio_scene)


def test_cameras_without_a_common_focus_ask_for_the_flags(tiny_nerfstudio_scene):
    path = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(path.read_text())
    for index, frame in enumerate(meta["frames"]):
        matrix = np.eye(4)
        matrix[:3, 3] = [0.1 * index, 0, 0]
        frame["transform_matrix"] = matrix.tolist()
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"transforms\.json: cannot estimate near and far .*--near and --far"):
        parse(tiny_nerfstudio_scene)
    geometry = get_fewshot_metadata(parse(tiny_nerfstudio_scene, near=0.1, far=2.0).metadata).geometry
    assert (geometry.near, geometry.far) == (0.1, 2.0)


def test_points_behind_or_outside_do_not_count():
    pose = np.eye(4)[None, :3]
    intrinsics = np.array([[1.0, 1.0, 0.5, 0.5]])
    assert bounds_from_points(pose, intrinsics, np.array([[0, 0, 2.0], [9, 0, -2.0]])) is None
    near, far = bounds_from_points(pose, intrinsics, np.array([[0, 0, -2.0], [0, 0, 5.0], [0, 90, -1.0]])) or (0, 0)
    assert (near, far) == pytest.approx((1.6, 2.5))


def test_depth_of_the_file_is_a_distance(tiny_nerfstudio_scene):
    outputs = parse(tiny_nerfstudio_scene, downscale_factor=2)
    record = get_fewshot_metadata(outputs.metadata)
    assert record.depth_encoding.polarity == "distance" and record.depth_prior_filenames is not None
    assert record.depth_prior_filenames[0].parent.name == "depths"
    read_all(FewShotDataset(outputs))
    other = tiny_nerfstudio_scene / "other"
    other.mkdir()
    for index in range(12):
        np.save(other / f"frame_{index:05d}.npy", np.ones((24, 32)))
    flags = {"depth_dir": other, "depth_polarity": "inverse_depth"}
    record = get_fewshot_metadata(parse(tiny_nerfstudio_scene, **flags).metadata)
    assert record.depth_encoding.polarity == "inverse_depth" and record.depth_prior_filenames is not None
    assert record.depth_prior_filenames[0].suffix == ".npy"


def test_masks_of_the_file_reach_nerfstudio_s_sampler(tiny_nerfstudio_scene):
    path = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(path.read_text())
    (tiny_nerfstudio_scene / "masks").mkdir()
    mask = np.zeros((24, 32), np.uint8)
    mask[:, 7:] = 255
    for index, frame in enumerate(meta["frames"]):
        frame["mask_path"] = f"masks/{index}.png"
        cv2.imwrite(str(tiny_nerfstudio_scene / frame["mask_path"]), mask)
    path.write_text(json.dumps(meta))
    data = FewShotDataset(parse(tiny_nerfstudio_scene, downscale_factor=2))[0]
    assert data["mask"].dtype == torch.bool and data["mask"].shape == (12, 16, 1)
    # Column 3 of the small image is made of one masked and one free column, so it does not train.
    assert not data["mask"][:, :4].any() and data["mask"][:, 4:].all()


def test_bad_captures_are_refused(tiny_nerfstudio_scene):
    path = tiny_nerfstudio_scene / "transforms.json"
    original = path.read_text()
    change(tiny_nerfstudio_scene, camera_model="OPENCV_FISHEYE")
    with pytest.raises(ValueError, match=r"transforms\.json: expected a perspective camera model, found fisheye"):
        parse(tiny_nerfstudio_scene)
    path.write_text(original.replace('"fl_x"', '"focal"').replace('"fl_y"', '"focal"'))
    with pytest.raises(ValueError, match=r"transforms\.json: expected 'fl_x' for the file or for every frame"):
        parse(tiny_nerfstudio_scene)
    path.write_text(original)
    change(tiny_nerfstudio_scene, w=24, h=32)
    with pytest.raises(ValueError, match=r"frame_00001\.png: expected the proportions of transforms\.json"):
        parse(tiny_nerfstudio_scene)
    broken = json.loads(original)
    broken["frames"][2]["transform_matrix"][1][1] = float("inf")
    path.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"transforms\.json: .*frame 2 \(images"):
        parse(tiny_nerfstudio_scene)
    path.write_text(original)
    (tiny_nerfstudio_scene / "images" / "frame_00005.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected the photos of 12 frames, found no frame_00005\.png"):
        parse(tiny_nerfstudio_scene, on_missing="stop")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"transforms\.json: expected the cameras"):
        parse(tiny_nerfstudio_scene)


def test_real_capture(data_dir, tmp_path):
    """Five RGB-D frames with real holes in the sensor depth."""
    source = data_dir / "rgbd_redwood"
    lines = (source / "trajectory.log").read_text().splitlines()
    frames = []
    for index in range(5):
        rows = [[float(value) for value in line.split()] for line in lines[5 * index + 1 : 5 * index + 5]]
        frames.append(
            {
                "file_path": str(source / "color" / f"{index:05d}.jpg"),
                "depth_file_path": str(source / "depth" / f"{index:05d}.png"),
                "transform_matrix": (np.array(rows) @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist(),
            }
        )
    meta = {"w": 640, "h": 480, "fl_x": 525.0, "fl_y": 525.0, "cx": 319.5, "cy": 239.5, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    dataset = FewShotDataset(parse(tmp_path, downscale_factor=4, near=0.3, far=5.0))
    read_all(dataset)
    assert dataset[0]["image"].shape == (120, 160, 3)
