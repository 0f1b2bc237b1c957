"""Sparse points that travel with a scene: COLMAP's beside LLFF and nerfstudio captures, and a .ply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from fewshot_ns.cameras.poses import intrinsic_fractions
from fewshot_ns.data.dataparsers.single import seed_points
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.files.colmap import project
from fewshot_ns.data.records.metadata import FewShotMetadata, get_fewshot_metadata

COUNT = 40
POINTS = np.random.default_rng(0).uniform([-0.3, -0.3, -4.4], [0.3, 0.3, -3.6], (COUNT, 3))
COLOURS = np.random.default_rng(1).integers(0, 256, (COUNT, 3))
SWAP = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""What nerfstudio does to COLMAP's world where a capture has `colmap/sparse/0` and no `applied_transform`."""


def llff_poses(scene: Path) -> np.ndarray:
    """(12, 3, 4) OpenGL poses in the world of poses_bounds.npy."""
    matrices = np.load(scene / "poses_bounds.npy")[:, :15].reshape(-1, 3, 5)
    return np.stack([matrices[:, :, 1], -matrices[:, :, 0], matrices[:, :, 2], matrices[:, :, 3]], axis=2)


def frame_poses(scene: Path) -> np.ndarray:
    """(12, 3, 4) OpenGL poses in the world of transforms.json."""
    frames = json.loads((scene / "transforms.json").read_text())["frames"]
    return np.array([frame["transform_matrix"] for frame in frames])[:, :3]


def write_colmap(
    folder: Path, poses: np.ndarray, points: np.ndarray, names: Optional[Sequence[str]] = None
) -> np.ndarray:
    """A binary model. Point p is seen by the images v with (p + v) % 3 != 0 of which the count is returned (P, V)."""
    folder.mkdir(parents=True)
    sees = (np.arange(len(points))[:, None] + np.arange(len(poses))) % 3 != 0
    entries = {}
    for number, point in enumerate(points):
        images = np.flatnonzero(sees[number]) + 1
        entries[number + 1] = colmap.Point3D(
            number + 1, point, COLOURS[number], np.array(0.5), images, np.zeros(len(images), dtype=int)
        )
    colmap.write_points3D_binary(entries, str(folder / "points3D.bin"))
    if names is not None:
        camera = colmap.Camera(id=1, model="PINHOLE", width=32, height=24, params=np.array([30.0, 30.0, 16.0, 12.0]))
        colmap.write_cameras_binary({1: camera}, str(folder / "cameras.bin"))
        images = {}
        for index, (pose, name) in enumerate(zip(poses, names, strict=True), start=1):
            rotation = (pose[:, :3] * np.array([1.0, -1.0, -1.0])).T
            images[index] = colmap.Image(
                id=index,
                qvec=colmap.rotmat2qvec(rotation),
                tvec=-rotation @ pose[:, 3],
                camera_id=1,
                name=name,
                xys=np.zeros((1, 2)),
                point3D_ids=np.array([-1]),
            )
        colmap.write_images_binary(images, str(folder / "images.bin"))
    return sees


def record_of(outputs: DataparserOutputs) -> FewShotMetadata:
    return get_fewshot_metadata(outputs.metadata)


def check_frame(outputs: DataparserOutputs, poses: np.ndarray) -> None:
    """The points show up in the scene's cameras where they do in the files' cameras, at depths in the new scale."""
    xyz = outputs.metadata["points3D_xyz"]
    assert xyz.dtype == torch.float32 and xyz.shape == (COUNT, 3)
    assert outputs.metadata["points3D_rgb"].dtype == torch.uint8
    for position, index in enumerate(record_of(outputs).train_indices):
        intrinsics = intrinsic_fractions(outputs.cameras)[position]
        pose = outputs.cameras.camera_to_worlds[position].double().numpy()
        pixel, depth, inside = project(xyz.double().numpy(), pose, intrinsics)
        expected_pixel, expected_depth, _ = project(POINTS, poses[index], intrinsics)
        np.testing.assert_allclose(pixel, expected_pixel, atol=1e-5)
        np.testing.assert_allclose(depth, outputs.dataparser_scale * expected_depth, rtol=1e-5)
        assert inside.mean() > 0.5


@pytest.mark.parametrize("names", ["same", "others", "none"])
@pytest.mark.parametrize("ray_space", ["ndc", "metric"])
def test_colmap_beside_llff(tiny_llff_scene, capsys, names, ray_space):
    """COLMAP's images are called as ours, or otherwise in the same order, or were not kept."""
    poses = llff_poses(tiny_llff_scene)
    kept = {
        "same": [f"image{index:03d}.jpg" for index in range(12)],
        "others": [f"IMG_{4000 + index}.JPG" for index in range(12)],
        "none": None,
    }
    sees = write_colmap(tiny_llff_scene / "sparse" / "0", poses, POINTS, kept[names])
    parser = LLFFDataParserConfig(data=tiny_llff_scene, ray_space=ray_space).setup()
    outputs = parser.get_dataparser_outputs("train")
    check_frame(outputs, poses)
    record = record_of(outputs)
    assert outputs.metadata["points3D_rgb"].tolist() == COLOURS.tolist()
    assert record.seed_points_source is not None and record.seed_points_train_views is not None
    expected = sees[:, list(record.train_indices)].sum(1)
    assert record.seed_points_train_views.tolist() == expected.tolist()
    assert record.seed_points_source == (
        f"{tiny_llff_scene / 'sparse' / '0' / 'points3D.bin'}: 40 points, {(expected >= 2).sum()} of them seen by at "
        "least two training views"
    )
    assert 0 < (expected >= 2).sum() < COUNT
    assert "40 seed points" in " ".join(capsys.readouterr().out.split())


def test_the_rest_of_a_scene_is_the_same_with_points(tiny_llff_scene):
    before = LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")
    write_colmap(tiny_llff_scene / "sparse" / "0", llff_poses(tiny_llff_scene), POINTS)
    after = LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")
    assert set(after.metadata) - set(before.metadata) == {"points3D_xyz", "points3D_rgb"}
    assert record_of(before).seed_points_source is None and record_of(before).seed_points_train_views is None
    assert record_of(before).geometry == record_of(after).geometry
    assert torch.equal(before.cameras.camera_to_worlds, after.cameras.camera_to_worlds)


def test_only_the_training_split_reads_them_and_once(tiny_llff_scene, monkeypatch):
    write_colmap(tiny_llff_scene / "sparse" / "0", llff_poses(tiny_llff_scene), POINTS)
    read = []
    original = seed_points.read_colmap
    monkeypatch.setattr(seed_points, "read_colmap", lambda path: read.append(path) or original(path))
    parser = LLFFDataParserConfig(data=tiny_llff_scene).setup()
    assert "points3D_xyz" in parser.get_dataparser_outputs("train").metadata and len(read) == 1
    for split in ("val", "test"):
        outputs = parser.get_dataparser_outputs(split)
        assert "points3D_xyz" not in outputs.metadata and record_of(outputs).seed_points_source is None
    assert "points3D_xyz" not in parser.outputs_of_views((0, 1), "train").metadata and len(read) == 1


@pytest.mark.parametrize("with_images", [True, False])
def test_points_of_another_world_are_left_out(tiny_llff_scene, capsys, with_images):
    """A reconstruction that was moved after poses_bounds.npy had been made of it."""
    moved = llff_poses(tiny_llff_scene) + np.array([0.0, 0.0, 0.0, 5.0])
    names = [f"image{index:03d}.png" for index in range(12)] if with_images else None
    write_colmap(tiny_llff_scene / "sparse" / "0", moved, POINTS + 5.0, names)
    outputs = LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")
    assert "points3D_xyz" not in outputs.metadata and record_of(outputs).seed_points_source is None
    assert "points lie in another world than the scene's cameras" in " ".join(capsys.readouterr().out.split())


def test_points_of_unknown_views(tiny_llff_scene):
    """COLMAP counted more images than the scene has, and they were not kept: the views see them all the same."""
    poses = llff_poses(tiny_llff_scene)
    write_colmap(tiny_llff_scene / "sparse", np.concatenate([poses, poses[:2]]), POINTS)
    outputs = LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")
    check_frame(outputs, poses)
    record = record_of(outputs)
    assert record.seed_points_train_views is None
    assert str(record.seed_points_source).endswith("40 points, from views that are not recorded")


def test_damaged_points_do_not_stop_a_scene(tiny_llff_scene, capsys):
    write_colmap(tiny_llff_scene / "sparse" / "0", llff_poses(tiny_llff_scene), POINTS)
    path = tiny_llff_scene / "sparse" / "0" / "points3D.bin"
    path.write_bytes(path.read_bytes()[:100])
    outputs = LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")
    assert "points3D_xyz" not in outputs.metadata
    assert "expected a COLMAP file, found a damaged one" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("coloured", [True, False])
def test_ply_of_a_capture(tiny_nerfstudio_scene, coloured):
    properties = [f"property float {axis}\n" for axis in "xyz"]
    rows = [" ".join(f"{value:.6f}" for value in point) for point in POINTS]
    if coloured:
        properties += [f"property uchar {name}\n" for name in ("red", "green", "blue")]
        rows = [f"{row} {' '.join(map(str, colour))}" for row, colour in zip(rows, COLOURS, strict=True)]
    header = f"ply\nformat ascii 1.0\nelement vertex {COUNT}\n" + "".join(properties)
    (tiny_nerfstudio_scene / "sparse_pc.ply").write_text(header + "end_header\n" + "\n".join(rows) + "\n")
    path = tiny_nerfstudio_scene / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "ply_file_path": "sparse_pc.ply"}))
    outputs = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup().get_dataparser_outputs("train")
    assert outputs.dataparser_scale != 1.0
    check_frame(outputs, frame_poses(tiny_nerfstudio_scene))
    expected = COLOURS if coloured else np.full((COUNT, 3), 128)
    assert outputs.metadata["points3D_rgb"].tolist() == expected.tolist()
    record = record_of(outputs)
    assert record.seed_points_train_views is None
    assert record.seed_points_source == (
        f"{tiny_nerfstudio_scene / 'sparse_pc.ply'}: 40 points, from views that are not recorded"
    )


@pytest.mark.parametrize("stated", [True, False])
def test_colmap_beside_a_capture(tiny_nerfstudio_scene, stated):
    """The file's world is COLMAP's turned, as stated in the file, or as nerfstudio assumes for its own folder."""
    poses = frame_poses(tiny_nerfstudio_scene)
    path = tiny_nerfstudio_scene / "transforms.json"
    applied = np.roll(np.eye(3), 1, axis=0) if stated else SWAP
    if stated:
        transform = np.concatenate([applied, np.zeros((3, 1))], axis=1).tolist()
        path.write_text(json.dumps({**json.loads(path.read_text()), "applied_transform": transform}))
    inverse = np.linalg.inv(applied)
    folder = tiny_nerfstudio_scene / "colmap" / "sparse" / "0"
    names = [f"frame_{index:05d}.png" for index in range(12)]
    write_colmap(folder, inverse @ poses, POINTS @ inverse.T, names)
    outputs = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup().get_dataparser_outputs("train")
    check_frame(outputs, poses)
    assert record_of(outputs).seed_points_train_views is not None


def test_real_points_of_fern(data_dir):
    outputs = LLFFDataParserConfig(data=data_dir / "nerf_llff_data" / "fern").setup().get_dataparser_outputs("train")
    record = record_of(outputs)
    xyz = outputs.metadata["points3D_xyz"]
    assert xyz.shape == (10091, 3) and outputs.metadata["points3D_rgb"].shape == (10091, 3)
    assert record.seed_points_train_views is not None and record.scene_bounds is not None
    assert 500 < int((record.seed_points_train_views >= 2).sum()) < 10091
    near, far = float(record.scene_bounds.min()), float(record.scene_bounds.max())
    assert ((-xyz[:, 2] > 0.8 * near) & (-xyz[:, 2] < 1.3 * far)).float().mean() > 0.95
