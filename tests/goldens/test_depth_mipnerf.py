"""Losses, sampling, schedules, data and the whole model against values of the original code of depth-mipnerf.

Sizes, weights and constants are taken from the arrays; another folder of reference vectors may hold others.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import cv2
import numpy as np
import pytest
import torch
from golden_arrays import (
    POSE_TOLERANCE,
    TOLERANCE,
    GoldenFile,
    both_dtypes,
    expect,
    limits,
    spread,
    stored,
    tensors,
)
from golden_network import golden_rays
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.ray_space import attach_radii, to_model_rays
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata, get_fewshot_metadata
from fewshot_ns.engine.optimizers import ClippedAdamOptimizerConfig
from fewshot_ns.engine.schedulers import DelayedLogLinearSchedulerConfig, delayed_log_linear
from fewshot_ns.model_components.depth_losses import (
    cdf_bound_losses,
    cdf_sets,
    depth_error,
    open_bound_loss,
    urf_losses,
)
from fewshot_ns.model_components.gaussians import cast_rays
from fewshot_ns.model_components.interval_losses import cumulative_around, interlevel_loss, overlapping_weight
from fewshot_ns.model_components.losses import charbonnier_loss, distortion_per_ray
from fewshot_ns.model_components.normal_losses import (
    has_normal,
    normal_alignment_loss,
    normal_chord_loss,
    orientation_loss,
)
from fewshot_ns.model_components.ray_samplers import resample_fenceposts
from fewshot_ns.model_components.renderers import accumulated_distance, composite_rgb, compositing_weights
from fewshot_ns.model_components.schedules import square_root_decay
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModel, DepthMipNeRFModelConfig

pytestmark = pytest.mark.goldens


def close(golden: GoldenFile, name: str, value: Tensor) -> None:
    """Compares with the array in the precision of the value, whatever unit axes either has."""
    expected = stored(golden, name, value.dtype)
    assert value.numel() == expected.size, name
    least = dict(TOLERANCE[value.dtype])
    if value.dtype == torch.float32:
        least["atol"] = min(1e-6, 1e-5 * float(np.abs(expected).max()))
    within = limits(spread(golden, name), value.dtype, least)
    np.testing.assert_allclose(value.detach().numpy().reshape(expected.shape), expected, err_msg=name, **within)


def close_with_gradient(golden: GoldenFile, name: str, gradient_name: str, value: Tensor, of: Tensor) -> None:
    close(golden, name, value)
    (gradient,) = torch.autograd.grad(value.sum(), of, retain_graph=True)
    close(golden, gradient_name, gradient)


def middle(t: Tensor) -> Tensor:
    return 0.5 * (t[..., 1:] + t[..., :-1])


def cdf_inputs(golden: GoldenFile, dtype: torch.dtype) -> Tuple[Tensor, Tensor, float]:
    t, weights = tensors(golden, dtype, "t", "weights")
    np.testing.assert_allclose(middle(t).numpy(), golden["t_mid"], rtol=1e-6)
    return middle(t), weights.requires_grad_(), float(golden["sigma"])


def number(digits: str) -> float:
    """006 -> 0.06, 045 -> 0.45, 0 -> 0: a decimal point after the first digit."""
    return float(f"{digits[0]}.{digits[1:] or '0'}")


@both_dtypes
def test_cdf_bounds(arrays, dtype):
    golden = arrays("cdf_loss")
    t_mid, weights, sigma = cdf_inputs(golden, dtype)
    (depth,) = tensors(golden, dtype, "depth")
    cases = sorted({match[1] for name in golden if (match := re.match(r"beta(\d+)_", name))})
    assert cases
    lego = dict(zip(LAMBDAS, arrays("total_loss")["lego_lambdas"].tolist(), strict=True))
    for digits in cases:
        prefix = f"beta{digits}"
        bounds = cdf_bound_losses(weights, t_mid, depth, sigma, number(digits))
        close_with_gradient(golden, f"{prefix}_empty", f"{prefix}_grad_empty", bounds.empty, weights)
        close_with_gradient(golden, f"{prefix}_near", f"{prefix}_grad_near", bounds.near, weights)
        counts = [int(chosen.sum()) for chosen in cdf_sets(t_mid, depth, sigma)]
        assert counts == golden[f"{prefix}_counts"].tolist()
        total = lego["near"] * bounds.near + lego["empty"] * bounds.empty
        parts = {"near_before": bounds.before, "near_behind": bounds.behind, "total_lego": total}
        # Of the parts float64 alone is stored. A single sum may lose less than it might by luck; its terms do not.
        for name, value in parts.items():
            expected = golden[f"{prefix}_{name}_f64"].reshape(())
            noise = sum(spread(golden, f"{prefix}_{whole}") for whole in ("near", "empty"))
            noise += spread(golden, f"{prefix}_grad_near") * float(np.abs(golden["weights"]).sum(-1).max())
            within = limits(noise, dtype, dict(rtol=1e-9 if dtype == torch.float64 else 1e-5, atol=0.0))
            np.testing.assert_allclose(value.item(), expected, err_msg=name, **within)


@both_dtypes
def test_open_bounds(arrays, dtype):
    golden = arrays("cdf_loss")
    t_mid, weights, sigma = cdf_inputs(golden, dtype)
    (depth,) = tensors(golden, dtype, "depth")
    loss = open_bound_loss(weights, t_mid, depth, sigma)
    close_with_gradient(golden, "open_bound", "open_bound_grad", loss, weights)


@both_dtypes
def test_urf_terms(arrays, dtype):
    golden = arrays("cdf_loss")
    t_mid, weights, _ = cdf_inputs(golden, dtype)
    (depth,) = tensors(golden, dtype, "depth_valid")
    cases = sorted({match[0] for name in golden if (match := re.match(r"urf_(sq_)?eps\d+", name))})
    assert cases
    for prefix in cases:
        width = number(prefix.rpartition("eps")[2])
        empty, near = urf_losses(weights, t_mid, depth, width, squared_twice="_sq_" in prefix)
        close_with_gradient(golden, f"{prefix}_empty", f"{prefix}_grad_empty", empty, weights)
        close_with_gradient(golden, f"{prefix}_near", f"{prefix}_grad_near", near, weights)


@both_dtypes
def test_l2_of_the_rendered_depth(arrays, dtype):
    golden = arrays("cdf_loss")
    _, weights, _ = cdf_inputs(golden, dtype)
    t, depth = tensors(golden, dtype, "t", "depth_valid")
    rendered = accumulated_distance(weights, t)
    close(golden, "l2_rendered_depth", rendered)
    loss = depth_error(rendered, depth, torch.from_numpy(~golden["invalid_mask"])[:, None])
    close_with_gradient(golden, "l2", "l2_grad", loss, weights)


@both_dtypes
def test_distortion(arrays, dtype):
    golden = arrays("distortion")
    t, weights = (value.requires_grad_() for value in tensors(golden, dtype, "t", "w"))
    per_ray = distortion_per_ray(t, weights)
    close_with_gradient(golden, "loss", "grad_w", per_ray, weights)
    close_with_gradient(golden, "loss", "grad_t", per_ray, t)


@both_dtypes
@pytest.mark.parametrize("level, suffix", [("a", ""), ("b", "2")])
def test_proposal_loss(arrays, level, suffix, dtype):
    golden = arrays("proposal_loss")
    t, weights, t_envelope, envelope = tensors(golden, dtype, "t", "w", f"t_env{suffix}", f"w_env{suffix}")
    envelope.requires_grad_()
    loss = interlevel_loss(t, weights, t_envelope, envelope)
    close(golden, f"{level}_loss", loss)
    (gradient,) = torch.autograd.grad(loss.mean(), envelope)
    close(golden, f"{level}_grad", gradient)
    close(golden, f"{level}_outer", overlapping_weight(t, t_envelope, envelope))
    # The original's weight of the bins that lie wholly in an interval, which no loss needs.
    before, beyond = cumulative_around(t, t_envelope, envelope)
    close(golden, f"{level}_inner", (before[:, 1:] - beyond[:, :-1]).clamp(min=0.0))


@both_dtypes
def test_resampling(arrays, dtype):
    golden = arrays("sampling")
    t, weights, origins, directions, radii = tensors(golden, dtype, "t", "weights", "origins", "directions", "radii")
    for case in ("same", "32"):
        new = resample_fenceposts(t, weights, golden[f"t_new_{case}"].shape[1] - 1, 0.01, stratified=False)
        expect(golden, f"t_new_{case}", new)
        means, cov_diag = cast_rays(new, origins, directions, radii, "cone")
        expect(golden, f"means_{case}", means)
        # float32: the fenceposts' own rounding, squared in short intervals.
        expect(golden, f"cov_{case}", cov_diag)


@both_dtypes
def test_compositing(arrays, dtype):
    golden = arrays("sampling")
    t, density, rgb, directions = tensors(golden, dtype, "t", "density", "rgb", "directions")
    weights = compositing_weights(density[..., 0], t, directions)
    close(golden, "render_w", weights)
    close(golden, "render_acc", weights.sum(-1))
    close(golden, "render_depth", accumulated_distance(weights, t))
    close(golden, "render_black_rgb", composite_rgb(rgb, weights, "black"))
    close(golden, "render_white_rgb", composite_rgb(rgb, weights, "white"))


LAMBDAS = ("depth", "normal", "orientation", "distortion", "near", "empty", "envelope")
"""Terms in the order of the stored weights."""


@both_dtypes
def test_total_loss(arrays, dtype):
    golden = arrays("total_loss")
    names = ("rgb_fine", "rgb_gt", "depth", "depth_gt", "weights", "distortion", "near", "empty", "envelope")
    x = SimpleNamespace(**{name: tensors(golden, dtype, f"in_{name}")[0] for name in names})
    normals, target, viewdirs, _unused = tensors(golden, dtype, "in_n_pred", "in_n_gt", "in_dirs", "in_rgb_coarse")
    terms = {
        "rgb": charbonnier_loss(x.rgb_fine, x.rgb_gt),
        "depth": depth_error(x.depth, x.depth_gt, torch.from_numpy(~golden["in_dmask"])),
        "normal": normal_alignment_loss(x.weights, normals, target),
        "orientation": orientation_loss(x.weights, normals, viewdirs, has_normal(target)),
        "distortion": x.distortion.mean(),
        "envelope": x.envelope.mean(),
        "near": x.near,
        "empty": x.empty,
    }
    also = {
        "chord": normal_chord_loss(x.weights, normals, target),
        "psnr": -10.0 * torch.log10(torch.nn.functional.mse_loss(x.rgb_fine, x.rgb_gt)),
    }
    cases = [name.removesuffix("_lambdas") for name in golden if name.endswith("_lambdas")]
    assert cases
    for case in cases:
        factors = dict(zip(LAMBDAS, golden[f"{case}_lambdas"].tolist(), strict=True))
        close(golden, f"{case}_total", terms["rgb"] + sum(factors[name] * terms[name] for name in LAMBDAS))
        for name, value in {**terms, **also}.items():
            if f"{case}_{name}" in golden:
                close(golden, f"{case}_{name}", value)


def test_learning_rates(arrays):
    golden = arrays("lr_schedule")
    cases = [name.removesuffix("_params") for name in golden if name.endswith("_params")]
    assert cases
    for case in cases:
        lr_init, lr_final, max_steps, delay_steps, delay_factor = golden[f"{case}_params"].tolist()
        fields: Dict[str, Any] = dict(max_steps=int(max_steps), delay_steps=int(delay_steps), delay_factor=delay_factor)
        steps, expected = golden[f"{case}_step"].tolist(), golden[f"{case}_lr"]
        rates = [delayed_log_linear(step, lr_init, lr_final, **fields) for step in steps]
        np.testing.assert_allclose(rates, expected, rtol=1e-9, err_msg=case)
        # Through torch; the first optimisation step is step 1.
        optimizer = ClippedAdamOptimizerConfig(lr=lr_init).setup([Parameter(torch.zeros(1))])
        scheduler = DelayedLogLinearSchedulerConfig(lr_final=lr_final, **fields).setup()
        factor = scheduler.get_scheduler(optimizer, lr_init).lr_lambdas[0]
        taken = [lr_init * factor(step - 1) for step in steps if step > 0]
        np.testing.assert_allclose(taken, [r for s, r in zip(steps, expected, strict=True) if s > 0], rtol=1e-9)


def test_width_of_the_urf_loss(arrays):
    golden = arrays("lr_schedule")
    expected, steps = golden["urf_eps"], golden["urf_eps_step"].tolist()
    start, end = expected[0], expected[-1]
    assert steps[0] == 0 and steps[-1] == max(steps)
    length = int(golden["lego_params"][2])
    # The slope from the first step after the start, then all steps by the product's schedule.
    slope = (start - expected[1]) / np.sqrt(4.0 * steps[1] / length)
    widths = [square_root_decay(step, start, slope, end, length) for step in steps]
    np.testing.assert_allclose(widths, expected, rtol=1e-9)


def write_scene(golden: GoldenFile, folder: Path) -> Path:
    """The stored photos, depths and poses in the original's Blender layout."""
    frames = []
    (folder / "train").mkdir()
    for index, pose in enumerate(golden["transform_matrix"]):
        stem = f"r_{index}"
        assert cv2.imwrite(str(folder / "train" / f"{stem}.png"), golden["images_rgba"][index][..., [2, 1, 0, 3]])
        depth = np.repeat(golden["depth_exr"][index], 3, axis=-1)
        assert cv2.imwrite(str(folder / "train" / f"{stem}_depth_0001.exr"), depth)
        frames.append({"file_path": f"./train/{stem}", "transform_matrix": pose.tolist()})
    for split in ("train", "test"):
        meta = {"camera_angle_x": float(golden["camera_angle_x"]), "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(meta))
    return folder


@pytest.mark.parametrize("prefix", ["", "half_"])
def test_blender_loader(arrays, prefix, tmp_path):
    golden = arrays("blender_loader")
    height, width = golden["images_rgba"].shape[1:3]
    factor = round(np.sqrt(height * width * len(golden["rgb"]) / len(golden[f"{prefix}rgb"]) / (height * width)))
    height, width = height // factor, width // factor
    count = len(golden[f"{prefix}rgb"]) // (height * width)
    parser = FewShotBlenderDataParserConfig(
        data=write_scene(golden, tmp_path), num_views=count, view_protocol="first", downscale_factor=factor
    ).setup()
    dataset = FewShotDataset(parser.get_dataparser_outputs("train"))
    geometry = get_fewshot_metadata(dataset.metadata).geometry
    assert len(dataset) == count
    np.testing.assert_allclose(float(dataset.cameras.fx[0]), golden[f"{prefix}focal"], rtol=1e-6)
    stored_views = {
        name: np.split(golden[f"{prefix}{name}"], count)
        for name in ("rgb", *(f"rays_{part}" for part in (*RAY_ARRAYS, "depth", "mask")))
    }
    for view in range(count):
        image = dataset.get_data(view)["image"].reshape(-1, 3)
        np.testing.assert_allclose(image, stored_views["rgb"][view], atol=1e-6)
        bundle = attach_radii(dataset.cameras.generate_rays(camera_indices=view, keep_shape=True), geometry)
        rays = to_model_rays(bundle.flatten(), geometry)
        for part in RAY_ARRAYS:
            expected = stored_views[f"rays_{part}"][view]
            ours = getattr(rays, part).double().numpy()
            np.testing.assert_allclose(ours, expected, atol=POSE_TOLERANCE, rtol=POSE_TOLERANCE, err_msg=part)
        depth = dataset.metric_depth(view)
        np.testing.assert_array_equal(~depth.valid.reshape(-1, 1), stored_views["rays_mask"][view])
        np.testing.assert_allclose(depth.z_depth.reshape(-1, 1), stored_views["rays_depth"][view], rtol=1e-6)


def architecture(golden: GoldenFile) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Fields of the model's config, and the model's parameters by the names of the reference."""
    parameters = golden.part("param_")

    def layers(prefix: str) -> int:
        return sum(bool(re.fullmatch(rf"{prefix}_layer_\d+_weight", name)) for name in parameters)

    width, columns = parameters["nerf_layer_0_weight"].shape
    depth, proposal_depth = layers("nerf"), layers("prop")
    (skip,) = [i for i in range(1, depth) if parameters[f"nerf_layer_{i}_weight"].shape[1] > width]
    levels = sum(bool(re.fullmatch(r"level\d+_t", name)) for name in golden)
    samples = [golden[f"level{level}_t"].shape[1] - 1 for level in range(levels)]
    fields = {
        "num_proposal_samples": tuple(samples[:-1]),
        "num_samples": samples[-1],
        "num_layers": depth,
        "width": width,
        "skip_layer": skip,
        "num_octaves": columns // 6,
        "view_octaves": (parameters["nerf_view_0_weight"].shape[1] - width - 3) // 6,
        "colour_width": parameters["nerf_rgb_weight"].shape[1],
        "num_proposal_layers": proposal_depth,
        "proposal_width": parameters["prop_layer_0_weight"].shape[0],
    }
    names = {f"field.trunk.{i}": f"nerf_layer_{i}" for i in range(depth)}
    names |= {f"proposal.trunk.{i}": f"prop_layer_{i}" for i in range(proposal_depth)}
    heads = {"density": "density", "bottleneck": "bottleneck", "colour": "view_0", "rgb": "rgb"}
    names |= {f"field.{ours}": f"nerf_{theirs}" for ours, theirs in heads.items()}
    names |= {"proposal.density": "prop_density"}
    return fields, {f"{a}.{part}": f"{b}_{part}" for a, b in names.items() for part in ("weight", "bias")}


def build_model(golden: GoldenFile, dtype: torch.dtype) -> Tuple[DepthMipNeRFModel, Dict[str, str]]:
    """The product's model with the reference parameters, in training without random numbers."""
    fields, names = architecture(golden)
    config = DepthMipNeRFModelConfig(stratified=False, **fields)
    assert config.annealing.steps == 0
    near, far = (float(golden[f"rays_{name}"].flat[0]) for name in ("near", "far"))
    geometry = SceneGeometry("metric", near, far, "cone", "white")
    record = FewShotMetadata(geometry, "golden", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record}).to(dtype)
    state = {ours: torch.from_numpy(golden[f"param_{theirs}"]).to(dtype) for ours, theirs in names.items()}
    values = dict(model.named_parameters())
    (trained,) = model.get_param_groups().values()
    # The one that the reference does not store is the width of sampling around the depth, which is off there.
    assert {id(value) for value in trained} == {id(values[name]) for name in (*state, "log_depth_spread")}
    model.load_state_dict({**model.state_dict(), **state})
    return model.train(), names


EXACT = {"first": 1e-8, "middle": 1e-6, "final": 1e-5}
"""Absolute tolerance in float64, for values of order one, by level; that of the README of the reference vectors."""
FLOAT32 = {"first": 1e-5, "middle": 1e-5, "final": 1e-4}
"""The same in float32 of what the stored precisions agree in, by chance or because it is a single number."""


@both_dtypes
@pytest.mark.parametrize("size", ["small", "full"])
def test_model(arrays, size, dtype):
    golden = arrays(f"model_forward_{size}")
    model, names = build_model(golden, dtype)
    rays = golden_rays({name: golden[f"rays_{name}"] for name in RAY_ARRAYS}, dtype)
    rendering = model.rendering_of(rays)
    assert rendering.samples is not None
    final, proposed = rendering.samples, rendering.extras
    proposals = len(model.config.num_proposal_samples)

    def near(name: str, value: Tensor, tolerance: float) -> None:
        expected = stored(golden, name, dtype)
        assert value.numel() == expected.size, name
        largest = max(float(np.abs(expected).max()), 1.0)
        error = np.abs(value.detach().numpy().reshape(expected.shape) - expected).max()
        within = limits(spread(golden, name) / largest, dtype, dict(rtol=0.0, atol=tolerance))
        assert error <= within["atol"] * largest, (name, error, largest)

    for level in range(proposals + 1):
        kind = "final" if level == proposals else "middle" if level else "first"
        of_rest = (EXACT if dtype == torch.float64 else FLOAT32)[kind]
        t, weights, density = (
            (final.t, final.weights, final.density)
            if level == proposals
            else (proposed[f"{name}_proposal_{level}"] for name in ("t", "weights", "density"))
        )
        assert density is not None
        near(f"level{level}_t", t, of_rest)
        near(f"level{level}_weights", weights, of_rest)
        near(f"level{level}_acc", weights.sum(-1), of_rest)
        near(f"level{level}_depth", accumulated_distance(weights, t), of_rest)
        near(f"level{level}_density", density, of_rest)
    near("rgb", rendering.rgb, of_rest)
    near("depth", accumulated_distance(final.weights, final.t), of_rest)
    near("distortion", distortion_per_ray(final.t, final.weights), of_rest)
    near("envelope_loss", model.proposal_losses(rendering), of_rest)
    (depth,) = tensors(golden, dtype, "rays_depth")
    bounds = cdf_bound_losses(final.weights, middle(final.t), depth, float(arrays("cdf_loss")["sigma"]))
    near("near_loss", bounds.near, of_rest)
    near("empty_loss", bounds.empty, of_rest)

    lego = dict(zip(LAMBDAS, arrays("total_loss")["lego_lambdas"].tolist(), strict=True))
    total = lego["near"] * bounds.near + lego["empty"] * bounds.empty
    total = total + lego["envelope"] * model.proposal_losses(rendering).mean()
    near("aux_total", total, of_rest)
    total.backward()
    parameters = dict(model.named_parameters())
    gradients = {f"grad_{theirs}": parameters[ours].grad for ours, theirs in names.items()}
    compared = 0
    for name, gradient in gradients.items():
        if name in golden:
            expected = stored(golden, name, dtype)
            assert gradient is not None
            least = dict(rtol=0.0, atol=(1e-5 if dtype == torch.float64 else 1e-4) * float(np.abs(expected).max()))
            within = limits(spread(golden, name), dtype, least)
            np.testing.assert_allclose(gradient.numpy(), expected, err_msg=name, **within)
            compared += 1
    assert compared == sum(name.startswith("grad_") and not name.endswith("_f64") for name in golden)


RAY_ARRAYS = ("origins", "directions", "viewdirs", "radii", "near", "far")
