"""The dataparsers, poses and paths against values of the original loaders (llff_loader.npz, dtu_loader.npz)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewshot_ns.cameras.paths import dtu_spiral, llff_spiral
from fewshot_ns.cameras.poses import flip_camera_axes, focus_point
from fewshot_ns.cameras.unseen_views import dtu_unseen_poses, llff_unseen_poses
from fewshot_ns.data.dataparsers.dtu import decompose_projections
from fewshot_ns.data.dataset import FewShotDataset
from fewshot_ns.data.depth_maps import read_depth_prior
from fewshot_ns.data.scene_geometry import get_fewshot_metadata
from fewshot_ns.data.view_selection import dtu_protocol, every_eighth_protocol, select_views

pytestmark = pytest.mark.goldens

POSE_TOLERANCE = 2e-5


def test_llff_views(llff_golden, parse_llff_golden):
    for count in (3, 6, 9):
        parsed = parse_llff_golden(num_views=count)
        record = get_fewshot_metadata(parsed.train.metadata)
        assert list(record.train_indices) == llff_golden[f"train_index_{count}"].tolist()
        assert list(record.test_indices) == llff_golden["test_index"].tolist()
        assert record.image_indices == record.train_indices
        assert get_fewshot_metadata(parsed.test.metadata).image_indices == record.test_indices
        assert [path.stem for path in parsed.train.image_filenames] == [f"image{i:03d}" for i in record.train_indices]


def test_llff_view_tables(llff_golden):
    for row, count in enumerate(llff_golden["split_counts"].tolist()):
        for views in (3, 6, 9):
            selection = select_views(every_eighth_protocol(count), count, views)
            assert list(selection.train) == llff_golden[f"split_train_{views}"][row].tolist()
            expected = llff_golden["split_test"][row]
            assert list(selection.test) == expected[expected >= 0].tolist()


def test_llff_cameras(llff_golden, parse_llff_golden):
    parsed = parse_llff_golden()
    record = get_fewshot_metadata(parsed.train.metadata)
    poses = llff_golden["poses_all"]
    np.testing.assert_allclose(record.scene_camera_to_worlds.numpy(), poses, atol=POSE_TOLERANCE)
    np.testing.assert_allclose(
        parsed.train.cameras.camera_to_worlds.numpy(), poses[llff_golden["train_index_3"]], atol=POSE_TOLERANCE
    )
    np.testing.assert_allclose(
        parsed.test.cameras.camera_to_worlds.numpy(), poses[llff_golden["test_index"]], atol=POSE_TOLERANCE
    )
    np.testing.assert_allclose(parsed.train.dataparser_scale, llff_golden["scale"], rtol=1e-12)
    assert record.scene_bounds is not None
    np.testing.assert_allclose(record.scene_bounds.numpy(), llff_golden["bounds_scaled"], rtol=1e-6)

    height, width = llff_golden["image_hw"].tolist()
    cameras = parsed.train.cameras
    np.testing.assert_allclose(cameras.fx.numpy(), llff_golden["focal"], rtol=1e-6)
    np.testing.assert_allclose(cameras.fy.numpy(), llff_golden["focal"], rtol=1e-6)
    assert (cameras.width == width).all() and (cameras.height == height).all()
    assert (cameras.cx == width / 2).all() and (cameras.cy == height / 2).all()


def test_llff_geometry(llff_golden, parse_llff_golden):
    geometry = get_fewshot_metadata(parse_llff_golden().train.metadata).geometry
    height, width = llff_golden["image_hw"].tolist()
    assert (geometry.ray_space, geometry.ray_shape, geometry.ndc_near) == ("ndc", "cylinder", 1.0)
    assert geometry.near == llff_golden["train3_ray_near"].min() and geometry.far == llff_golden["train3_ray_far"].max()
    focal = float(llff_golden["focal"])
    assert geometry.ndc_focal is not None
    np.testing.assert_allclose(geometry.ndc_focal, (2 * focal / width, 2 * focal / height), rtol=1e-12)


def test_llff_random_pose(llff_golden):
    draws = llff_golden["random_pose_draws"]
    poses, bounds = llff_golden["poses_all"], llff_golden["bounds_scaled"]
    assert len(draws) == int(llff_golden["random_pose_count"])
    last = llff_unseen_poses(poses, bounds, len(draws), uniform=draws, last_draw_only=True)
    np.testing.assert_allclose(last, llff_golden["random_poses"], atol=1e-9)
    every = llff_unseen_poses(poses, bounds, len(draws), uniform=draws)
    assert every.shape == (len(draws), 3, 4)
    np.testing.assert_array_equal(every[-1:], last)
    # The stored draws are those of the stored seed.
    np.random.seed(int(llff_golden["random_pose_seed"]))
    np.testing.assert_array_equal(np.random.rand(len(draws), 3), draws)


def test_llff_spiral(llff_golden):
    path = llff_spiral(llff_golden["poses_all"], llff_golden["bounds_scaled"], int(llff_golden["render_frames"]))
    expected = llff_golden["render_poses"]
    np.testing.assert_allclose(path[:: len(path) // len(expected)], expected, atol=1e-9)


def test_dtu_views(dtu_golden, parse_dtu_golden):
    for count in (3, 6, 9):
        parsed = parse_dtu_golden(num_views=count)
        record = get_fewshot_metadata(parsed.train.metadata)
        assert list(record.train_indices) == dtu_golden[f"train_index_{count}"].tolist()
        assert list(record.test_indices) == dtu_golden["test_index"].tolist()


@pytest.mark.parametrize(
    "kind, stored", [("pixelnerf_reduced_testset", "reduced"), ("all", "all"), ("every8", "every8")]
)
def test_dtu_view_rules(dtu_golden, parse_dtu_golden, kind, stored):
    count = len(dtu_golden["projection"])
    selection = select_views(dtu_protocol(count, kind), count, num_views=0)
    assert list(selection.train) == dtu_golden[f"split_{stored}_train"].tolist()
    assert list(selection.test) == dtu_golden[f"split_{stored}_test"].tolist()
    record = get_fewshot_metadata(parse_dtu_golden(view_protocol=kind, num_views=0).test.metadata)
    assert record.train_indices == selection.train and record.image_indices == selection.test


def test_dtu_decomposition(dtu_golden):
    intrinsics, poses = decompose_projections(dtu_golden["projection"])
    np.testing.assert_allclose(intrinsics, dtu_golden["decomposed_K"], rtol=1e-6, atol=POSE_TOLERANCE)
    np.testing.assert_allclose(poses, dtu_golden["decomposed_c2w"], rtol=1e-6, atol=POSE_TOLERANCE)
    # And against what the matrices were made of: float32 rounding of the projection is all that differs.
    rounding = 2e-5
    centre = dtu_golden["true_centre"]
    np.testing.assert_allclose(intrinsics, dtu_golden["true_K"], atol=rounding * dtu_golden["true_K"].max())
    np.testing.assert_allclose(poses[:, :, 3], centre, atol=rounding * np.abs(centre).max())
    np.testing.assert_allclose(np.swapaxes(poses[:, :, :3], 1, 2), dtu_golden["true_R_world_to_cam"], atol=rounding)


def test_dtu_cameras(dtu_golden, parse_dtu_golden):
    parsed = parse_dtu_golden()
    record = get_fewshot_metadata(parsed.train.metadata)
    poses = flip_camera_axes(record.scene_camera_to_worlds.numpy().astype(np.float64))
    np.testing.assert_allclose(poses, dtu_golden["poses_all"], atol=POSE_TOLERANCE)
    np.testing.assert_allclose(poses, dtu_golden["poses_all_f64"], atol=POSE_TOLERANCE)
    np.testing.assert_allclose(1.0 / parsed.train.dataparser_scale, dtu_golden["rescale_divisor_f64"], rtol=1e-6)

    height, width = (dtu_golden["image_hw_full"] // dtu_golden["factor"]).tolist()
    for outputs, views in ((parsed.train, dtu_golden["train_index_3"]), (parsed.test, dtu_golden["test_index"])):
        cameras = outputs.cameras
        np.testing.assert_allclose(
            flip_camera_axes(cameras.camera_to_worlds.numpy()), dtu_golden["poses_all"][views], atol=POSE_TOLERANCE
        )
        inverse = torch.linalg.inv(cameras.get_intrinsics_matrices().double()).numpy()
        np.testing.assert_allclose(inverse, dtu_golden["pixtocams_all"][views], atol=1e-6)
        assert (cameras.height == height).all() and (cameras.width == width).all()


def test_dtu_geometry(dtu_golden, parse_dtu_golden):
    geometry = get_fewshot_metadata(parse_dtu_golden().train.metadata).geometry
    assert (geometry.ray_space, geometry.ray_shape, geometry.origin_plane_z) == ("metric", "cone", 0.0)
    assert geometry.near == dtu_golden["train3_ray_near"].min() and geometry.far == dtu_golden["train3_ray_far"].max()


def test_dtu_image_and_masks(dtu_golden, parse_dtu_golden):
    parsed = parse_dtu_golden()
    train, test = FewShotDataset(parsed.train), FewShotDataset(parsed.test)
    position = list(dtu_golden["train_index_3"]).index(parsed.stored_view)
    np.testing.assert_allclose(train[position]["image"].numpy(), dtu_golden["image_down_example"], atol=1e-6)
    for view, expected in enumerate(dtu_golden["mask_down_examples"]):
        mask = test[view]["object_mask"]
        assert mask.shape == (*expected.shape[:2], 1)
        np.testing.assert_allclose(mask.expand(expected.shape).numpy(), expected, atol=1e-6)


def test_dtu_depth_prior(dtu_golden, parse_dtu_golden):
    record = get_fewshot_metadata(parse_dtu_golden().train.metadata)
    expected = dtu_golden["depth_down_example"]
    assert record.depth_prior_filenames is not None and record.depth_prior_polarity == "inverse_depth"
    prior = read_depth_prior(record.depth_prior_filenames[0], record.depth_prior_polarity, expected.shape)
    assert prior.valid.all() == (dtu_golden["depth_full_example"] > 0).all()
    difference = np.abs(prior.values - expected.astype(np.float64))[prior.valid]
    assert difference.max() <= 0.51


def test_dtu_random_poses(dtu_golden):
    poses = flip_camera_axes(dtu_golden["poses_all_f64"])
    uniform, normal = dtu_golden["random_pose_uniform_draws"], dtu_golden["random_pose_normal_draws"]
    np.testing.assert_allclose(focus_point(poses), dtu_golden["focus_point"], atol=POSE_TOLERANCE)
    unseen = dtu_unseen_poses(poses, len(uniform), uniform=uniform, normal=normal)
    np.testing.assert_allclose(flip_camera_axes(unseen), dtu_golden["random_poses"], atol=POSE_TOLERANCE)


def test_dtu_spiral(dtu_golden):
    expected = dtu_golden["render_poses"]
    path = dtu_spiral(flip_camera_axes(dtu_golden["poses_all_f64"]), frames=3 * len(expected))
    np.testing.assert_allclose(flip_camera_axes(path)[::3], expected, atol=POSE_TOLERANCE)
