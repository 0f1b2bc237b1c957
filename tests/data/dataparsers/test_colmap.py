"""Bare COLMAP folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
from PIL import Image

from fewshot_ns.cameras.poses import flip_camera_axes, look_at
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.files.colmap import project

CAMERAS = {
    "SIMPLE_PINHOLE": "50 32 24",
    "PINHOLE": "50 52 31 23",
    "SIMPLE_RADIAL": "50 32 24 0.05",
    "RADIAL": "50 32 24 0.05 -0.01",
    "OPENCV": "50 52 31 23 0.05 -0.01 0.001 0.002",
}


def write_model(
    folder: Path, model: str = "PINHOLE", params: str = CAMERAS["PINHOLE"]
) -> Tuple[np.ndarray, np.ndarray]:
    """Text model of five cameras around 40 points; gives OpenCV poses and points."""
    points = np.random.RandomState(0).uniform(-0.7, 0.7, (40, 3))
    poses = []
    (folder / "images").mkdir(parents=True)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    (sparse / "cameras.txt").write_text(f"1 {model} 64 48 {params}\n")
    lines = []
    for number in range(5):
        place = np.array([np.sin(number / 4), 0.2, np.cos(number / 4)]) * 3
        pose = flip_camera_axes(look_at(np.asarray(place, float), np.zeros(3), np.array([0.0, 1.0, 0.0])))
        poses.append(pose)
        rotation = pose[:, :3].T
        quaternion = _quaternion(rotation)
        shift = -rotation @ pose[:, 3]
        values = " ".join(f"{value:.12g}" for value in (*quaternion, *shift))
        seen = " ".join(f"{10 + point} {20} {point + 1}" for point in range(40))
        lines += [f"{number + 1} {values} 1 photo{number}.png", seen]
        noise = np.random.RandomState(number).randint(0, 255, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"photo{number}.png")
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    tracks = " ".join(f"{number} 0" for number in range(1, 6))
    rows = [f"{index + 1} {' '.join(map(str, point))} 9 8 7 0.5 {tracks}" for index, point in enumerate(points)]
    (sparse / "points3D.txt").write_text("\n".join(rows) + "\n")
    return np.stack(poses), points


def _quaternion(rotation: np.ndarray) -> Tuple[float, ...]:
    w = np.sqrt(max(0.0, 1 + np.trace(rotation))) / 2
    x, y, z = (rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1])
    return (w, x / (4 * w), y / (4 * w), z / (4 * w))


@pytest.mark.parametrize("model", CAMERAS)
def test_points_project_where_the_model_says(tmp_path: Path, model: str) -> None:
    poses, points = write_model(tmp_path, model, CAMERAS[model])
    scene, selection, cameras = FewShotColmapDataParserConfig(data=tmp_path).setup().read_views()
    values = [float(value) for value in CAMERAS[model].split()]
    focal = values[:2] if model in ("PINHOLE", "OPENCV") else [values[0]] * 2
    centre = values[2:4] if model in ("PINHOLE", "OPENCV") else values[1:3]
    world = scene.scale * (points @ np.asarray(scene.transform)[:, :3].T + np.asarray(scene.transform)[:, 3])
    for index, pose in enumerate(poses):
        local = (points - pose[:, 3]) @ pose[:, :3]
        expected = local[:, :2] / local[:, 2:] * focal + centre
        found, _, _ = project(world, scene.camera_to_worlds[index], scene.intrinsics[index])
        np.testing.assert_allclose(found * [64, 48], expected, atol=0.1)
    assert scene.images[2].name == "photo2.png" and selection.test == (0,)
    assert scene.read_seed_points(selection.train) is not None
    distortion = cameras.distortion_params
    assert (distortion is not None) == (len(values) > 4 or model in ("SIMPLE_RADIAL", "RADIAL"))


def test_near_and_far_hold_the_points(tmp_path: Path) -> None:
    write_model(tmp_path)
    scene, _, _ = FewShotColmapDataParserConfig(data=tmp_path).setup().read_views()
    world = scene.read_seed_points((1, 2))
    assert world is not None
    depths = [project(world.positions, scene.camera_to_worlds[view], scene.intrinsics[view])[1] for view in range(5)]
    assert scene.geometry.near < np.min(depths) and np.max(depths) < scene.geometry.far and not scene.bounds_guessed


def test_other_cameras_and_missing_photos_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "fisheye", "OPENCV_FISHEYE", "50 52 31 23 0 0 0 0")
    with pytest.raises(ValueError, match="found OPENCV_FISHEYE; straighten the photos"):
        FewShotColmapDataParserConfig(data=tmp_path / "fisheye").setup().read_views()
    write_model(tmp_path / "less")
    (tmp_path / "less" / "images" / "photo3.png").unlink()
    with pytest.raises(FileNotFoundError, match="found no photo3.png"):
        FewShotColmapDataParserConfig(data=tmp_path / "less").setup().read_views()


def test_held_out_frames_of_a_transforms_file(tiny_nerfstudio_scene: Path) -> None:
    from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig

    path = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(path.read_text())
    names = sorted(frame["file_path"] for frame in meta["frames"])
    path.write_text(json.dumps({**meta, "held_out": [names[4]]}))
    _, selection, _ = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup().read_views()
    assert selection.protocol == "photos-11" and selection.test == (4,)
    path.write_text(json.dumps({**meta, "held_out": ["none.png"]}))
    with pytest.raises(ValueError, match=r"expected names of frames in 'held_out', found \['none.png'\]"):
        FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup().read_views()
