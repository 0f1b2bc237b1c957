"""The demo scene: its geometry agrees with itself, its priors are coarse but useful, its folder appears whole."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.stats import rankdata

from fewshot_ns.synthetic.scene import RECORD_NAME, DemoSceneConfig, demo_camera_poses, write_demo_scene

SMALL = DemoSceneConfig(width=80, height=60, columns=2, rows=2)


def rank_correlation(first, second):
    """Spearman's coefficient."""
    return np.corrcoef(rankdata(first), rankdata(second))[0, 1]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A small scene of four views."""
    folder = tmp_path_factory.mktemp("demo") / "scene"
    assert write_demo_scene(folder, SMALL)
    return folder


def read_view(folder, index):
    """Image (H, W, 3) in [0, 1] and exact planar depth (H, W) of one view."""
    image = cv2.cvtColor(cv2.imread(str(folder / "images" / f"view_{index:02d}.png")), cv2.COLOR_BGR2RGB) / 255.0
    return image, np.load(folder / "exact_depth" / f"view_{index:02d}.npy").astype(np.float64)


def read_camera(folder, index):
    """Rotation (3, 3) from OpenGL camera axes to world, position (3,), and (H, W, focal), out of poses_bounds.npy."""
    matrix = np.load(folder / "poses_bounds.npy")[index, :15].reshape(3, 5)
    down, right, backwards, position, size = matrix.T
    return np.stack([right, -down, backwards], axis=1), position, size


def reproject(folder, source, target):
    """Colours of `source` at its pixels, and what `target` shows at the same surface points where it sees them too.

    Returns both as (M, 3) arrays, and the share of pixels that both views see.
    """
    image, depth = read_view(folder, source)
    other_image, other_depth = read_view(folder, target)
    rotation, position, (height, width, focal) = read_camera(folder, source)
    rows, columns = np.indices(depth.shape) + 0.5
    local = np.stack([(columns - width / 2) / focal, -(rows - height / 2) / focal, -np.ones_like(rows)], -1)
    points = (local * depth[..., None]) @ rotation.T + position
    rotation, position, _ = read_camera(folder, target)
    local = (points - position) @ rotation
    z = -local[..., 2]
    at = [height / 2 - focal * local[..., 1] / z - 0.5, width / 2 + focal * local[..., 0] / z - 0.5]
    inside = (at[0] > 0) & (at[0] < height - 1) & (at[1] > 0) & (at[1] < width - 1)
    seen = inside & (np.abs(map_coordinates(other_depth, at, order=1, mode="nearest") - z) < 0.02 * z)
    other = np.stack([map_coordinates(other_image[..., c], at, order=1, mode="nearest") for c in range(3)], -1)
    return image[seen], other[seen], seen.mean()


@pytest.mark.parametrize(("source", "target"), [(0, 1), (0, 2), (3, 0)])
def test_exact_depth_carries_one_view_into_the_other(scene, source, target):
    first, second, share = reproject(scene, source, target)
    assert share > 0.5
    error = np.abs(first - second).mean()
    # Colours of unrelated pixels differ by about 0.3; what remains here is bilinear sampling of sharp textures.
    assert error < 0.06
    shuffled = np.abs(first - np.random.default_rng(0).permutation(second)).mean()
    assert error < 0.25 * shuffled


def test_a_wrong_pose_convention_would_be_noticed(scene):
    rows = np.load(scene / "poses_bounds.npy")
    good = np.abs(np.subtract(*reproject(scene, 0, 2)[:2])).mean()
    folder = scene.parent / "flipped"
    if not folder.exists():
        folder.mkdir()
        for name in ("images", "exact_depth"):
            (folder / name).symlink_to(scene / name)
    matrices = rows[:, :15].reshape(-1, 3, 5).copy()
    matrices[:, :, 1] *= -1.0
    np.save(folder / "poses_bounds.npy", np.concatenate([matrices.reshape(-1, 15), rows[:, 15:]], axis=1))
    first, second, share = reproject(folder, 0, 2)
    assert share < 0.3 or np.abs(first - second).mean() > 2 * good


def test_bounds_are_those_of_the_exact_depth(scene):
    bounds = np.load(scene / "poses_bounds.npy")[:, 15:]
    for index, (near, far) in enumerate(bounds):
        depth = read_view(scene, index)[1]
        np.testing.assert_allclose([near, far], [depth.min(), depth.max()], rtol=1e-6)
    assert 10.0 < float(bounds.min()) and float(bounds.max()) < 60.0


def test_default_layout_has_the_baseline_of_llff_captures():
    config = DemoSceneConfig()
    poses = demo_camera_poses(config)
    assert poses.shape == (config.num_views, 3, 4) == (25, 3, 4)
    np.testing.assert_allclose(
        poses[:, :, :3].transpose(0, 2, 1) @ poses[:, :, :3], np.tile(np.eye(3), (25, 1, 1)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(poses[:, :, :3]), 1.0)
    extent = np.ptp(poses[:, :, 3], axis=0)
    assert 7.0 < extent[0] < 12.0 and 3.0 < extent[1] < 8.0 and extent[2] < 2.5
    # Every camera looks along -z within 25 degrees: what normalised device coordinates need.
    assert (poses[:, 2, 2] > np.cos(np.deg2rad(25.0))).all()


def test_priors_are_coarse_inverse_depth(scene):
    for index in range(SMALL.num_views):
        prior = cv2.imread(str(scene / "depth_maps" / f"depth_view_{index:02d}.png"), cv2.IMREAD_UNCHANGED)
        depth = read_view(scene, index)[1]
        assert prior.dtype == np.uint16 and prior.shape == depth.shape
        assert prior.min() == 0 and prior.max() == 65535
        correlation = rank_correlation(prior.ravel(), 1.0 / depth.ravel())
        assert 0.6 < correlation < 0.98


def test_files_depend_on_the_configuration_alone(scene, tmp_path):
    write_demo_scene(tmp_path / "again", SMALL)
    files = sorted(path.relative_to(scene) for path in scene.rglob("*") if path.is_file())
    assert len(files) == 3 * SMALL.num_views + 2
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (scene / file).read_bytes(), file


def test_an_identical_scene_is_reused_and_another_replaced(tmp_path):
    tiny = DemoSceneConfig(width=16, height=12, columns=1, rows=2, supersample=1)
    folder = tmp_path / "deep" / "scene"
    calls = []
    assert write_demo_scene(folder, tiny, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    stamp = (folder / "poses_bounds.npy").stat().st_mtime_ns
    assert not write_demo_scene(folder, tiny)
    assert (folder / "poses_bounds.npy").stat().st_mtime_ns == stamp
    other = DemoSceneConfig(width=16, height=12, columns=1, rows=3, supersample=1)
    assert write_demo_scene(folder, other)
    assert len(list((folder / "images").iterdir())) == 3
    assert json.loads((folder / RECORD_NAME).read_text())["config"]["rows"] == 3
    assert [entry.name for entry in folder.parent.iterdir()] == ["scene"]


def test_an_interrupted_writing_leaves_nothing(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    tiny = DemoSceneConfig(width=16, height=12, columns=1, rows=2, supersample=1)
    with pytest.raises(KeyboardInterrupt):
        write_demo_scene(tmp_path / "scene", tiny, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user_is_not_touched(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(ValueError, match="not a demo scene"):
        write_demo_scene(tmp_path, SMALL)
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.jpg"]


def test_llff_data_reads_the_scene(tmp_path):
    from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
    from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
    from fewshot_ns.data.records.metadata import get_fewshot_metadata

    config = DemoSceneConfig(width=32, height=24, supersample=1)
    folder = tmp_path / "scene"
    write_demo_scene(folder, config)
    parser = LLFFDataParserConfig(data=folder).setup()
    outputs = parser.get_dataparser_outputs("train")
    record = get_fewshot_metadata(outputs.metadata)
    assert record.train_indices == (1, 12, 23) and record.test_indices == (0, 8, 16, 24)
    assert record.depth_encoding.polarity == "inverse_depth"
    assert [path.name for path in record.depth_prior_filenames or ()] == [
        f"depth_view_{index:02d}.png" for index in record.train_indices
    ]
    image = FewShotDataset(outputs).get_image_float32(1).numpy()
    np.testing.assert_allclose(image, read_view(folder, 12)[0], atol=1e-6)

    # A surface point of the exact depth, put into the parsed frame, projects onto its pixel through the parsed camera.
    depth = read_view(folder, 12)[1]
    rays = outputs.cameras.generate_rays(camera_indices=1, keep_shape=True)
    along = rays.directions * rays.metadata["directions_norm"]
    points = rays.origins + along * (depth * outputs.dataparser_scale).astype(np.float32)[..., None]
    rotation, position, (height, width, focal) = read_camera(folder, 12)
    transform = outputs.dataparser_transform.numpy().astype(np.float64)
    world = (points.numpy() / outputs.dataparser_scale - transform[:, 3]) @ transform[:, :3]
    local = (world - position) @ rotation
    rows, columns = np.indices(depth.shape) + 0.5
    np.testing.assert_allclose(-local[..., 2], depth, rtol=1e-4)
    np.testing.assert_allclose(width / 2 - focal * local[..., 0] / local[..., 2], columns, atol=1e-2)
    np.testing.assert_allclose(height / 2 + focal * local[..., 1] / local[..., 2], rows, atol=1e-2)
