"""Data, rays, rendering, losses, schedules and metrics against values of the original code of SparseNeRF.

Sizes, ray counts, octaves and sample ranges are taken from the arrays; another folder of reference vectors may hold
others.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch.nn import Parameter

from fewshot_ns.cameras.paths import dtu_spiral, llff_spiral
from fewshot_ns.cameras.poses import flip_camera_axes, focus_point
from fewshot_ns.cameras.ray_space import ModelRays, attach_radii, to_model_rays
from fewshot_ns.cameras.unseen_views import dtu_unseen_poses, llff_unseen_poses
from fewshot_ns.data.dataparsers.dtu import decompose_projections
from fewshot_ns.data.dataset import FewShotDataset
from fewshot_ns.data.depth_maps import read_depth_prior
from fewshot_ns.data.scene_geometry import SceneGeometry, get_fewshot_metadata
from fewshot_ns.data.view_selection import dtu_protocol, every_eighth_protocol, select_views
from fewshot_ns.engine.schedulers import DelayedLogLinearSchedulerConfig, delayed_log_linear
from fewshot_ns.evaluation import metrics
from fewshot_ns.evaluation.suite import EvaluationConfig, MetricSuite
from fewshot_ns.field_components.encodings import (
    frequency_mask,
    integrated_positional_encoding,
    positional_encoding,
)
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.losses import (
    depth_continuity_loss,
    depth_ranking_loss,
    distortion_loss,
    occlusion_loss,
)
from fewshot_ns.model_components.ray_samplers import (
    blur_pool,
    resample_fenceposts,
    sample_piecewise_constant,
    stratified_fenceposts,
)
from fewshot_ns.model_components.renderers import composite_rgb, compositing_weights, expected_distance
from fewshot_ns.model_components.schedules import anneal_near_far
from fewshot_ns.priors.depth import DepthPriorConfig

pytestmark = pytest.mark.goldens

Golden = Dict[str, np.ndarray]

POSE_TOLERANCE = 2e-5
DTYPES = [torch.float64, torch.float32]
TOLERANCE: Dict[torch.dtype, Dict[str, Any]] = {
    torch.float64: dict(rtol=1e-9, atol=1e-12),
    torch.float32: dict(rtol=1e-5, atol=1e-6),
}
"""Tolerances of the reference vectors' README for values of order one."""
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


def tensors(golden: Golden, dtype: torch.dtype, *names: str) -> List[torch.Tensor]:
    return [torch.from_numpy(golden[name]).to(dtype) for name in names]


def stored(golden: Golden, name: str, dtype: torch.dtype) -> np.ndarray:
    """The array evaluated in the precision of `dtype`."""
    return golden[f"{name}_f64" if dtype == torch.float64 else name]


def expect(golden: Golden, name: str, value: torch.Tensor) -> None:
    """Compares with the array evaluated in the precision of the value."""
    np.testing.assert_allclose(
        value.detach().numpy(), stored(golden, name, value.dtype), **TOLERANCE[value.dtype], err_msg=name
    )


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


def image_rays(cameras: Cameras, geometry: SceneGeometry, count: int) -> List[ModelRays]:
    """Model rays of all pixels, row by row, of the first cameras."""
    bundles = [cameras.generate_rays(camera_indices=index, keep_shape=True) for index in range(count)]
    return [to_model_rays(attach_radii(bundle, geometry).flatten(), geometry) for bundle in bundles]


def expect_rays(golden: Golden, prefix: str, cameras: Cameras, geometry: SceneGeometry) -> None:
    """Compares the rays of the cameras with the stored `<prefix>_ray_*` (V, H, W, C), as many views as are stored."""
    shape = golden[f"{prefix}_ray_origins"].shape[:-1]
    assert (int(cameras.height[0]), int(cameras.width[0])) == shape[1:]
    for view, rays in enumerate(image_rays(cameras, geometry, shape[0])):
        ours = {name: getattr(rays, name) for name in ("origins", "directions", "radii", "near", "far")}
        # Ours are unit. The original's LLFF rays of the photos keep the length of the pixel's direction; DTU rays and
        # those of unseen views do not.
        ours["viewdirs"] = rays.viewdirs * (rays.z_scale if golden_keeps_length(golden, prefix) else 1.0)
        assert rays.valid.all()
        np.testing.assert_allclose(rays.viewdirs.norm(dim=-1).numpy(), 1.0, atol=1e-6)
        for name, value in ours.items():
            expected = golden.get(f"{prefix}_ray_{name}")
            if expected is not None:
                np.testing.assert_allclose(
                    value.double().numpy(),
                    expected[view].reshape(-1, expected.shape[-1]),
                    atol=POSE_TOLERANCE,
                    rtol=POSE_TOLERANCE,
                    err_msg=f"{name} of {prefix} view {view}",
                )


def golden_keeps_length(golden: Golden, prefix: str) -> bool:
    return "poses_bounds" in golden and prefix != "random"


def test_llff_rays(llff_golden, parse_llff_golden):
    parsed = parse_llff_golden(num_views=3)
    geometry = get_fewshot_metadata(parsed.train.metadata).geometry
    expect_rays(llff_golden, "train3", parsed.train.cameras, geometry)
    expect_rays(llff_golden, "test", parsed.test.cameras, geometry)


def test_llff_rays_of_an_unseen_view(llff_golden, parse_llff_golden):
    parsed = parse_llff_golden()
    seen = parsed.train.cameras
    poses = torch.from_numpy(llff_golden["random_poses"]).float()
    size = int(seen.width[0]), int(seen.height[0])
    cameras = Cameras(poses, float(seen.fx[0]), float(seen.fy[0]), float(seen.cx[0]), float(seen.cy[0]), *size)
    expect_rays(llff_golden, "random", cameras, get_fewshot_metadata(parsed.train.metadata).geometry)


def test_dtu_rays(dtu_golden, parse_dtu_golden):
    parsed = parse_dtu_golden(num_views=3)
    geometry = get_fewshot_metadata(parsed.train.metadata).geometry
    expect_rays(dtu_golden, "train3", parsed.train.cameras, geometry)


def test_dtu_rays_of_unseen_views(dtu_golden, parse_dtu_golden):
    parsed = parse_dtu_golden()
    seen = parsed.train.cameras
    # The original's unseen cameras have the mean of all views' inverse intrinsics.
    mean = np.linalg.inv(dtu_golden["pixtocams_all"].mean(0))
    poses = torch.from_numpy(flip_camera_axes(dtu_golden["random_poses"])).float()
    size = int(seen.width[0]), int(seen.height[0])
    cameras = Cameras(poses, float(mean[0, 0]), float(mean[1, 1]), float(mean[0, 2]), float(mean[1, 2]), *size)
    expect_rays(dtu_golden, "random", cameras, get_fewshot_metadata(parsed.train.metadata).geometry)


@both_dtypes
@pytest.mark.parametrize("shape", ["cone", "cylinder"])
def test_gaussians_of_ray_segments(sparsenerf_golden, shape, dtype):
    golden = sparsenerf_golden("cast_rays.npz")
    names = [f"{shape}_{name}" for name in ("t", "origins", "directions", "radii")]
    means, cov_diag = cast_rays(*tensors(golden, dtype, *names), ray_shape=shape)
    # float32: differences of nearly equal numbers of the size of the largest entry.
    slack: Dict[str, Any] = {} if dtype == torch.float64 else dict(atol=1e-6 * float(cov_diag.max()))
    expect(golden, f"{shape}_means", means)
    expected = stored(golden, f"{shape}_cov_diag", dtype)
    np.testing.assert_allclose(cov_diag.numpy(), expected, **{**TOLERANCE[dtype], **slack})


def octave_tolerance(octaves: np.ndarray) -> np.ndarray:
    """float32 tolerance of the integrated encoding by octave: sines of large arguments."""
    return np.where(octaves <= 6, 1e-5, np.where(octaves <= 11, 2e-4, 5e-3))


def test_integrated_positional_encoding(sparsenerf_golden):
    golden = sparsenerf_golden("ipe.npz")
    octaves = golden["ipe"].shape[-1] // (2 * golden["means"].shape[-1])
    expected = golden["ipe_f64"]
    exact = integrated_positional_encoding(*tensors(golden, torch.float64, "means", "cov_diag"), num_octaves=octaves)
    np.testing.assert_allclose(exact.numpy(), expected, atol=1e-7)
    single = integrated_positional_encoding(*tensors(golden, torch.float32, "means", "cov_diag"), num_octaves=octaves)
    of_column = np.tile(np.repeat(np.arange(octaves), golden["means"].shape[-1]), 2)
    assert (np.abs(single.numpy() - expected) <= octave_tolerance(of_column)).all()


def test_freenerf_encoding_is_identity_and_integrated(sparsenerf_golden):
    golden = sparsenerf_golden("ipe.npz")
    means, cov_diag = tensors(golden, torch.float64, "means", "cov_diag")
    octaves = (golden["freenerf_ipe"].shape[-1] // means.shape[-1] - 1) // 2
    encoded = torch.cat([means, integrated_positional_encoding(means, cov_diag, octaves)], dim=-1)
    np.testing.assert_allclose(encoded.numpy(), golden["freenerf_ipe_f64"], atol=1e-7)


@both_dtypes
def test_positional_encoding_of_directions(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("ipe.npz")
    (directions,) = tensors(golden, dtype, "viewdirs")
    octaves = (golden["viewdirs_enc"].shape[-1] // directions.shape[-1] - 1) // 2
    expect(golden, "viewdirs_enc", positional_encoding(directions, octaves))


@both_dtypes
def test_first_level_fenceposts(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("resample.npz")
    near, far, jitter = tensors(golden, dtype, "near", "far", "level0_rand_u")
    samples = golden["level0_t"].shape[-1] - 1
    fixed, random = (stratified_fenceposts(near, far, samples, u) for u in (None, jitter))
    np.testing.assert_allclose(fixed.numpy(), golden["level0_t"], **TOLERANCE[torch.float32])
    np.testing.assert_allclose(random.numpy(), golden["level0_rand_t"], **TOLERANCE[torch.float32])


@pytest.mark.parametrize("name, padding", [("t_new_pad001", 0.01), ("t_new_pad0", 0.0)])
def test_resampled_fenceposts(sparsenerf_golden, name, padding):
    golden = sparsenerf_golden("resample.npz")
    t, weights = tensors(golden, torch.float64, "t", "weights")
    samples = golden[name].shape[-1] - 1
    actual = resample_fenceposts(t, weights, samples, padding, stratified=False).numpy()
    rays = slice(None) if padding > 0 else not_one_hot(golden)
    np.testing.assert_allclose(actual[rays], golden[f"{name}_f64"][rays], rtol=1e-9, atol=1e-9)


def not_one_hot(golden: Golden) -> np.ndarray:
    """Rays whose value at a step of the CDF is not decided by rounding: all but those with a single non-zero bin."""
    return (golden["weights"] > 0).sum(-1) != 1


def test_samples_of_the_raw_weights(sparsenerf_golden):
    golden = sparsenerf_golden("resample.npz")
    t, weights = tensors(golden, torch.float64, "t", "weights")
    expected = golden["t_pdf_only_f64"]
    positions = torch.linspace(0.0, 1.0 - torch.finfo(torch.float32).eps, expected.shape[-1], dtype=torch.float64)
    actual = sample_piecewise_constant(t, weights, positions.expand(len(t), -1)).numpy()
    rays = not_one_hot(golden)
    np.testing.assert_allclose(actual[rays], expected[rays], rtol=1e-9, atol=1e-9)


@both_dtypes
def test_randomly_resampled_fenceposts(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("resample.npz")
    t, weights, positions = tensors(golden, dtype, "t", "weights", "rand_u")
    actual = sample_piecewise_constant(t, blur_pool(weights, 0.01), positions)
    # Stored in float32 only, whose rounding of the CDF is stretched where a bin holds little of the weight.
    np.testing.assert_allclose(actual.numpy(), golden["rand_t_new_pad001"], rtol=1e-5, atol=1e-5)


@both_dtypes
def test_compositing(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("volumetric_rendering.npz")
    density, t, directions, rgb = tensors(golden, dtype, "density", "t", "directions", "rgb")
    weights = compositing_weights(density, t, directions)
    # Always with the float64 values: in float32 the original loses digits where density is low, ours does not.
    for name, value in {
        "weights": weights,
        "acc": weights.sum(-1),
        "black_rgb": composite_rgb(rgb, weights, "black"),
        "white_rgb": composite_rgb(rgb, weights, "white"),
        "distance_mean": expected_distance(weights, t)[:, 0],
    }.items():
        np.testing.assert_allclose(value.numpy(), golden[f"{name}_f64"], **TOLERANCE[dtype], err_msg=name)
    expected = golden["dist_loss_f64"].mean()
    np.testing.assert_allclose(float(distortion_loss(t, weights)), expected, **TOLERANCE[dtype])


def test_gradient_of_the_expected_distance(sparsenerf_golden):
    golden = sparsenerf_golden("volumetric_rendering.npz")
    rays = golden["grad_ray_index"]
    density, t, directions = (x[rays] for x in tensors(golden, torch.float64, "density", "t", "directions"))
    (coefficients,) = tensors(golden, torch.float64, "grad_coeff")
    density.requires_grad_(True)
    distance = expected_distance(compositing_weights(density, t, directions), t)[:, 0]
    (gradient,) = torch.autograd.grad((coefficients * distance).sum(), density)
    expected = golden["grad_density_f64"]
    largest = np.abs(expected).max(-1, keepdims=True)
    np.testing.assert_allclose(gradient.numpy() / largest, expected / largest, atol=1e-6)


def test_empty_rays_have_a_gradient(sparsenerf_golden):
    """Where the original's gradient is not a number, ours is zero."""
    golden = sparsenerf_golden("volumetric_rendering.npz")
    density, t, directions = tensors(golden, torch.float64, "density", "t", "directions")
    empty = golden["acc_f64"] == 0
    assert empty.any()
    density.requires_grad_(True)
    distance = expected_distance(compositing_weights(density, t, directions), t)
    (gradient,) = torch.autograd.grad(distance.sum(), density)
    assert gradient.isfinite().all() and (gradient[empty] == 0).all()
    np.testing.assert_array_equal(distance[empty, 0].detach().numpy(), t[empty, 0].numpy())


def test_annealed_near_and_far(sparsenerf_golden):
    golden = sparsenerf_golden("schedules.npz")
    cases = [key[: -len("_params")] for key in golden if re.fullmatch(r"nearfar_\w+_params", key)]
    assert cases
    for case in cases:
        near, far, steps, init_fraction, mid_fraction = golden[f"{case}_params"].tolist()
        ends = [
            torch.tensor([[value]], dtype=torch.float64) for value in (near, far, near + mid_fraction * (far - near))
        ]
        for step, expected in zip(golden[f"{case}_iter"].tolist(), golden[case], strict=True):
            now = anneal_near_far(step, ends[0], ends[1], int(steps), init_fraction, ends[2])
            np.testing.assert_allclose(torch.cat(now).flatten().numpy(), expected, rtol=1e-9, err_msg=f"{case} {step}")


LEARNING_RATE_STEPS = {"sn_llff_dtu": 90000, "sn_nvs": 60000, "rn_llff3": 69768, "rn_dtu3": 43945}
"""Lengths of the decays, from the configs of SparseNeRF (sn) and RegNeRF (rn)."""


@pytest.mark.parametrize("name", LEARNING_RATE_STEPS)
def test_learning_rates(sparsenerf_golden, name):
    golden = sparsenerf_golden("schedules.npz")
    steps, expected = golden[f"lr_{name}_step"].tolist(), golden[f"lr_{name}_f64"]
    rates = [delayed_log_linear(step, 2e-3, 2e-5, LEARNING_RATE_STEPS[name], 512, 0.01) for step in steps]
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    # And through the torch scheduler, as far as it is quick; the first optimisation step is step 1.
    config = DelayedLogLinearSchedulerConfig(
        lr_final=2e-5, max_steps=LEARNING_RATE_STEPS[name], delay_steps=512, delay_factor=0.01
    )
    optimizer = torch.optim.SGD([Parameter(torch.zeros(1))], lr=2e-3)
    scheduler = config.setup().get_scheduler(optimizer, lr_init=2e-3)
    taken = {}
    for step in range(1, 600):
        taken[step] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    early = [(taken[step], value) for step, value in zip(steps, expected.tolist(), strict=True) if step in taken]
    assert early
    np.testing.assert_allclose(*zip(*early, strict=True), rtol=1e-9)


def test_frequency_masks(sparsenerf_golden):
    golden = sparsenerf_golden("schedules.npz")
    cases = [key for key in golden if re.fullmatch(r"freq_mask_\d+", key)]
    assert cases
    for case in cases:
        columns, end = golden[case].shape[-1], int(golden[f"{case}_end"])
        masks = [frequency_mask(columns, step, end).numpy() for step in golden[f"{case}_step"].tolist()]
        np.testing.assert_allclose(np.stack(masks), golden[case], **TOLERANCE[torch.float32], err_msg=case)


def test_occlusion_terms(sparsenerf_golden):
    golden = sparsenerf_golden("schedules.npz")
    cases = [re.fullmatch(r"occ_range(\d+)(?:_wb(\d+))?", key) for key in golden]
    assert any(cases)
    mean_colour = torch.from_numpy(golden["occ_rgb"]).double().mean(-1)
    for case in filter(None, cases):
        (density,) = tensors(golden, torch.float64, "occ_density")
        density.requires_grad_(True)
        extra = None
        if case[2] is not None:
            # FreeNeRF's prior for DTU: white and black samples near the cameras are the table and the background.
            first = torch.arange(density.shape[-1]) < int(case[2])
            extra = first & ((mean_colour > 0.99) | (mean_colour < 0.01))
        loss = occlusion_loss(density, int(case[1]), extra)
        (gradient,) = torch.autograd.grad(loss, density)
        np.testing.assert_allclose(loss.item(), golden[f"{case[0]}_f64"], rtol=1e-9, err_msg=case[0])
        np.testing.assert_allclose(
            gradient.numpy(), golden[f"{case[0]}_grad_density"], **TOLERANCE[torch.float32], err_msg=case[0]
        )


CONTINUITY = {"llff": 0.01, "dtu": 1.0}
DEPTH_WEIGHT = {"llff": 0.5, "dtu": 0.2}
"""Weights of SparseNeRF's training: depth weight times (ranking + continuity weight times continuity)."""


@pytest.mark.parametrize("dataset", CONTINUITY)
@pytest.mark.parametrize("case", ["random", "satisfied", "equal"])
def test_depth_losses(sparsenerf_golden, dataset, case):
    golden = sparsenerf_golden("losses.npz")
    name = f"{dataset}_{case}"
    coarse, fine = tensors(golden, torch.float64, f"{name}_depth_coarse", f"{name}_depth_fine")
    np.testing.assert_allclose(float(depth_ranking_loss(fine)), golden[f"{name}_ranking_f64"], rtol=1e-9)
    np.testing.assert_allclose(float(depth_continuity_loss(fine)), golden[f"{name}_continuity_f64"], rtol=1e-9)
    for level, quads in enumerate((coarse, fine)):
        term = depth_ranking_loss(quads) + CONTINUITY[dataset] * depth_continuity_loss(quads)
        np.testing.assert_allclose(float(term), golden[f"{name}_depth_loss_f64"][level], rtol=1e-9)


def depth_terms(distance: torch.Tensor, num_quads: int, ranking: float, continuity: float) -> torch.Tensor:
    """Sum of the depth prior's terms under SparseNeRF's margins, whatever the gaps that the prior sees."""
    config = DepthPriorConfig(
        enabled=True,
        ranking_weight=ranking,
        ranking_margin=1e-4,
        ranking_margin_scale=0.0,
        continuity_weight=continuity,
        continuity_margin=1e-4,
    )
    gaps = torch.rand(num_quads, dtype=distance.dtype)
    return torch.stack(list(config.setup().loss_dict(distance, gaps, interval=1.0, step=0).values())).sum()


@pytest.mark.parametrize("dataset", CONTINUITY)
@pytest.mark.parametrize("case", ["random", "satisfied", "equal"])
def test_depth_prior_terms_and_their_gradients(sparsenerf_golden, dataset, case):
    golden = sparsenerf_golden("losses.npz")
    name, weight = f"{dataset}_{case}", DEPTH_WEIGHT[dataset]
    (quads,) = tensors(golden, torch.float64, f"{name}_depth_fine")
    distance = quads.reshape(-1, 1).requires_grad_(True)
    loss = depth_terms(distance, len(quads), weight, weight * CONTINUITY[dataset])
    np.testing.assert_allclose(loss.item(), weight * golden[f"{name}_depth_loss_f64"][1], rtol=1e-9)
    (gradient,) = torch.autograd.grad(loss, distance)
    expected = golden[f"{name}_grad_depth_fine_f64"]
    np.testing.assert_allclose(gradient.reshape(expected.shape).numpy(), expected, rtol=1e-9, atol=1e-15)


def test_depth_losses_of_nvs_rgbd(sparsenerf_golden):
    """Its batches hold quads in their first half only."""
    golden = sparsenerf_golden("losses.npz")
    coarse, fine = tensors(golden, torch.float64, "llff_random_depth_coarse", "llff_random_depth_fine")
    for level, quads in enumerate((coarse, fine)):
        distance = quads.reshape(-1, 1).requires_grad_(True)
        loss = depth_terms(distance, len(quads) // 2, 0.5, 0.5 * 0.1)
        np.testing.assert_allclose(loss.item(), 0.5 * golden["nvs_random_depth_loss_f64"][level], rtol=1e-9)
        (gradient,) = torch.autograd.grad(loss, distance)
        if quads is fine:
            expected = golden["nvs_random_grad_depth_fine_f64"]
            np.testing.assert_allclose(gradient.reshape(expected.shape).numpy(), expected, rtol=1e-9, atol=1e-15)


def expect_metric(golden: Golden, name: str, value: torch.Tensor) -> None:
    # The census figure was stored in float32 in both precisions; it is a count, so 1e-6 leaves no room for an error.
    relative = {torch.float64: 1e-6 if name == "census_err" else 1e-9, torch.float32: 1e-5}[value.dtype]
    assert float(value) == pytest.approx(float(stored(golden, name, value.dtype)), rel=relative), name


@both_dtypes
def test_metrics_of_the_whole_image(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("metrics.npz")
    pred, truth, lpips = tensors(golden, dtype, "pred", "gt", "lpips")
    for name, value in {
        "psnr": metrics.psnr(pred, truth),
        "ssim": metrics.ssim(pred, truth),
        "ssim_data_range2": metrics.ssim(pred, truth, data_range=2.0),
        "census_err": metrics.census_error(pred, truth),
        "avg_err": metrics.avg_error(metrics.psnr(pred, truth), metrics.ssim(pred, truth), lpips),
    }.items():
        assert value.dtype == dtype
        expect_metric(golden, name, value)


@both_dtypes
@pytest.mark.parametrize("mask_name, suffix", [("mask", ""), ("mask_fractional", "_fractional")])
def test_metrics_of_the_object(sparsenerf_golden, dtype, mask_name, suffix):
    golden = sparsenerf_golden("metrics.npz")
    pred, truth, mask, lpips = tensors(golden, dtype, "pred", "gt", mask_name, "lpips_masked")
    psnr, ssim = metrics.masked_psnr(pred, truth, mask), metrics.masked_ssim(pred, truth, mask)
    expect_metric(golden, f"psnr_masked{suffix}", psnr)
    expect_metric(golden, f"ssim_masked{suffix}", ssim)
    expect_metric(golden, f"avg_err_masked{suffix}", metrics.avg_error(psnr, ssim, lpips))


def test_metrics_by_name(sparsenerf_golden):
    golden = sparsenerf_golden("metrics.npz")
    pred, truth, mask = tensors(golden, torch.float32, "pred", "gt", "mask_fractional")
    # The dataparsers give masks with one channel; the stored one repeats itself three times.
    assert bool((mask == mask[..., :1]).all())
    values = MetricSuite(EvaluationConfig(metrics=("psnr", "ssim", "census_error")))(pred, truth, mask[..., :1])
    for ours, theirs in {
        "psnr": "psnr",
        "ssim": "ssim",
        "census_error": "census_err",
        "masked_psnr": "psnr_masked_fractional",
        "masked_ssim": "ssim_masked_fractional",
    }.items():
        assert values[ours] == pytest.approx(float(golden[theirs]), rel=1e-5), ours
