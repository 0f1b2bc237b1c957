"""COLMAP points as views see them: files written here byte by byte, and the real points of fern."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.depth_calibration.colmap_points import ViewPoints, points_of_views, unhidden
from fewshot_ns.data.files.colmap import find_colmap, project
from fewshot_ns.data.records.metadata import get_fewshot_metadata

RNG = np.random.default_rng(0)
SIZE = (48, 64)
FOCAL = 60.0


def quaternion(rotation: np.ndarray) -> Tuple[float, ...]:
    """(w, x, y, z) of a rotation matrix, as COLMAP writes it."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return w, x, y, z


def poses() -> np.ndarray:
    """(3, 3, 4) OpenGL poses that look at points around z = -5, a little turned."""
    found = []
    for angle, x in ((-0.1, -0.6), (0.0, 0.0), (0.12, 0.7)):
        rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        found.append(np.concatenate([rotation, [[x], [0.1], [0.0]]], axis=1))
    return np.stack(found)


def write_model(folder: Path, with_images: bool) -> Tuple[np.ndarray, List[np.ndarray]]:
    """A reconstruction of 200 points, half of them seen by each photo. Returns positions and who sees what."""
    folder.mkdir(parents=True)
    positions = np.stack([RNG.uniform(-1, 1, 200), RNG.uniform(-0.8, 0.8, 200), RNG.uniform(-7, -4, 200)], axis=1)
    sees = [RNG.random(200) < 0.5 for _ in range(3)]
    for mask in sees:
        mask[:3] = True
    lines = struct.pack("<Q", 200)
    for number in range(200):
        track = [view + 1 for view in range(3) if sees[view][number]]
        lines += struct.pack("<QdddBBBd", number + 1, *positions[number], 9, 9, 9, 0.5 + number % 3)
        lines += struct.pack("<Q", len(track)) + b"".join(struct.pack("<ii", image, 0) for image in track)
    (folder / "points3D.bin").write_bytes(lines)
    if with_images:
        height, width = SIZE
        pinhole = struct.pack("<4d", FOCAL, FOCAL, width / 2, height / 2)
        (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ", 1, 7, 1, width, height) + pinhole)
        content = struct.pack("<Q", 3)
        for view, pose in enumerate(poses()):
            rotation = (pose[:, :3] * np.array([1.0, -1.0, -1.0])).T
            translation = -rotation @ pose[:, 3]
            content += struct.pack("<i4d3di", view + 1, *quaternion(rotation), *translation, 7)
            content += f"photo{view}.jpg".encode() + b"\0"
            numbers = np.flatnonzero(sees[view])
            local = positions[numbers] @ rotation.T + translation
            pixels = FOCAL * local[:, :2] / local[:, 2:] + np.array([width / 2, height / 2])
            content += struct.pack("<Q", len(numbers) + 1) + struct.pack("<ddq", 1.0, 1.0, -1)
            for (column, row), number in zip(pixels, numbers, strict=True):
                content += struct.pack("<ddq", column, row, number + 1)
        (folder / "images.bin").write_bytes(content)
    return positions, sees


def views(scene: Path, scale: float = 1.0, transform: Any = None, indices=(0, 1, 2), num: int = 3) -> List[ViewPoints]:
    intrinsics = np.tile([FOCAL / SIZE[1], FOCAL / SIZE[0], 0.5, 0.5], (3, 1))
    rigid = np.eye(4)[:3] if transform is None else transform
    moved = poses().copy()
    moved[:, :, :3] = rigid[:, :3] @ moved[:, :, :3]
    moved[:, :, 3] = scale * (moved[:, :, 3] @ rigid[:, :3].T + rigid[:, 3])
    photos = [Path(f"photos/photo{index}.png") for index in indices]
    return points_of_views(find_colmap(scene), photos, indices, num, moved, intrinsics, rigid, scale)


def depth_of(positions: np.ndarray, view: int) -> np.ndarray:
    pose = poses()[view]
    return -((positions - pose[:, 3]) @ pose[:, 2])


TURNED = np.array([[0.0, -1.0, 0.0, 3.0], [1.0, 0.0, 0.0, -1.0], [0.0, 0.0, 1.0, 2.0]])


@pytest.mark.parametrize("with_images", [True, False])
def test_what_colmap_recorded_and_what_its_tracks_say_agree(tmp_path, with_images):
    positions, sees = write_model(tmp_path / "sparse" / "0", with_images)
    for view, points in enumerate(views(tmp_path, scale=0.25, transform=TURNED)):
        expected = np.sort(depth_of(positions, view)[sees[view]])
        np.testing.assert_allclose(np.sort(points.z_depth), 0.25 * expected, rtol=1e-6)
        assert (points.position >= 0).all() and (points.position < 1).all()
        assert set(np.round(points.weight, 6)) == set(
            np.round(np.exp(-((np.array([0.5, 1.5, 2.5]) / np.mean([0.5 + n % 3 for n in range(200)])) ** 2)), 6)
        )


def test_tracks_of_another_order_are_not_believed(tmp_path):
    positions, sees = write_model(tmp_path / "colmap", with_images=False)
    # Four photos for three numbers: the numbers cannot be those of the photos.
    for view, points in enumerate(views(tmp_path, num=4)):
        depth = depth_of(positions, view)
        assert 0 < len(points.z_depth) < 200 and set(np.round(points.z_depth, 9)) <= set(np.round(depth, 9))


def test_hidden_points_against_a_loop():
    position, depth = RNG.random((300, 2)), RNG.uniform(1, 4, 300)
    cells = np.minimum((position * 24).astype(int), 23)
    expected = [
        all(depth[j] >= 0.9 * depth[i] for j in range(300) if (np.abs(cells[j] - cells[i]) <= 1).all())
        for i in range(300)
    ]
    np.testing.assert_array_equal(unhidden(position, depth), expected)


def test_missing_and_damaged_reconstructions(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"points3D\.bin or points3D\.txt \(--colmap-dir\), found neither"):
        find_colmap(tmp_path)
    write_model(tmp_path / "sparse", with_images=False)
    path = tmp_path / "sparse" / "points3D.bin"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"points3D\.bin: expected a COLMAP file, found a damaged one"):
        find_colmap(tmp_path)
    path.write_bytes(struct.pack("<Q", 0))
    with pytest.raises(ValueError, match=r"points3D\.bin: expected points, found none"):
        find_colmap(tmp_path)


def test_real_points_of_fern(data_dir):
    scene = data_dir / "nerf_llff_data" / "fern"
    outputs = LLFFDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    record = get_fewshot_metadata(outputs.metadata)
    cameras = outputs.cameras
    intrinsics = torch.cat(
        [
            cameras.fx / cameras.width,
            cameras.fy / cameras.height,
            cameras.cx / cameras.width,
            cameras.cy / cameras.height,
        ],
        1,
    ).numpy()
    arguments = (outputs.image_filenames, record.image_indices)
    geometry = (cameras.camera_to_worlds.numpy(), intrinsics, outputs.dataparser_transform.numpy())
    model = find_colmap(scene)
    found = points_of_views(model, *arguments, 20, *geometry, outputs.dataparser_scale)
    assert record.scene_bounds is not None
    for points, index in zip(found, record.image_indices, strict=True):
        # As many as tracks name the view (COLMAP counts from 1), within its bounds.
        assert len(points.z_depth) == int(model.seen_by(index + 1).sum()) > 1500
        near, far = record.scene_bounds[index].tolist()
        assert ((points.z_depth > 0.9 * near) & (points.z_depth < 1.3 * far)).mean() > 0.97
    hidden = points_of_views(model, *arguments, 21, *geometry, outputs.dataparser_scale)
    assert all(100 < len(points.z_depth) < len(model.ids) for points in hidden)


def test_projection_against_one_point_by_hand():
    position, depth, inside = project(
        np.array([[0.5, 0.25, -2.0], [0.0, 0.0, 1.0], [9.0, 0.0, -1.0]]), np.eye(4)[:3], np.array([1.0, 2.0, 0.5, 0.5])
    )
    np.testing.assert_allclose(position[0], [0.5 + 0.25, 0.5 - 2 * 0.125])
    assert depth[0] == 2.0 and inside.tolist() == [True, False, False]
