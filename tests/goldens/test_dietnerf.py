"""Poses, ray grids, networks, rendering, semantic term, data and metrics against values of DietNeRF's two codes.

Sizes, weights and constants are taken from the arrays; another folder of reference vectors may hold others.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Mapping, Tuple

import cv2
import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from golden_arrays import DTYPES, NOISE, GoldenFile
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.paths import spin
from fewshot_ns.cameras.pixel_grids import crop_grid, full_grid, stride_of, strided_grid
from fewshot_ns.cameras.ray_space import ModelRays
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.cameras.sphere_views import interpolated_poses, spherical_poses
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.samplers.pixels import centre_crop
from fewshot_ns.data.views.selection import BLENDER_ONE_SIDED_VIEWS, blender_protocol, select_views
from fewshot_ns.evaluation.metrics.image import psnr, ssim, ssim_gaussian
from fewshot_ns.field_components.encodings import positional_encoding
from fewshot_ns.fields.nerf_field import NeRFField
from fewshot_ns.model_components.point_samples import (
    invert_density,
    point_weights,
    resample_points,
    stratified_points,
)
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.models.nerf import NeRFModel, NeRFModelConfig
from fewshot_ns.pretrained.encoders.preprocessing import CLIP_MEAN, CLIP_STD, Resize, cosine_similarity, encoder_input

pytestmark = pytest.mark.goldens

CLOSE: Dict[str, Any] = dict(rtol=1e-5, atol=1e-5)
RENDER: Dict[str, Any] = dict(rtol=0, atol=5e-3)
"""Complete coarse-to-fine renderings, whose inverse of the density amplifies rounding."""
AT_STORED_POINTS: Dict[str, Any] = dict(rtol=1e-4, atol=2e-5)


def close(value: Any, expected: np.ndarray, **tolerance: Any) -> None:
    value = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    np.testing.assert_allclose(value, expected, **(tolerance or CLOSE))


def homogeneous_row(poses: np.ndarray) -> np.ndarray:
    return np.concatenate([poses, np.broadcast_to([[[0.0, 0.0, 0.0, 1.0]]], (len(poses), 1, 4))], axis=1)


def test_spherical_poses(arrays):
    golden = arrays("pose_sampling")
    low, high = golden["ranges"].T
    drawn = low + (high - low) * golden["u"]
    close(drawn, golden["theta_phi_radius"])
    theta, phi, radius = drawn.T
    close(spherical_poses(np.radians(theta), -np.radians(phi), radius), golden["poses"])
    theta, position = golden["path_angles"], golden["path_poses"][0, :3, 3].astype(np.float64)
    radius = np.full(len(theta), np.linalg.norm(position))
    path = spherical_poses(np.radians(theta), np.arcsin(position[2] / radius), radius)
    close(homogeneous_row(path), golden["path_poses"])
    ours = spin(float(radius[0]), float(np.degrees(np.arcsin(position[2] / radius[0]))), len(theta))
    close(homogeneous_row(ours), golden["path_poses"])


def test_spherical_poses_of_the_jax_version(arrays):
    golden = arrays("pose_sampling")
    u, radius = golden["jax_u"], np.linalg.norm(golden["jax_poses"][:, :3, 3].astype(np.float64), axis=-1)
    slope, start = np.polyfit(u, radius, 1)
    close(start + slope * u, radius)
    drawn = spherical_poses(-np.pi + 2 * np.pi * u, np.pi / 2 * u, start + slope * u)
    close(homogeneous_row(drawn), golden["jax_poses"])
    radius, theta, phi = golden["jax_radius_theta_phi"].T
    close(homogeneous_row(spherical_poses(theta, phi, radius)), golden["jax_spherical_poses"])


def test_interpolated_poses(arrays):
    from scipy.spatial.transform import Rotation

    golden = arrays("pose_sampling")
    poses = golden["interp_poses"].astype(np.float64)
    turns = [Rotation.from_matrix(poses[:, index, :, :3]).as_quat() for index in (0, 1)]
    close((turns[0] * turns[1]).sum(-1), golden["interp_quat_dot"])
    three = [poses[:, index] for index in range(3)]
    close(interpolated_poses(*three, golden["interp_factors"]), golden["interp_out"])  # type: ignore[misc]


def camera_of(params: np.ndarray, pose: np.ndarray) -> Cameras:
    """A camera whose integer positions are the originals' pixels: their centre lies half a pixel further."""
    height, width, focal = (float(value) for value in params[:3])
    intrinsics = focal, focal, width / 2 + 0.5, height / 2 + 0.5
    return Cameras(torch.from_numpy(pose[:3])[None].float(), *intrinsics, int(width), int(height))


def rays_of(camera: Cameras, grid: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Un-normalised directions, unit directions and origins at the pixels (..., 2) of a grid."""
    rays = camera.generate_rays(camera_indices=torch.zeros(*grid.shape[:-1], 1, dtype=torch.long), coords=grid + 0.5)
    return rays.directions * rays.metadata["directions_norm"], rays.directions, rays.origins


@pytest.mark.parametrize("case", ["small", "168", "step1"])
def test_strided_grid(arrays, case):
    golden = arrays("ray_grid")
    params, (column, row) = golden[f"jitter_{case}_params"], golden[f"jitter_{case}_offset"]
    size, count = (int(params[0]), int(params[1])), (int(params[3]), int(params[4]))
    remainder = [side % n for side, n in zip(size, count, strict=True)]
    uniform = torch.tensor([row / remainder[0], column / remainder[1]], dtype=torch.float64)
    assert (uniform >= 0).all() and (uniform < 1).all()
    grid = strided_grid(size, count, uniform).positions()
    assert (*grid.shape[:2], 3) == tuple(golden[f"jitter_{case}_shape"])
    directions, _, origins = rays_of(camera_of(params, golden["pose"]), grid)
    stored = golden[f"jitter_{case}_dirs"]
    every = -(-count[0] // stored.shape[0])
    close(directions[::every, ::every], stored)
    close(origins[0, 0], golden[f"jitter_{case}_origin"])


def test_strided_grid_of_stride_one_never_grows(arrays):
    golden = arrays("ray_grid")
    height, width, rows, columns = (int(value) for value in golden["stride1_params"])
    assert stride_of((height, width), (rows, columns)) == (1, 1)
    for (column, row), shape in zip(golden["stride1_offsets"], golden["stride1_shapes"], strict=True):
        uniform = torch.tensor([row / (height % rows), column / (width % columns)], dtype=torch.float64)
        grid = strided_grid((height, width), (rows, columns), uniform).positions()
        close(grid[0, 0], np.array([row, column]))
        assert grid.shape == (rows, columns, 2)
        # The original's extra row or column, which is left out here.
        assert set(shape - [rows, columns]) <= {0, 1}


def test_full_grid_and_whole_image(arrays):
    golden = arrays("ray_grid")
    params = golden["linspace_params"]
    grid = full_grid((int(params[0]), int(params[1])), (int(params[3]), int(params[4]))).positions()
    close(rays_of(camera_of(params, golden["pose"]), grid)[0], golden["linspace_dirs"])
    height, width = golden["full_dirs"].shape[:2]
    focal = 1.0 / np.linalg.norm(golden["full_dirs"][0, 1] - golden["full_dirs"][0, 0])
    camera = camera_of(np.array([height, width, focal]), golden["pose"])
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    close(rays.directions * rays.metadata["directions_norm"], golden["full_dirs"])


def test_centre_crop(arrays):
    golden = arrays("ray_grid")
    height, width, _, fraction = golden["crop_params"]
    rows, columns = centre_crop(int(height), int(width), float(fraction))
    inside = torch.zeros(int(height), int(width), dtype=torch.bool)
    inside[rows, columns] = True
    pixels = inside.nonzero()[torch.from_numpy(golden["crop_index"])]
    assert np.array_equal(pixels.numpy(), golden["crop_pixels"])
    close(rays_of(camera_of(golden["crop_params"], golden["pose"]), pixels.float())[0], golden["crop_dirs"])


def test_crop_of_the_jax_version(arrays):
    golden = arrays("ray_grid")
    params, (cx, cy) = golden["jax_crop_params"], golden["jax_crop_center"]
    rows, columns = (int(n) for n in golden["jax_crop_size"])
    assert rows == params[3] / params[4]
    grid = crop_grid((int(cy), int(cx)), int(params[3]), (rows, columns)).positions()
    directions, unit, origins = rays_of(camera_of(params, golden["jax_crop_pose"]), grid)
    every = -(-rows // len(golden["jax_crop_dirs"]))
    close(directions[::every, ::every], golden["jax_crop_dirs"])
    close(unit[::every, ::every], golden["jax_crop_viewdirs"])
    close(origins[0, 0], golden["jax_crop_origin"])


NAMES = {
    "pts_linears.": "trunk.",
    "views_linears.0.": "colour.",
    "feature_linear.": "bottleneck.",
    "alpha_linear.": "density.",
    "rgb_linear.": "rgb.",
    "output_linear.": "output.",
}


def renamed(arrays: Mapping[str, np.ndarray]) -> Dict[str, Tensor]:
    """Parameters by the product's names."""
    state = {}
    for name, value in arrays.items():
        theirs, ours = next((theirs, ours) for theirs, ours in NAMES.items() if name.startswith(theirs))
        state[ours + name[len(theirs) :]] = torch.from_numpy(value)
    return state


def network_sizes(state: Mapping[str, Tensor]) -> Dict[str, Any]:
    """Fields of the network that follow from the shapes of the reference parameters."""
    width, columns = state["trunk.0.weight"].shape
    layers = sum(re.fullmatch(r"trunk\.\d+\.weight", name) is not None for name in state)
    (skip,) = [i for i in range(1, layers) if state[f"trunk.{i}.weight"].shape[1] > width]
    sizes = {"num_layers": layers, "width": width, "skip_layer": skip, "num_octaves": (columns - 3) // 6}
    if "colour.weight" in state:
        colour_width, inputs = state["colour.weight"].shape
        sizes |= {"colour_width": colour_width, "view_octaves": (inputs - width - 3) // 6}
    return sizes


def field_of(golden: GoldenFile, network: str) -> NeRFField:
    state = renamed(golden.part(f"param/{network}."))
    field = NeRFField(**{"view_octaves": None, **network_sizes(state)})
    field.load_state_dict(state)
    return field


def test_networks(arrays):
    golden = arrays("nerf_forward")
    points, dirs = torch.from_numpy(golden["points"]), torch.from_numpy(golden["dirs"])
    for network in ("coarse", "fine", "simple"):
        field, raw = field_of(golden, network), {}
        for dtype in DTYPES:
            density, rgb = field.to(dtype).raw(points[:, None].to(dtype), dirs.to(dtype))
            raw[dtype] = torch.cat([rgb[:, 0], density], dim=-1).detach().double().numpy()
        # One precision is stored: ours in float32 is off by about as much as theirs.
        noise = float(np.abs(raw[torch.float32] - raw[torch.float64]).max())
        within = dict(CLOSE, atol=max(CLOSE["atol"], NOISE * noise))
        for found in raw.values():
            close(found, golden[f"raw_{network}"], **within)
    for name, values in (("points", points), ("dirs", dirs)):
        octaves = (golden[f"{name}_encoded"].shape[1] - 3) // 6
        close(positional_encoding(values, octaves, by_octave=True), golden[f"{name}_encoded"])


def test_compositing(arrays):
    golden = arrays("nerf_forward")
    raw, z, directions = (torch.from_numpy(golden[f"composite_{name}"]) for name in ("raw", "z", "d"))
    rgb = torch.sigmoid(raw[..., :3])
    weights = point_weights(torch.relu(raw[..., 3]), z, directions)
    close(weights, golden["composite_weights"])
    close(weights.sum(-1), golden["composite_acc"])
    close((weights * z).sum(-1), golden["composite_depth"])
    close(composite_rgb(rgb, weights, "black"), golden["composite_black_rgb"])
    close(composite_rgb(rgb, weights, "white"), golden["composite_white_rgb"])
    soft = point_weights(torch.nn.functional.softplus(raw[..., 3]), z, directions)
    close(soft, golden["composite_softplus_weights"])


def test_inverse_density(arrays):
    golden = arrays("nerf_forward")
    samples = invert_density(*(torch.from_numpy(golden[f"pdf_{name}"]) for name in ("bins", "weights", "u")))
    close(samples, golden["pdf_samples"])


class Drawn:
    """Stands in for torch.rand with stored numbers, in the order of the calls."""

    def __init__(self, *numbers: np.ndarray) -> None:
        self.numbers = [torch.from_numpy(each) for each in numbers]

    def __call__(self, *shape: int, **kwargs: Any) -> Tensor:
        number = self.numbers.pop(0)
        assert number.shape == shape
        return number


def model_of(golden: GoldenFile, case: str, **fields: Any) -> NeRFModel:
    state = {name: renamed(golden.part(f"param/{name}.")) for name in ("coarse", "fine")}
    coarse, both = golden["det_z_coarse"].shape[1], golden["det_z_all"].shape[1]
    config: Any = NeRFModelConfig(
        **{**network_sizes(state["coarse"]), "num_samples": coarse, "num_importance_samples": both - coarse, **fields}
    )
    near, far = (float(value) for value in golden["near_far"])
    geometry = SceneGeometry("metric", near, far, background="black" if case == "pert" else "white")
    record = FewShotMetadata(geometry, "golden", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})
    model.coarse.load_state_dict(state["coarse"])
    model.fine.load_state_dict(state["fine"])
    return model


def golden_rays(golden: GoldenFile) -> ModelRays:
    origins, directions = torch.from_numpy(golden["rays_o"]), torch.from_numpy(golden["rays_d"])
    length = directions.norm(dim=-1, keepdim=True)
    near, far = (torch.full_like(length, float(value)) for value in golden["near_far"])
    ones = torch.ones_like(length)
    unit = directions / length
    return ModelRays(origins, directions, unit, ones, near, far, ones.bool(), length, torch.zeros_like(ones), ones)


@pytest.mark.parametrize("case", ["det", "pert", "lindisp"])
def test_rendering(arrays, case, monkeypatch):
    golden = arrays("nerf_forward")
    model = model_of(golden, case, in_disparity=case == "lindisp")
    rays = golden_rays(golden)
    model.train(case != "det")

    # The original's own error in float32, of the deterministic rendering.
    errors = golden["det_f32_error"]
    of_render = dict(rtol=0.0, atol=max(RENDER["atol"], NOISE * float(errors[:2].max())))

    def render() -> Dict[str, Tensor]:
        if case != "det":
            monkeypatch.setattr(torch, "rand", Drawn(golden[f"{case}_t_rand"], golden[f"{case}_u"]))
        return model.render_rays(rays)

    outputs = render()
    background = model.geometry.background
    coarse_rgb = composite_rgb(outputs["sample_rgb_coarse"], outputs["weights_coarse"], background)
    close(coarse_rgb, golden[f"{case}_rgb0"], **AT_STORED_POINTS)
    if case != "det":
        monkeypatch.setattr(torch, "rand", Drawn(golden[f"{case}_t_rand"]))
    world = RayBundle(
        rays.origins, rays.viewdirs, torch.ones_like(rays.near), metadata={"directions_norm": rays.z_scale}
    )
    coarse = model.render_bundle(world, coarse_only=True)
    close(coarse.rgb, golden[f"{case}_rgb0"], **AT_STORED_POINTS)
    close(composite_rgb(outputs["sample_rgb"], outputs["weights"], background), golden[f"{case}_rgb"], **of_render)
    if case == "lindisp":
        return
    z_coarse, z_all = (torch.from_numpy(golden[f"{case}_z_{name}"]) for name in ("coarse", "all"))
    close(outputs["t_coarse"][:, :-1], golden[f"{case}_z_coarse"])
    close(outputs["weights_coarse"].sum(-1), golden[f"{case}_acc0"], **AT_STORED_POINTS)
    close(outputs["weights"].sum(-1), golden[f"{case}_acc"], **of_render)
    jumps = (outputs["t"][:, :-1] - z_all).abs() > 2 * errors[2] + 1e-4
    # At u = 1 the last sample may lie at either end of the last bin.
    assert jumps.sum() <= (len(z_all) if case == "det" else 0)

    def at_stored(points: Tensor) -> Dict[str, Tensor]:
        assert model.fine is not None
        return model._render_level(model.fine, rays, points)

    stored = at_stored(z_all)
    close(stored["weights"], golden[f"{case}_weights"], **AT_STORED_POINTS)
    close(composite_rgb(stored["sample_rgb"], stored["weights"], background), golden[f"{case}_rgb"], **AT_STORED_POINTS)
    accumulation = stored["weights"].sum(-1)
    close(accumulation, golden[f"{case}_acc"], **AT_STORED_POINTS)
    depth = (stored["weights"] * z_all).sum(-1)
    disparity = torch.where(accumulation > 0, accumulation / depth.clamp(min=1e-10), -torch.ones_like(depth))
    close(disparity, golden[f"{case}_disp"], rtol=1e-3, atol=1e-4)
    # The stored points are the union of the coarse ones and of those that the stored weights would give.
    resampled = resample_points(z_coarse, outputs["weights_coarse"], _positions(golden, case, len(z_all)))
    union = torch.cat([z_coarse, resampled], dim=-1).sort(dim=-1).values
    assert ((union - z_all).abs() > 2 * errors[2] + 1e-4).sum() <= (len(z_all) if case == "det" else 0)


def _positions(golden: GoldenFile, case: str, rays: int) -> Tensor:
    if case == "pert":
        return torch.from_numpy(golden["pert_u"])
    count = golden["det_z_all"].shape[1] - golden["det_z_coarse"].shape[1]
    return torch.linspace(0.0, 1.0, count).expand(rays, count)


def test_points_in_disparity(arrays):
    golden = arrays("nerf_forward")
    near, far = (torch.full((1, 1), float(value)) for value in golden["near_far"])
    z = stratified_points(near, far, golden["lindisp_t_rand"].shape[1], in_disparity=True)
    close((1 / z).diff().std(), np.array(0.0), atol=1e-6)


def test_semantic_term(arrays):
    golden = arrays("semantic_loss")
    tokens = torch.from_numpy(golden["rendered_tokens"]).requires_grad_(True)
    target = torch.from_numpy(golden["target_tokens"])[int(golden["target_index"]), 0]
    losses = [-cosine_similarity(level[0], target) for level in tokens]
    for loss, name in zip(losses, ("fine", "coarse"), strict=True):
        close(loss, golden[f"cosine_loss_{name}"])
    loss = sum(float(weight) * each for weight, each in zip(golden["weights"], losses, strict=True))
    assert isinstance(loss, Tensor)
    close(loss, golden["loss"])
    loss.backward()
    close(tokens.grad, golden["grad_rendered_tokens"])


@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
def test_encoder_input(arrays, resize: Resize):
    golden = arrays("semantic_loss")
    image = torch.from_numpy(golden["preprocess_image"]).requires_grad_(True)
    expected = golden[f"preprocess_{resize}"]
    batch = encoder_input(image, expected.shape[-2:], resize, CLIP_MEAN, CLIP_STD)
    close(batch, expected)
    if resize == "bilinear":
        batch.backward(torch.from_numpy(golden["preprocess_cotangent"]))
        close(image.grad, golden["preprocess_grad"])


def test_semantic_term_of_the_jax_version(arrays):
    golden = arrays("semantic_loss")
    flat = torch.from_numpy(golden["jax_image"]).requires_grad_(True)
    projection = torch.from_numpy(golden["jax_projection"])
    block = 32
    blocks = int(round((len(projection) / 3) ** 0.5))
    side = block * blocks
    pixels = int(round(flat.shape[1] ** 0.5))
    batch = encoder_input(flat.reshape(-1, pixels, pixels, 3), (side, side), "keys", CLIP_MEAN, CLIP_STD, clamp=False)
    stored = golden["jax_preprocessed_sub"]
    every = side // stored.shape[-1]
    close(batch[..., ::every, ::every], stored, rtol=1e-4, atol=2e-5)
    means = torch.nn.functional.avg_pool2d(batch, block).flatten(1)
    features = torch.nn.functional.normalize(means @ projection, dim=-1)
    close(features, golden["jax_features"], rtol=1e-4, atol=2e-5)
    target = torch.from_numpy(golden["jax_target"])
    loss = 2 - sum(cosine_similarity(level, target) for level in features)
    assert isinstance(loss, Tensor)
    close(loss, golden["jax_loss"])
    loss.backward()
    limit = float(np.abs(golden["jax_grad_image"]).max())
    close(flat.grad, golden["jax_grad_image"], rtol=1e-4, atol=1e-4 * limit)


def test_view_selection(arrays):
    golden = arrays("view_selection")
    cases = [name for name in golden if re.fullmatch(r"(jax_)?seed\d+_n\d+_k\d+", name)]
    assert cases
    for name in cases:
        seed, frames, count = (int(number) for number in re.findall(r"(?<=[a-z])\d+", name))
        chosen = select_views(blender_protocol(frames, 8, 8, "seeded", seed), count)
        assert chosen.train == tuple(golden[name]), name
        if seed == 0 and frames == 100 and count <= 8:
            assert select_views(blender_protocol(frames, 8, 8), count).train == tuple(golden[name])
    pool = golden["pose_pool"]
    listed = select_views(blender_protocol(len(pool), 8, 8, "dietnerf-unseen"), 8)
    assert listed.train == tuple(golden["hardcoded"]) == BLENDER_ONE_SIDED_VIEWS["dietnerf-unseen"]
    assert listed.pool == tuple(pool)


def test_metrics(arrays):
    golden = arrays("metrics")
    pairs = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in zip(golden["pred"], golden["gt"], strict=True)]
    for name, metric in (("psnr", psnr), ("ssim", ssim), ("jax_ssim", ssim_gaussian)):
        values = np.array([float(metric(*pair)) for pair in pairs])
        close(values, golden[f"{name}_each"], rtol=1e-4, atol=1e-5)
        if name in golden:
            close(values.mean(), golden[name], rtol=1e-4, atol=1e-5)
    close(np.mean([float(((a - b) ** 2).mean()) for a, b in pairs]), golden["mse"])


def test_blender_scene_at_half_size(arrays, tmp_path):
    golden = arrays("blender_loading")
    poses = golden["poses"]
    counts = {split: len(golden[f"rgba_{split}"]) for split in ("train", "val", "test")}
    skip, sizes = int(golden["testskip"]), [int(n) for n in golden["split_sizes"]]
    starts = np.cumsum([0, *sizes])
    for split, start in zip(counts, starts, strict=False):
        frames = []
        for index, rgba in enumerate(golden[f"rgba_{split}"]):
            step = 1 if split == "train" else skip
            pose = poses[start + index // step] if index % step == 0 else np.eye(4)
            (tmp_path / split).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / split / f"r_{index}.png"), rgba[..., [2, 1, 0, 3]])
            frames.append({"file_path": f"./{split}/r_{index}", "transform_matrix": pose.tolist()})
        meta = {"camera_angle_x": float(golden["camera_angle_x"]), "frames": frames}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(meta))
    parser = FewShotBlenderDataParserConfig(data=tmp_path, downscale_factor=2, testskip=skip, num_views=0).setup()
    height, width, focal = golden["hwf"]
    for split, start, count in zip(counts, starts, sizes, strict=False):
        outputs = parser.get_dataparser_outputs(split)
        dataset = FewShotDataset(outputs)
        assert len(dataset) == count
        images = np.stack([dataset.get_image_float32(index).numpy() for index in range(count)])
        # The originals average the colours of transparent pixels before they are laid on white, as here.
        close(images, golden["images"][start : start + count], rtol=0, atol=2e-5)
        close(outputs.cameras.camera_to_worlds, poses[start : start + count, :3])
        assert (outputs.cameras.height == height).all() and (outputs.cameras.width == width).all()
        close(outputs.cameras.fx[:, 0], np.full(count, focal))
