"""Planar depth and ray distance, units, limits, and the note beside a folder of depth maps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.encoding import NOTE_NAME, read_note, to_z_depth, write_note
from fewshot_ns.data.depth.maps import read_depth_map
from fewshot_ns.data.depth.metric import read_metric_depth
from fewshot_ns.data.records.metadata import DepthEncoding

SIZE = (30, 40)
CAMERA = dict(fx=33.0, fy=36.0, cx=21.5, cy=14.0)


def ray_norms():
    """Ray distance per unit of planar depth at the pixel centres of CAMERA."""
    x = (np.arange(SIZE[1]) + 0.5 - CAMERA["cx"]) / CAMERA["fx"]
    y = (np.arange(SIZE[0]) + 0.5 - CAMERA["cy"]) / CAMERA["fy"]
    return np.sqrt(1.0 + x[None] ** 2 + y[:, None] ** 2).astype(np.float32)


def tilted_plane(normal, offset):
    """Distances along unit rays to the plane normal . x = offset, one ray after the other; camera at 0, along +z."""
    distances = np.zeros(SIZE)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            ray = np.array([(column + 0.5 - CAMERA["cx"]) / CAMERA["fx"], (row + 0.5 - CAMERA["cy"]) / CAMERA["fy"], 1])
            ray /= np.linalg.norm(ray)
            distances[row, column] = offset / (np.array(normal) @ ray)
    return distances


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.3, 0.1, 0.9), (-0.2, 0.4, 0.8)])
def test_planes_at_any_tilt(normal):
    distances = tilted_plane(normal, 3.0)
    norms = ray_norms()
    z = to_z_depth(distances.astype(np.float32), "ray_distance", norms)
    # Points rebuilt from planar depth lie on the plane.
    column, row = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    x, y = z * (column - CAMERA["cx"]) / CAMERA["fx"], z * (row - CAMERA["cy"]) / CAMERA["fy"]
    np.testing.assert_allclose(normal[0] * x + normal[1] * y + normal[2] * z, 3.0, rtol=1e-5)
    np.testing.assert_allclose(z * norms, distances, rtol=1e-5)
    if normal[:2] == (0.0, 0.0):
        np.testing.assert_allclose(z, 3.0, rtol=1e-6)
        assert distances.max() > 1.2 * distances.min()
    assert to_z_depth(z, "z_depth", norms) is z


@pytest.mark.parametrize("meaning", ["z_depth", "ray_distance"])
@pytest.mark.parametrize("unit", [1.0, 0.001])
def test_metric_depth_of_either_meaning(tmp_path, meaning, unit):
    norms = ray_norms()
    distances = tilted_plane((0.3, 0.1, 0.9), 3.0).astype(np.float32)
    stored = (distances if meaning == "ray_distance" else distances / norms) / unit
    stored[3, 4] = 0
    np.savez(tmp_path / "d.npz", depth=stored, sigma=0.1 * stored)
    depth = read_metric_depth(tmp_path / "d.npz", DepthEncoding("distance", meaning, unit), norms)
    assert (~depth.valid).sum() == 1 and depth.z_depth[3, 4] == 0 and depth.sigma is not None
    np.testing.assert_allclose(depth.ray_distance[depth.valid], distances[depth.valid], rtol=1e-5)
    np.testing.assert_allclose(depth.sigma, 0.1 * depth.z_depth, rtol=1e-5)


def test_metric_depth_takes_the_nearest_pixel(tmp_path):
    stored = np.where(np.arange(80)[None] < 37, 1.0, 9.0) * np.ones((60, 1))
    stored[:, 37] = np.nan
    np.save(tmp_path / "d.npy", stored)
    norms = np.ones((15, 20), np.float32)
    depth = read_metric_depth(tmp_path / "d.npy", DepthEncoding("distance", unit=1.0), norms)
    assert set(np.unique(depth.z_depth[depth.valid])) <= {1.0, 9.0}
    for column in range(20):
        assert depth.z_depth[0, column] == np.nan_to_num(stored[0, int((column + 0.5) * 4)])


def test_depth_without_a_scale_is_no_metric_depth(tmp_path):
    np.save(tmp_path / "d.npy", np.ones(SIZE))
    norms = np.ones(SIZE, np.float32)
    for encoding in (DepthEncoding("distance"), DepthEncoding("inverse_depth", unit=1.0)):
        with pytest.raises(ValueError, match=r"d\.npy: expected depth of known scale .*--align"):
            read_metric_depth(tmp_path / "d.npy", encoding, norms)
    np.savez(tmp_path / "s.npz", depth=np.ones(SIZE), sigma=np.zeros(SIZE))
    with pytest.raises(ValueError, match=r"s\.npz: expected a positive sigma"):
        read_metric_depth(tmp_path / "s.npz", DepthEncoding("distance", unit=1.0), norms)


def test_values_beyond_the_limit_are_invalid(tmp_path):
    values = np.arange(1, 13, dtype=float).reshape(3, 4)
    np.save(tmp_path / "d.npy", values)
    prior = read_depth_map(tmp_path / "d.npy", "distance", (3, 4), DepthEncoding(max_depth=10))
    np.testing.assert_array_equal(prior.valid, values <= 10)
    with pytest.raises(ValueError, match=r"some positive finite values up to 0\.5, found none"):
        read_depth_map(tmp_path / "d.npy", "distance", (3, 4), DepthEncoding(max_depth=0.5))


def test_scene_in_its_own_scale(tiny_nerfstudio_scene):
    """Depth of the tiny capture, whose plane lies 4 units before cameras that nerfstudio scales."""
    config = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene)
    outputs = config.setup().get_dataparser_outputs("train")
    dataset = FewShotDataset(outputs)
    depth = dataset.metric_depth(0)
    # The centre of the image looks at the target of the camera: that far by the pose alone.
    pose = outputs.cameras.camera_to_worlds[0].numpy()
    transform = outputs.dataparser_transform.numpy()
    target = outputs.dataparser_scale * (transform @ np.array([0.0, 0.0, -4.0, 1.0]))
    expected = np.linalg.norm(pose[:, 3] - target)
    assert depth.valid.all()
    assert depth.z_depth[11:13, 15:17].mean() == pytest.approx(expected, rel=5e-3)
    assert depth.ray_distance[0, 0] > 1.05 * depth.z_depth[0, 0]
    config.depth_meaning = "ray_distance"
    other = FewShotDataset(config.setup().get_dataparser_outputs("train")).metric_depth(0)
    np.testing.assert_allclose(other.ray_distance, depth.z_depth, rtol=1e-5)


def test_note_beside_the_maps_and_flags_before_it(tiny_llff_scene):
    folder = tiny_llff_scene / "depth_maps"
    write_note(folder, DepthEncoding("distance", "ray_distance", 0.5, max_depth=60000), model="a network")
    assert read_note(folder) == {"polarity": "distance", "meaning": "ray_distance", "unit": 0.5, "max_depth": 60000}
    assert json.loads((folder / NOTE_NAME).read_text())["model"] == "a network"
    config = LLFFDataParserConfig(data=tiny_llff_scene)
    outputs = config.setup().get_dataparser_outputs("train")
    encoding = FewShotDataset(outputs).fewshot.depth_encoding
    # The limit counts units of the scene's files, two stored units each.
    assert encoding == DepthEncoding("distance", "ray_distance", 0.5 * outputs.dataparser_scale, max_depth=120000)
    config.depth_polarity, config.depth_meaning, config.max_depth = "inverse_depth", "z_depth", 7.0
    encoding = FewShotDataset(config.setup().get_dataparser_outputs("train")).fewshot.depth_encoding
    assert encoding == DepthEncoding("inverse_depth", "z_depth", 0.5 * outputs.dataparser_scale, max_depth=14.0)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"polarity": "near"}', "expected polarity inverse_depth or distance, found 'near'"),
        ('{"meaning": "depth"}', "expected meaning z_depth or ray_distance"),
        ('{"unit": 0}', "expected a positive number for 'unit', found 0"),
        ('{"max_depth": true}', "expected a positive number for 'max_depth'"),
    ],
)
def test_bad_notes_are_refused(tmp_path, text, message):
    (tmp_path / NOTE_NAME).write_text(text)
    with pytest.raises(ValueError, match=rf"depth\.json: {message}"):
        read_note(tmp_path)
    assert read_note(tmp_path / "absent") == {}
