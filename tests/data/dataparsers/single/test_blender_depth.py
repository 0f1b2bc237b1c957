"""fewshot-blender-data: rendered depth as EXR or PNG, first and seeded views, and the loader of depth-mipnerf."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from depth_checks import read_all
from PIL import Image

from fewshot_ns.cameras.ray_space import RADII_KEY, attach_radii
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import FewShotMetadata


def dataset_of(scene: Path, **flags: Any) -> FewShotDataset:
    config = FewShotBlenderDataParserConfig(data=scene, **{"num_views": 3, "view_protocol": "first", **flags})
    return FewShotDataset(config.setup().get_dataparser_outputs("train"))


def record_of(scene: Path, **flags: Any) -> FewShotMetadata:
    return dataset_of(scene, **flags).fewshot


def write_exr(path: Path, depth: np.ndarray) -> None:
    assert cv2.imwrite(str(path), np.repeat(depth.astype(np.float32).reshape(*depth.shape[:2], 1), 3, axis=2))


def test_first_and_seeded_views(tiny_blender_scene):
    first = record_of(tiny_blender_scene, num_views=4)
    assert first.train_indices == (0, 1, 2, 3) and first.protocol == "blender-first-4"
    seeded = record_of(tiny_blender_scene, view_protocol="seeded", view_seed=3, num_views=4)
    assert seeded.protocol == "blender-seed3-4" and len(set(seeded.train_indices)) == 4
    again = record_of(tiny_blender_scene, view_protocol="seeded", view_seed=3, num_views=5)
    assert again.train_indices[:4] == seeded.train_indices
    other = record_of(tiny_blender_scene, view_protocol="seeded", view_seed=4, num_views=4)
    assert other.train_indices != seeded.train_indices
    assert first.test_indices == seeded.test_indices == (10, 18)


@pytest.mark.parametrize("name", ["r_{}_depth_0001", "r_{}_depth0001", "r_{}_depth"])
@pytest.mark.parametrize("kind", ["exr", "png"])
def test_depth_beside_the_frames(tiny_blender_scene, name, kind):
    generator = np.random.default_rng(0)
    depth = generator.uniform(2.0, 6.0, (20, 20))
    depth[:, :5] = 1e10
    for index in range(10):
        file = tiny_blender_scene / "train" / (name.format(index) + f".{kind}")
        if kind == "exr":
            write_exr(file, depth + index)
        else:
            Image.fromarray(np.where(depth < 100, 1000 * (depth + index), 0).round().astype(np.uint16)).save(file)
    dataset = dataset_of(tiny_blender_scene)
    read_all(dataset)
    for view in range(3):
        found = dataset.metric_depth(view)
        assert not found.valid[:, :5].any() and found.valid[:, 5:].all()
        np.testing.assert_allclose(found.z_depth[:, 5:], depth[:, 5:] + view, rtol=1e-6, atol=6e-4)


def test_pictures_of_depth_are_not_depth(tiny_blender_scene):
    """NeRF's own scenes come with depth as 8-bit pictures."""
    for index in range(10):
        Image.new("RGBA", (20, 20)).save(tiny_blender_scene / "train" / f"r_{index}_depth_0001.png")
    assert record_of(tiny_blender_scene).depth_prior_filenames is None


def test_a_frame_without_depth_among_others_with(tiny_blender_scene):
    write_exr(tiny_blender_scene / "train" / "r_0_depth_0001.exr", np.ones((20, 20)))
    record = record_of(tiny_blender_scene)
    assert record.depth_prior_filenames is None
    problem = r"r_1_depth_0001\.exr: expected the depth prior of view 1 \(--depth-dir\), found no such file"
    assert re.search(problem, record.depth_prior_problem or "")


@pytest.fixture
def original(goldens_dir, tmp_path):
    """The scene of the reference arrays on disk, and the arrays."""
    arrays = np.load(goldens_dir / "depth_mipnerf" / "blender_loader.npz")
    (tmp_path / "train").mkdir()
    frames = []
    for index, matrix in enumerate(arrays["transform_matrix"]):
        Image.fromarray(arrays["images_rgba"][index]).save(tmp_path / "train" / f"r_{index}.png")
        write_exr(tmp_path / "train" / f"r_{index}_depth_0001.exr", arrays["depth_exr"][index])
        frames.append({"file_path": f"./train/r_{index}", "transform_matrix": matrix.tolist()})
    meta = json.dumps({"camera_angle_x": float(arrays["camera_angle_x"]), "frames": frames})
    (tmp_path / "transforms_train.json").write_text(meta)
    return tmp_path, arrays


@pytest.mark.goldens
@pytest.mark.parametrize("prefix, factor", [("", 1), ("half_", 2)])
def test_against_the_loader_of_depth_mipnerf(original, prefix, factor):
    scene, arrays = original
    dataset = dataset_of(scene, downscale_factor=factor)
    pixels = len(arrays[f"{prefix}rgb"]) // 3
    for view in range(3):
        part = slice(view * pixels, (view + 1) * pixels)
        image = dataset.get_data(view)["image"].numpy().reshape(-1, 3)
        np.testing.assert_allclose(image, arrays[f"{prefix}rgb"][part], atol=2e-6)
        depth = dataset.metric_depth(view)
        expected = arrays[f"{prefix}rays_depth"][part, 0]
        np.testing.assert_array_equal(depth.valid.ravel(), expected > 0)
        np.testing.assert_allclose(depth.z_depth.ravel(), expected, rtol=1e-6)
        rays = attach_radii(dataset.cameras.generate_rays(view, keep_shape=True), dataset.fewshot.geometry)
        directions = (rays.directions * rays.metadata["directions_norm"]).reshape(-1, 3).numpy()
        np.testing.assert_allclose(directions, arrays[f"{prefix}rays_directions"][part], atol=1e-6)
        np.testing.assert_allclose(rays.origins.reshape(-1, 3), arrays[f"{prefix}rays_origins"][part], atol=1e-6)
        radii = rays.metadata[RADII_KEY].reshape(-1, 1).numpy()
        np.testing.assert_allclose(radii, arrays[f"{prefix}rays_radii"][part], rtol=1e-5)
    geometry = dataset.fewshot.geometry
    assert geometry.near == arrays["rays_near"][0, 0] and geometry.far == arrays["rays_far"][0, 0]


def test_real_scene_at_half_resolution(data_dir):
    dataset = dataset_of(data_dir / "nerf_synthetic_half" / "lego", num_views=6)
    assert [path.stem for path in dataset.image_filenames] == [f"r_{index}" for index in range(6)]
    assert dataset.cameras.width[0] == 400 and dataset.cameras.fx[0].item() == pytest.approx(555.5555, rel=1e-4)
