"""Data, rays, rendering, losses, schedules and metrics against values of the original code of SparseNeRF.

Sizes, ray counts, octaves and sample ranges are taken from the arrays; another folder of reference vectors may hold
others.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import pytest
import torch
from golden_arrays import (
    NUDGED,
    POSE_TOLERANCE,
    TOLERANCE,
    GoldenFile,
    both_dtypes,
    expect,
    expect_both,
    limits,
    noise_of,
    nudged,
    spread,
    stored,
    tensors,
)
from golden_network import as_ours, build_model, golden_rays, parameter_names
from nerfstudio.cameras.cameras import Cameras
from torch.nn import Parameter

from fewshot_ns.cameras.paths import dtu_spiral, llff_spiral
from fewshot_ns.cameras.poses import flip_camera_axes, focus_point
from fewshot_ns.cameras.ray_space import ModelRays, attach_radii, to_model_rays
from fewshot_ns.cameras.scene_geometry import RaySpace, SceneGeometry
from fewshot_ns.cameras.unseen_views import dtu_unseen_poses, llff_unseen_poses
from fewshot_ns.configs.sparsenerf import sparsenerf
from fewshot_ns.data.dataparsers.single.dtu import decompose_projections
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.maps import read_depth_map
from fewshot_ns.data.records.metadata import FewShotMetadata, PairBox, get_fewshot_metadata
from fewshot_ns.data.views.selection import dtu_protocol, every_eighth_protocol, select_views
from fewshot_ns.engine.schedulers import delayed_log_linear
from fewshot_ns.evaluation.metrics import image as metrics
from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.field_components.encodings import (
    frequency_mask,
    integrated_positional_encoding,
    positional_encoding,
)
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.losses import (
    background_coloured,
    colour_loss,
    depth_continuity_loss,
    depth_ranking_loss,
    distortion_loss,
    neighbour_differences,
    occlusion_loss,
    patch_smoothness_loss,
)
from fewshot_ns.model_components.ray_samplers import (
    blur_pool,
    cdf_positions,
    resample_fenceposts,
    sample_piecewise_constant,
    stratified_fenceposts,
)
from fewshot_ns.model_components.renderers import (
    composite_rgb,
    compositing_weights,
    distance_deviation,
    distance_percentile,
    expected_distance,
    expected_distance_clipped,
    opacity_and_transmittance,
    segment_lengths,
)
from fewshot_ns.model_components.schedules import anneal_near_far
from fewshot_ns.priors.base import PriorScene, StepContext
from fewshot_ns.priors.depth.prior import DepthPrior
from fewshot_ns.priors.smoothness import SmoothnessPrior, SmoothnessPriorConfig

pytestmark = pytest.mark.goldens


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
            selection = select_views(every_eighth_protocol(count), views)
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
    every = llff_unseen_poses(poses, bounds, draws)
    assert every.shape == (len(draws), 3, 4)
    # The original keeps the last draw alone: it appends it after its loop.
    np.testing.assert_allclose(every[-1:], llff_golden["random_poses"], atol=1e-9)
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
    selection = select_views(dtu_protocol(count, kind), num_views=0)
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
    assert record.depth_prior_filenames is not None and record.depth_encoding.polarity == "inverse_depth"
    prior = read_depth_map(record.depth_prior_filenames[0], record.depth_encoding.polarity, expected.shape)
    assert prior.valid.all() == (dtu_golden["depth_full_example"] > 0).all()
    difference = np.abs(prior.values - expected.astype(np.float64))[prior.valid]
    assert difference.max() <= 0.51


def test_dtu_random_poses(dtu_golden):
    poses = flip_camera_axes(dtu_golden["poses_all_f64"])
    uniform, normal = dtu_golden["random_pose_uniform_draws"], dtu_golden["random_pose_normal_draws"]
    np.testing.assert_allclose(focus_point(poses), dtu_golden["focus_point"], atol=POSE_TOLERANCE)
    unseen = dtu_unseen_poses(poses, uniform, normal)
    np.testing.assert_allclose(flip_camera_axes(unseen), dtu_golden["random_poses"], atol=POSE_TOLERANCE)


def test_dtu_random_draws_are_those_of_the_seed(dtu_golden):
    """The original draws three uniform numbers, then three normal ones, pose by pose."""
    random = np.random.RandomState(int(dtu_golden["random_pose_seed"]))
    count = len(dtu_golden["random_pose_uniform_draws"])
    uniform, normal = zip(*((random.rand(3), random.randn(3)) for _ in range(count)), strict=True)
    np.testing.assert_array_equal(uniform, dtu_golden["random_pose_uniform_draws"])
    np.testing.assert_array_equal(normal, dtu_golden["random_pose_normal_draws"])


def test_dtu_spiral(dtu_golden):
    expected = dtu_golden["render_poses"]
    path = dtu_spiral(flip_camera_axes(dtu_golden["poses_all_f64"]), frames=3 * len(expected))
    np.testing.assert_allclose(flip_camera_axes(path)[::3], expected, atol=POSE_TOLERANCE)


def image_rays(cameras: Cameras, geometry: SceneGeometry, count: int) -> List[ModelRays]:
    """Model rays of all pixels, row by row, of the first cameras."""
    bundles = [cameras.generate_rays(camera_indices=index, keep_shape=True) for index in range(count)]
    return [to_model_rays(attach_radii(bundle, geometry).flatten(), geometry) for bundle in bundles]


def expect_rays(golden: GoldenFile, prefix: str, cameras: Cameras, geometry: SceneGeometry) -> None:
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


def golden_keeps_length(golden: GoldenFile, prefix: str) -> bool:
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
    means, cov_full = cast_rays(*tensors(golden, dtype, *names), ray_shape=shape, full_covariance=True)
    expect(golden, f"{shape}_means", means)
    expected = stored(golden, f"{shape}_cov_full", dtype)
    np.testing.assert_allclose(cov_full.numpy(), expected, **{**TOLERANCE[dtype], **slack})


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
    tolerance = octave_tolerance(of_column)
    assert (np.abs(single.numpy() - expected) <= tolerance).all()
    assert (np.abs(single.numpy() - golden["ipe"]) <= tolerance).all()
    # Octaves are exact powers of two: nothing of what the original loses in float32 is lost here.
    largest = np.abs(single.numpy() - expected).max((0, 1))
    assert (largest <= golden["f32_vs_f64_max_abs_by_octave"][of_column] + 1e-6).all()


def test_freenerf_encoding_is_identity_and_integrated(sparsenerf_golden):
    golden = sparsenerf_golden("ipe.npz")
    means, cov_diag = tensors(golden, torch.float64, "means", "cov_diag")
    octaves = (golden["freenerf_ipe"].shape[-1] // means.shape[-1] - 1) // 2
    encoded = torch.cat([means, integrated_positional_encoding(means, cov_diag, octaves)], dim=-1)
    np.testing.assert_allclose(encoded.numpy(), golden["freenerf_ipe_f64"], atol=1e-7)
    of_column = np.concatenate([[0] * means.shape[-1], np.tile(np.repeat(np.arange(octaves), means.shape[-1]), 2)])
    assert (np.abs(encoded.numpy() - golden["freenerf_ipe"]) <= octave_tolerance(of_column)).all()


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


FENCEPOSTS: Dict[torch.dtype, Dict[str, Any]] = {
    torch.float64: dict(rtol=1e-9, atol=1e-9),
    torch.float32: dict(rtol=1e-5, atol=1e-5),
}
"""In float32 the rounding of the CDF is stretched where a bin holds little of the weight."""


@both_dtypes
@pytest.mark.parametrize("name, padding", [("t_new_pad001", 0.01), ("t_new_pad0", 0.0)])
def test_resampled_fenceposts(sparsenerf_golden, name, padding, dtype):
    golden = sparsenerf_golden("resample.npz")
    t, weights = tensors(golden, dtype, "t", "weights")
    samples = golden[name].shape[-1] - 1
    actual = resample_fenceposts(t, weights, samples, padding, stratified=False).numpy()
    if padding > 0:
        within = limits(spread(golden, name), dtype, FENCEPOSTS[dtype])
        np.testing.assert_allclose(actual, stored(golden, name, dtype), **within)
    else:
        expect_samples(golden, name, actual, dtype)


def not_one_hot(golden: GoldenFile) -> np.ndarray:
    """Rays whose value at a step of the CDF is not decided by rounding: all but those with a single non-zero bin."""
    return (golden["weights"] > 0).sum(-1) != 1


def expect_samples(golden: GoldenFile, name: str, actual: np.ndarray, dtype: torch.dtype) -> None:
    """Compares samples of weights that may vanish: in float32 rounding decides on which side of such a bin one lies."""
    rays, expected = not_one_hot(golden), stored(golden, name, dtype)
    close = np.isclose(actual[rays], expected[rays], **FENCEPOSTS[dtype])
    assert close.all() if dtype == torch.float64 else close.mean() > 0.98


@both_dtypes
def test_samples_of_the_raw_weights(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("resample.npz")
    t, weights = tensors(golden, dtype, "t", "weights")
    count = golden["t_pdf_only"].shape[-1]
    positions = torch.linspace(0.0, 1.0 - torch.finfo(torch.float32).eps, count, dtype=dtype)
    expect_samples(
        golden, "t_pdf_only", sample_piecewise_constant(t, weights, positions.expand(len(t), -1)).numpy(), dtype
    )


@both_dtypes
def test_randomly_resampled_fenceposts(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("resample.npz")
    t, weights, positions = tensors(golden, dtype, "t", "weights", "rand_u")
    actual = sample_piecewise_constant(t, blur_pool(weights, 0.01), positions)
    # Stored in float32 only: of the same rays and weights at even positions both precisions are.
    within = limits(spread(golden, "t_new_pad001"), torch.float32, FENCEPOSTS[torch.float32])
    np.testing.assert_allclose(actual.numpy(), golden["rand_t_new_pad001"], **within)
    # Such positions are what the product draws: one per stratum of equal size.
    drawn = cdf_positions(positions.shape[-1], t, stratified=True)
    for u in (positions, drawn):
        assert ((u * u.shape[-1]).floor() == torch.arange(u.shape[-1])).float().mean() > 0.999


@both_dtypes
def test_compositing(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("volumetric_rendering.npz")
    percentiles = {key: int(key.rpartition("_")[2]) / 100 for key in golden if re.fullmatch(r"distance_.*_\d+", key)}
    names = ("density", "t", "directions", "rgb", "normals")
    density, t, directions, rgb, normals = tensors(golden, dtype, *names)
    lengths = segment_lengths(t, directions)
    alpha, transmittance = opacity_and_transmittance(density, lengths)
    weights = compositing_weights(density, t, directions)
    values = {
        "delta": lengths,
        "alpha": alpha,
        "trans": transmittance,
        "weights": weights,
        "acc": weights.sum(-1),
        "black_rgb": composite_rgb(rgb, weights, "black"),
        "white_rgb": composite_rgb(rgb, weights, "white"),
        "black_normals": composite_rgb(normals, weights, "black"),
        "white_normals": composite_rgb(normals, weights, "white"),
        "distance_mean": expected_distance(weights, t)[:, 0],
        "distance_mean_save": expected_distance_clipped(weights, t)[:, 0],
        "distance_std": distance_deviation(weights, t)[:, 0],
        **{
            name: distance_percentile(weights, t, share)[:, 0]
            for name, share in {**percentiles, "distance_median": 0.5}.items()
        },
    }
    for name, value in values.items():
        # Where a ray has hardly any opacity the original loses digits that ours keeps.
        expect_both(golden, name, value)
    per_ray = torch.stack([distortion_loss(t[ray : ray + 1], weights[ray : ray + 1]) for ray in range(len(t))])
    expect_both(golden, "dist_loss", per_ray)


@both_dtypes
def test_gradient_of_the_expected_distance(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("volumetric_rendering.npz")
    rays = golden["grad_ray_index"]
    density, t, directions = (x[rays] for x in tensors(golden, dtype, "density", "t", "directions"))
    (coefficients,) = tensors(golden, dtype, "grad_coeff")
    density.requires_grad_(True)
    distance = expected_distance(compositing_weights(density, t, directions), t)[:, 0]
    (gradient,) = torch.autograd.grad((coefficients * distance).sum(), density)
    # A mean is divided by the opacity: rounding of a ray's weights counts by its inverse.
    largest = np.abs(golden["grad_density_f64"]).max(-1, keepdims=True)
    scale = largest / golden["acc_f64"][rays][:, None]
    # Also what is stored as float64 was rounded to the precision of the density, float32.
    expect_both(golden, "grad_density", gradient, scale, exact=dict(rtol=0.0, atol=2e-7))
    if dtype == torch.float64:
        np.testing.assert_allclose(gradient.numpy() / largest, golden["grad_density_f64"] / largest, rtol=0, atol=1e-6)


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


@dataclass(frozen=True)
class Decay:
    """The settings behind stored learning rates, worked out from them."""

    lr_init: float
    lr_final: float
    max_steps: int
    delay_steps: int
    delay_factor: float

    @classmethod
    def of(cls, steps: List[int], rates: np.ndarray) -> Decay:
        """From rates at steps that include 0, 1 and the last one; the delay ends before half of them."""
        last, middle = max(steps), sorted(steps)[len(steps) * 3 // 4]
        by_step = dict(zip(steps, np.log(rates), strict=True))
        slope = (by_step[last] - by_step[middle]) / (last - middle)
        undelayed = {step: by_step[last] - slope * (last - step) for step in (0, 1)}
        factor, first = (float(np.exp(by_step[step] - undelayed[step])) for step in (0, 1))
        delay_steps = 0.5 * np.pi / np.arcsin((first - factor) / (1 - factor))
        return cls(
            lr_init=float(np.exp(undelayed[0])),
            lr_final=float(np.exp(by_step[last])),
            max_steps=last,
            delay_steps=round(delay_steps),
            delay_factor=factor,
        )


@pytest.mark.parametrize("name", ["sn_llff_dtu", "sn_nvs", "rn_llff3", "rn_dtu3"])
def test_learning_rates(sparsenerf_golden, name):
    """By the product's own optimizer and scheduler."""
    golden = sparsenerf_golden("schedules.npz")
    steps, expected = golden[f"lr_{name}_step"].tolist(), golden[f"lr_{name}_f64"]
    np.testing.assert_allclose(golden[f"lr_{name}"], expected, rtol=1e-5)
    decay = Decay.of(steps, expected)
    rates = [delayed_log_linear(step, **asdict(decay)) for step in steps]
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    # And through torch, as far as it is quick; the first optimisation step is step 1.
    group = sparsenerf.optimizers["field"]
    optimizer = replace(group["optimizer"], lr=decay.lr_init).setup([Parameter(torch.zeros(1))])
    fields = {key: value for key, value in asdict(decay).items() if key != "lr_init"}
    scheduler = replace(group["scheduler"], **fields).setup().get_scheduler(optimizer, lr_init=decay.lr_init)
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


def test_frequency_mask_of_a_fixed_ratio(sparsenerf_golden):
    golden = sparsenerf_golden("schedules.npz")
    ratio, expected = float(golden["freq_mask_99_max_visible_ratio"]), golden["freq_mask_99_max_visible"]
    for step in (0, 5, 10**6):
        mask = frequency_mask(len(expected), step, end_step=1000, visible_ratio=ratio)
        np.testing.assert_array_equal(mask.numpy(), expected)


def test_weight_of_the_smoothness(sparsenerf_golden):
    golden = sparsenerf_golden("schedules.npz")
    stored_weights = dict(zip(golden["tv_step"].tolist(), golden["tv_weight"].tolist(), strict=True))
    start, end = stored_weights[0], stored_weights[max(stored_weights)]
    config = SmoothnessPriorConfig(
        enabled=True,
        weight_start=start,
        weight_end=end,
        ramp_steps=round((start - end) / (start - stored_weights[1])),
    )
    prior = config.setup(scene=prior_scene("dtu"), name="smoothness")
    # The prior counts steps from 0, the original from 1.
    weights = [prior.weight(step - 1) for step in stored_weights]
    np.testing.assert_allclose(weights, list(stored_weights.values()), rtol=1e-9)


def test_occlusion_terms(sparsenerf_golden):
    golden = sparsenerf_golden("schedules.npz")
    cases = [re.fullmatch(r"occ_range(\d+)(?:_wb(\d+))?", key) for key in golden]
    assert any(cases)
    for case in filter(None, cases):
        density, rgb = tensors(golden, torch.float64, "occ_density", "occ_rgb")
        density.requires_grad_(True)
        extra = None if case[2] is None else background_coloured(rgb, int(case[2]))
        loss = occlusion_loss(density, int(case[1]), extra)
        (gradient,) = torch.autograd.grad(loss, density)
        np.testing.assert_allclose(loss.item(), golden[f"{case[0]}_f64"], rtol=1e-9, err_msg=case[0])
        np.testing.assert_allclose(loss.item(), golden[case[0]], rtol=1e-5, err_msg=case[0])
        np.testing.assert_allclose(
            gradient.numpy(), golden[f"{case[0]}_grad_density"], **TOLERANCE[torch.float32], err_msg=case[0]
        )


PIPELINE: Any = sparsenerf.pipeline
SPACE: Dict[str, RaySpace] = {"llff": "ndc", "dtu": "metric"}
LOSS_CASES = ["random", "satisfied", "equal"]


def prior_scene(dataset: str, num_rays: int = 0, **fields: Any) -> PriorScene:
    """What priors are told of a scene of a data set, near 0 and far 1."""
    record = FewShotMetadata(
        SceneGeometry(SPACE[dataset], 0.0, 1.0), "golden", "train", (0,), (0,), (0,), torch.eye(4)[None, :3], **fields
    )
    views: Any = SimpleNamespace(fewshot=record)
    return PriorScene(views, torch.device("cpu"), Path("golden"), num_rays=num_rays)


def depth_prior(dataset: str, num_rays: int = 0, **fields: Any) -> DepthPrior:
    """sparsenerf's depth prior as it resolves on a data set, for batches of some rays."""
    return PIPELINE.depth.setup(scene=prior_scene(dataset, num_rays, **fields), name="depth")


def smoothness_prior(dataset: str, weight: float, **fields: Any) -> SmoothnessPrior:
    """sparsenerf's smoothness prior as it resolves on a data set, with the annealed weight of the stored step."""
    config = replace(PIPELINE.smoothness, weight_end=weight, ramp_steps=0, **fields)
    return config.setup(scene=prior_scene(dataset), name="smoothness")


def sum_of(losses: Dict[str, torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.zeros((), dtype=like.dtype), *losses.values()]).sum()


@both_dtypes
@pytest.mark.parametrize("dataset", SPACE)
@pytest.mark.parametrize("case", LOSS_CASES)
def test_depth_losses(sparsenerf_golden, dataset, case, dtype):
    golden = sparsenerf_golden("losses.npz")
    name, prior = f"{dataset}_{case}", depth_prior(dataset)
    coarse, fine = tensors(golden, dtype, f"{name}_depth_coarse", f"{name}_depth_fine")
    np.testing.assert_allclose(float(depth_ranking_loss(fine)), golden[f"{name}_ranking_f64"], **TOLERANCE[dtype])
    np.testing.assert_allclose(float(depth_continuity_loss(fine)), golden[f"{name}_continuity_f64"], **TOLERANCE[dtype])
    for level, quads in enumerate((coarse, fine)):
        terms = prior.ranking_terms(quads, torch.rand(len(quads), dtype=dtype), step=0)
        term = float(sum_of(terms, quads)) / prior.ranking_weight
        np.testing.assert_allclose(term, stored(golden, f"{name}_depth_loss", dtype)[level], **TOLERANCE[dtype])


@both_dtypes
@pytest.mark.parametrize("dataset", SPACE)
@pytest.mark.parametrize("case", LOSS_CASES)
def test_total_loss_and_its_gradients(sparsenerf_golden, dataset, case, dtype):
    golden = sparsenerf_golden("losses.npz")
    name = f"{dataset}_{case}"
    parts = [f"{kind}_{level}" for kind in ("depth", "rgb", "patch_depth", "patch_acc") for level in ("coarse", "fine")]
    x = dict(zip(parts, tensors(golden, dtype, *(f"{name}_{part}" for part in parts)), strict=True))
    (target,) = tensors(golden, dtype, f"{name}_rgb_gt")
    for value in x.values():
        value.requires_grad_(True)

    colour = [colour_loss(x[f"rgb_{level}"], target) for level in ("coarse", "fine")]
    np.testing.assert_allclose([float(term) for term in colour], stored(golden, f"{name}_rgb_losses", dtype), rtol=1e-6)
    size = x["patch_depth_fine"].shape[-1]
    smooth = smoothness_prior(dataset, float(golden[f"{name}_tv_weight"]), patch_size=size)
    tv = [
        smooth.factor * patch_smoothness_loss(x[f"patch_depth_{level}"], x[f"patch_acc_{level}"])
        for level in ("coarse", "fine")
    ]
    expected = stored(golden, f"{name}_tv_losses", dtype)
    np.testing.assert_allclose([float(term) for term in tv], expected, **TOLERANCE[dtype])

    losses = {"fine": colour[1], "coarse": PIPELINE.model.coarse_weight * colour[0]}
    gaps = torch.rand(len(x["depth_fine"]), dtype=dtype)
    losses |= depth_prior(dataset).ranking_terms(x["depth_fine"], gaps, step=0)
    if smooth.active:
        fine, coarse = (
            (x[f"patch_depth_{level}"].reshape(-1, 1), x[f"patch_acc_{level}"].reshape(-1, 1))
            for level in ("fine", "coarse")
        )
        losses |= smooth.terms(fine, coarse, step=0)
    total = sum_of(losses, target)
    np.testing.assert_allclose(float(total), stored(golden, f"{name}_total", dtype), **TOLERANCE[dtype])

    total.backward()
    for part in parts:
        gradient = x[part].grad
        expected = golden.get(f"{name}_grad_{part}")
        if expected is None:
            assert part == "patch_acc_coarse" and gradient is None
            continue
        actual = np.zeros_like(expected) if gradient is None else gradient.numpy()
        np.testing.assert_allclose(actual, expected, **TOLERANCE[torch.float32], err_msg=part)
        # The stored annealed weight is rounded to float32.
        close = dict(TOLERANCE[dtype], rtol=1e-7) if part.startswith("patch") else TOLERANCE[dtype]
        np.testing.assert_allclose(actual, golden[f"{name}_grad_{part}_f64"], **close, err_msg=part)


def test_losses_of_nvs_rgbd(sparsenerf_golden):
    """Its batches hold quads in their first half only."""
    golden = sparsenerf_golden("losses.npz")
    names = [f"llff_random_{part}" for part in ("depth_coarse", "depth_fine", "rgb_coarse", "rgb_fine", "rgb_gt")]
    *depths, rgb_coarse, rgb_fine, target = tensors(golden, torch.float64, *names)
    for level, quads in enumerate(depths):
        distance = quads.requires_grad_(True)
        prior = depth_prior("llff", distance.numel(), pair_box=PairBox(side=30, min_valid=1))
        half = prior.num_quads
        assert 2 * half == len(quads)
        terms = sum_of(prior.ranking_terms(distance[:half], torch.rand(half), step=0), distance)
        stored_terms = golden["nvs_random_depth_loss_f64"][level]
        np.testing.assert_allclose(terms.item(), prior.ranking_weight * stored_terms, rtol=1e-9)
    total = terms + colour_loss(rgb_fine, target)
    total = total + PIPELINE.model.coarse_weight * colour_loss(rgb_coarse, target)
    np.testing.assert_allclose(total.item(), golden["nvs_random_total_f64"], rtol=1e-9)
    np.testing.assert_allclose(total.item(), golden["nvs_random_total"], rtol=1e-5)
    (gradient,) = torch.autograd.grad(total, distance)
    expected = golden["nvs_random_grad_depth_fine_f64"]
    np.testing.assert_allclose(gradient.reshape(expected.shape).numpy(), expected, rtol=1e-9, atol=1e-15)


@both_dtypes
def test_smoothness_per_pixel(sparsenerf_golden, dtype):
    golden = sparsenerf_golden("losses.npz")
    values, weighting = (x[..., 0] for x in tensors(golden, dtype, "tv_values", "tv_weighting"))
    for norm in ("l1", "l2"):
        expect(golden, f"tv_{norm}_weighted", (weighting * neighbour_differences(values, norm))[..., None])
    plain = neighbour_differences(values).numpy()[..., None]
    np.testing.assert_allclose(plain, golden["tv_l2_unweighted_f64"], **TOLERANCE[dtype])


def expect_metric(golden: GoldenFile, name: str, value: torch.Tensor) -> None:
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
    psnr = metrics.masked_psnr(pred, truth, mask)
    ssim = metrics.ssim(metrics.composite_on_white(pred, mask), metrics.composite_on_white(truth, mask))
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


def network(golden: GoldenFile, prefix: str = "param_") -> Dict[str, np.ndarray]:
    """Reference parameters by the original's names."""
    return golden.part(prefix)


RAY_ARRAYS = ("origins", "directions", "viewdirs", "radii", "near", "far")
EXACT = (dict(rtol=0.0, atol=1e-8), dict(rtol=0.0, atol=1e-6))
"""Of the README in float64, by level: absolute, for values of order one. Of the second level it is more than float64
needs, since some of the original's constants are rounded to float32."""
SIZES = ["full", "small"]
MLP = ("mlp_means", "mlp_cov_diag", "mlp_viewdirs")


@both_dtypes
@pytest.mark.parametrize("size", SIZES)
def test_network(sparsenerf_golden, size, dtype):
    golden = sparsenerf_golden(f"model_forward_{size}.npz")
    field = build_model(network(golden), "cone", dtype, 1).field
    inputs = tensors(golden, dtype, *MLP)
    density, rgb = field(*inputs)
    exact = dict(rtol=0.0, atol=1e-7)
    for name, value in {"density": density, "rgb": rgb}.items():
        expect_both(golden, f"mlp_{name}", value, max(float(np.abs(golden[f"mlp_{name}_f64"]).max()), 1.0), exact)
    # A direction is as exact as the gradient that it is of is long.
    means = tensors(golden, torch.float64, "mlp_means")[0].requires_grad_()
    double = build_model(network(golden), "cone", torch.float64, 1).field
    (gradient,) = torch.autograd.grad(double(means, *tensors(golden, torch.float64, *MLP[1:]))[0].sum(), means)
    length = gradient.norm(dim=-1, keepdim=True).numpy()
    normals = field.trainable_normals(*inputs[:2])
    expect_both(golden, "mlp_normals", normals, length.max() / length, exact)


@pytest.mark.parametrize("size", SIZES)
def test_number_of_parameters(sparsenerf_golden, size):
    golden = sparsenerf_golden(f"model_forward_{size}.npz")
    arrays = network(golden)
    model = build_model(arrays, "cone", torch.float32, 1)
    (group,) = model.get_param_groups().values()
    assert sum(parameter.numel() for parameter in group) == sum(array.size for array in arrays.values())


@both_dtypes
@pytest.mark.parametrize("case", ["ndc", "cone"])
@pytest.mark.parametrize("size", SIZES)
def test_both_levels(sparsenerf_golden, size, case, dtype):
    golden = sparsenerf_golden(f"model_forward_{size}.npz")
    padding = float(golden["resample_padding"])
    model = build_model(network(golden), case, dtype, int(golden["num_samples"]), resample_padding=padding).train()
    rays = golden_rays({name: golden[f"{case}_{name}"] for name in RAY_ARRAYS}, dtype)
    with torch.no_grad():
        rendering = model.rendering_of(rays)
    background = model.geometry.background
    for level, rendered in enumerate((rendering.coarse, rendering)):
        assert rendered is not None and rendered.samples is not None and rendered.samples.rgb is not None
        weights, t = rendered.samples.weights, rendered.samples.t
        values = {
            "rgb": composite_rgb(rendered.samples.rgb, weights, background),
            "distance_mean": expected_distance(weights, t)[:, 0],
            "distance_mean_save": expected_distance_clipped(weights, t)[:, 0],
            "distance_median": distance_percentile(weights, t, 0.5)[:, 0],
            "acc": weights.sum(-1),
            "t": t,
            "weights": weights,
        }
        for name, value in values.items():
            key = f"{case}_level{level}_{name}"
            largest = max(float(np.abs(golden[key]).max()), 1.0)
            if name != "distance_median":
                # Of the full network weights are stored in float32 only: in one of them there is no more than in all.
                noise = None if f"{key}_f64" in golden else spread(golden, f"{case}_level{level}_acc", largest)
                expect_both(golden, key, value, largest, EXACT[level], noise)
                continue
            # A median jumps where half of the weight is reached between two surfaces; rounding decides there.
            noise = np.quantile(np.abs(golden[key] - golden[f"{key}_f64"]) / largest, 0.9)
            for stored_name in (key, f"{key}_f64"):
                double = dtype == torch.float64 and stored_name.endswith("_f64")
                of = limits(noise, dtype, EXACT[level]) if double else limits(noise, torch.float32)
                assert (np.abs(value.numpy() - golden[stored_name]) <= of["atol"] * largest).mean() >= 0.8, stored_name
        # And what priors and terms of the loss see of the level.
        assert torch.equal(rendered.rgb, values["rgb"])
        assert torch.equal(rendered.distance[:, 0], values["distance_mean"])
        assert torch.equal(rendered.accumulation[:, 0], values["acc"])


def training_step(golden: GoldenFile, dataset: str, dtype: torch.dtype, seed: Optional[int] = None) -> SimpleNamespace:
    """Model, losses and total of the stored step; with a seed, of parameters, rays and colours nudged by it."""
    arrays = network(golden, f"{dataset}_param_")
    kinds = {kind: {name: golden[f"{dataset}_{kind}_{name}"] for name in RAY_ARRAYS} for kind in ("rays", "patch")}
    if seed is not None:
        arrays = nudged(arrays, seed)
        kinds = {kind: nudged(given, seed + 1) for kind, given in kinds.items()}
    model = build_model(arrays, dataset, dtype, int(golden["num_samples"])).train()
    seen, patch = (model.rendering_of(golden_rays(given, dtype)) for given in kinds.values())
    (target,) = tensors(golden, dtype, f"{dataset}_rgb_gt")
    depth = depth_prior(dataset, len(target))
    smooth = smoothness_prior(dataset, float(golden[f"{dataset}_tv_weight"]))
    losses = model.get_loss_dict(seen, {"image": target})
    gaps = torch.rand(depth.num_quads, dtype=dtype)
    # SparseNeRF's batches consist of quads.
    losses |= depth.ranking_terms(seen.distance.reshape(len(gaps), 4), gaps, step=0)
    size = smooth.config.patch_size
    patches = patch.reshape(-1, size, size) if smooth.needs.request == "cameras" else None
    losses |= smooth.loss_dict(0, StepContext(seen, patches, {"image": target}, model.render_cameras, model))

    assert seen.coarse is not None and seen.coarse.samples is not None
    coarse_quads = expected_distance(seen.coarse.samples.weights, seen.coarse.samples.t)
    of_coarse = depth.ranking_terms(coarse_quads.reshape(-1, 4), gaps, step=0)
    unweighted = {
        "losses": [losses["rgb_loss_coarse"] / model.config.coarse_weight, losses["rgb_loss"]],
        "all_depth_loss": [
            sum_of({name: terms[name] for name in of_coarse}, target) / depth.ranking_weight
            for terms in (of_coarse, losses)
        ],
    }
    if smooth.active:
        unweighted["losses_georeg"] = [
            losses["depth_smoothness_coarse"] / smooth.config.coarse_weight,
            losses["depth_smoothness"] / smooth.weight(0),
        ]
    total = sum_of(losses, target)
    total.backward()
    values = {**{name: torch.stack(terms).detach() for name, terms in unweighted.items()}, "loss": total.detach()}
    return SimpleNamespace(model=model, values=values)


def gradients_of(model: Any) -> Dict[str, torch.Tensor]:
    """Gradient of each parameter, by its name, copied."""
    found = {name: parameter.grad for name, parameter in model.field.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def flat(gradients: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def figures_of(gradients: Mapping[str, torch.Tensor], clip_value: float) -> Dict[str, torch.Tensor]:
    """Norm and largest element of gradients, before and after they are clipped by element."""
    raw = flat(gradients)
    elements = raw.clamp(-clip_value, clip_value)
    return {
        "raw_grad_norm": raw.norm(),
        "raw_grad_abs_max": raw.abs().max(),
        "grad_norm": elements.norm(),
        "grad_abs_max": elements.abs().max(),
    }


ORIGINAL_CLIP_EPSILON, CLIP_EPSILON = float(np.finfo(np.float32).eps), 1e-6
"""What the original and torch add to a norm by which they divide."""


@both_dtypes
@pytest.mark.parametrize("dataset", SPACE)
def test_training_step(sparsenerf_golden, dataset, dtype):
    """Losses, gradients and their clipping, by the model, the priors, the optimizer and the scheduler of sparsenerf."""
    golden = sparsenerf_golden("train_step.npz")
    group = sparsenerf.optimizers["field"]
    clip_value = float(group["optimizer"].clip_value)
    taken = training_step(golden, dataset, dtype)
    model, gradients = taken.model, gradients_of(taken.model)

    def results(seed: Optional[int]) -> Dict[str, Any]:
        """What is compared, in float64; gradients in multiples of the largest."""
        nearby = training_step(golden, dataset, torch.float64, seed)
        found = gradients_of(nearby.model)
        return {**nearby.values, **figures_of(found, clip_value), "gradient": flat(found)}

    noise = noise_of(results)
    if "losses_georeg" not in taken.values:
        assert not golden[f"{dataset}_losses_georeg"].any() and not golden[f"{dataset}_losses_georeg_f64"].any()
    for name, value in taken.values.items():
        for suffix, double in (("", False), ("_f64", dtype == torch.float64)):
            of = dict(rtol=1e-8, atol=1e-12) if double else dict(rtol=1e-5, atol=1e-6)
            within = limits(noise[name], torch.float64 if double else torch.float32, of, NUDGED)
            np.testing.assert_allclose(value.numpy(), golden[f"{dataset}_{name}{suffix}"], err_msg=name, **within)

    def expect_scalar(name: str, value: torch.Tensor, of: float) -> None:
        within = limits(of, dtype, dict(rtol=1e-6 if dtype == torch.float64 else 1e-5, atol=0.0), NUDGED)
        np.testing.assert_allclose(value.item(), golden[f"{dataset}_{name}_f64"], err_msg=name, **within)

    figures = figures_of(gradients, clip_value)
    for name, value in figures.items():
        expect_scalar(name, value, noise[name])
    (parameters,) = model.get_param_groups().values()
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = group["optimizer"].setup(parameters)
    scheduler = group["scheduler"].setup().get_scheduler(optimizer, lr_init=group["optimizer"].lr)
    rate = optimizer.param_groups[0]["lr"]
    optimizer.step()
    scheduler.step()
    # Both divide by a little more than the norm, the original by less more.
    norm = float(figures["grad_norm"])
    as_original = (norm + CLIP_EPSILON) / (norm + ORIGINAL_CLIP_EPSILON) if norm > optimizer._clip_norm else 1.0
    clipped = {name: as_original * gradient for name, gradient in gradients_of(model).items()}
    expect_scalar("grad_norm_clipped", flat(clipped).norm(), noise["grad_norm"] * optimizer._clip_norm / norm)

    names = parameter_names(network(golden, f"{dataset}_param_"))
    expected = {ours: as_ours(golden[f"{dataset}_grad_{theirs}"]).double() for ours, theirs in names.items()}
    largest = max(float(array.abs().max()) for array in expected.values())
    # Stored in float32, of float64. Rounding may take a unit or a pair over its kink, as nudged inputs do.
    least = dict(rtol=0.0, atol=largest * (1e-7 if dtype == torch.float64 else 1e-4))
    limit = limits(noise["gradient"] * min(1.0, optimizer._clip_norm / norm), dtype, least, NUDGED)["atol"]
    for (name, parameter), old in zip(model.field.named_parameters(), before, strict=True):
        assert parameter.grad is not None
        assert (clipped[name].double() - expected[name]).abs().max() <= limit, name
        # Adam's first step goes by the rate against the sign of the clipped gradient, up to its eps.
        step = -rate * parameter.grad / (parameter.grad.abs() + group["optimizer"].eps)
        # The difference of what was rounded to the parameter's own size.
        rounding = 2.0 * torch.finfo(dtype).eps * float(old.abs().max())
        assert torch.allclose(parameter.detach() - old, step, rtol=1e-4, atol=1e-6 * rate + rounding), name
    assert optimizer.param_groups[0]["lr"] > rate > 0
