"""ID-NeRF's reference vectors through the product's encoder, look-ups, latent network, refinement, decoder,
distillation and model; and its metrics, camera paths and camera files.

Sizes and constants are taken from the arrays; another folder of reference vectors may hold others.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Tuple

import cv2
import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
from golden_arrays import GoldenFile, expect_close, network
from golden_recipe import recipe_parameters
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor, nn

from fewshot_ns.cameras.paths import depth_spiral, through_views
from fewshot_ns.cameras.poses import flip_camera_axes, homogeneous
from fewshot_ns.cameras.ray_images import opencv_world_to_cameras, ray_images
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.configs.idnerf import idnerf_released
from fewshot_ns.data.dataparsers.multi.mvsnet_dtu import MVSNetDTUDataParserConfig
from fewshot_ns.data.files.mvsnet import read_mvsnet_camera, read_mvsnet_depth
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.data.views.sources import SourceViews, SourceViewsConfig
from fewshot_ns.encoders.gmflow import MatchingEncoder, normalized_input
from fewshot_ns.encoders.gmflow_transformer import sine_positions
from fewshot_ns.evaluation.metrics.image import masked_psnr, psnr, ssim
from fewshot_ns.evaluation.metrics.regions import black_outside, central_crop
from fewshot_ns.field_components.attention import MultiHeadAttention
from fewshot_ns.fields.latent_inference import LatentInference
from fewshot_ns.fields.matching_field import MatchingField
from fewshot_ns.fields.matching_sources import MatchingSources
from fewshot_ns.model_components.matching_points import bilinear_taps, window_taps
from fewshot_ns.model_components.planar_samples import overshooting_depths, sample_weights
from fewshot_ns.model_components.point_samples import point_weights, stratified_points
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.model_components.source_views import look_up
from fewshot_ns.models.idnerf import IDNeRFModel
from fewshot_ns.models.idnerf_targets import TargetViews
from fewshot_ns.priors.diffusion.prior import DiffusionPriorConfig, Distillation
from fewshot_ns.priors.diffusion.score_distillation import (
    diffusion_latents,
    distillation_loss,
    lengthen_tokens,
    timestep_range,
)

pytestmark = pytest.mark.goldens

CLOSE: Dict[str, Any] = dict(rtol=1e-4, atol=1e-5)


def close(value: Any, expected: Any, **tolerance: Any) -> None:
    expect_close(value, expected, **(tolerance or CLOSE))


def tensor(golden: GoldenFile, name: str) -> Tensor:
    return torch.from_numpy(golden[name])


def to_opengl(extrinsics: np.ndarray) -> np.ndarray:
    """(..., 3, 4) OpenGL poses of world-to-camera matrices (..., 4, 4) with OpenCV axes."""
    return flip_camera_axes(np.linalg.inv(extrinsics.astype(np.float64))[..., :3, :])


def to_world_to_camera(poses: np.ndarray) -> np.ndarray:
    """The reverse of `to_opengl`, (..., 4, 4)."""
    return np.linalg.inv(homogeneous(flip_camera_axes(poses)))


def golden_sources(golden: GoldenFile) -> Conditioning:
    """The source views of a file with images (1, V, 3, H, W) and cameras, of which the first V are of sources."""
    images = tensor(golden, "images").movedim(2, -1)
    views = images.shape[1]
    poses = torch.from_numpy(to_opengl(golden["extrinsics"][:, :views])).float()
    matrices = tensor(golden, "intrinsics")[:, :views]
    # The originals' first pixel is at 0, nerfstudio's at half a pixel.
    intrinsics = [matrices[..., 0, 0], matrices[..., 1, 1], matrices[..., 0, 2] + 0.5, matrices[..., 1, 2] + 0.5]
    near, far = tensor(golden, "near_fars")[:, 0].unbind(-1)
    return Conditioning(images, poses, torch.stack(intrinsics, dim=-1), near, far)


def test_matching_encoder(arrays):
    golden = arrays("gmflow_features")
    error_8, error_4 = golden["features_f32_error"]
    encoder = MatchingEncoder()
    encoder.load_state_dict(recipe_parameters(golden))
    images = tensor(golden, "images").movedim(2, -1)
    with torch.no_grad():
        (backbone,) = encoder.backbone(normalized_input(images[0]))
        at_8, at_4 = encoder(images)
        of_two, _ = encoder(images[:, : golden["two_views_features_8"].shape[1]])
    close(backbone, golden["backbone"])
    rows, columns = golden["position_encoding"].shape[2:]
    close(sine_positions(rows, columns, backbone.shape[1], backbone).movedim(-1, 0)[None], golden["position_encoding"])
    close(at_8.movedim(-1, 2), golden["features_8"], **network(error_8))
    close(of_two.movedim(-1, 2), golden["two_views_features_8"], **network(error_8))
    assert tuple(at_4.movedim(-1, 2).shape) == tuple(golden["features_4_shape"])
    view, row, column = golden["features_4_probe_pos"].T
    close(at_4[0, view, row, column], golden["features_4_probe"], **network(error_4))
    close(at_4[0].mean(dim=(1, 2)), golden["features_4_channel_mean"], **network(error_4))
    close(at_4[0].std(dim=(1, 2), correction=0), golden["features_4_channel_std"], **network(error_4))
    whole = at_4.double()
    # A sum of both signs is as exact as that of the sizes.
    size = float(golden["features_4_abs_sum"])
    close(whole.sum(), golden["features_4_sum"], rtol=0.0, atol=1e-5 * size)
    close(whole.abs().sum(), golden["features_4_abs_sum"], rtol=1e-4)


def test_point_conditioning(arrays):
    golden = arrays("point_conditioning")
    sources = golden_sources(golden)
    views = sources.images.shape[1]
    features = []
    for index, (name, total) in enumerate(zip(("8", "4"), golden["features_sum"], strict=True)):
        draws = np.random.default_rng(int(golden["features_base"]) + index)
        values = draws.standard_normal(tuple(golden[f"features_shape_{name}"])).astype(np.float32)
        np.testing.assert_allclose(values.sum(dtype=np.float64), total, rtol=1e-6, atol=1e-6)
        features.append(torch.from_numpy(values).movedim(2, -1))
    near, far = tensor(golden, "near_fars")[:, :views].unbind(-1)
    looked_at = MatchingSources(sources, features, near, far, window="released")
    (points,) = tensor(golden, "points")
    columns = golden["view_cond_feat"].shape[1]
    shown = looked_at.query(points, torch.zeros(len(points), dtype=torch.long), torch.eye(columns))
    assert shown.view_features is not None
    close(shown.coordinates[:, None], golden["ndc"])
    close(shown.matching[None], golden["matching_info"], **network(golden["matching_info_f32_error"]))
    close(shown.view_features.movedim(-1, 1), golden["view_cond_feat"], **network(golden["matching_info_f32_error"]))
    np.testing.assert_array_equal(shown.in_image.float()[None], golden["mask_info"])
    assert 0 < golden["mask_info"].mean() < 1


@pytest.mark.parametrize("name", ["window_r0", "window_r1", "window_r1_d2"])
def test_window(arrays, name: str):
    golden = arrays("point_conditioning")
    (window_map,) = tensor(golden, "window_map").movedim(1, -1)
    places = (tensor(golden, "window_grid") + 1.0) / 2.0
    size = window_map.shape[1], window_map.shape[0]
    if name == "window_r0":
        taps = bilinear_taps(places, size)
    else:
        taps = window_taps(places, size, dilation=2 if name.endswith("d2") else 1)
    close(look_up(window_map.flatten(0, 1), *taps).movedim(-1, 1), golden[name])


def test_metrics(arrays):
    golden = arrays("metrics")
    pred, truth = tensor(golden, "pred"), tensor(golden, "gt")
    valid = ~tensor(golden, "invalid_mask")
    crops = central_crop(pred), central_crop(truth)
    seen = black_outside(pred, valid), black_outside(truth, valid)
    close(psnr(*crops), golden["psnr_crop"])
    close(ssim(*crops), golden["ssim_crop"])
    close(psnr(pred, truth), golden["psnr_full"])
    close(ssim(pred, truth), golden["ssim_full"])
    close(masked_psnr(pred, truth, valid[..., None]), golden["psnr_masked"])
    close(ssim(*seen), golden["ssim_masked"])


def test_render_paths(arrays):
    golden = arrays("render_paths")
    frames = int(golden["n_frames"])
    poses = to_opengl(golden["extrinsics"][0])
    path = through_views(poses[:-1], frames)
    close(to_world_to_camera(path)[:, :3], golden["interpolate_w2c"])
    near, far = golden["near_fars"][0, -1].tolist()
    spiral = depth_spiral(flip_camera_axes(golden["spiral_c2ws"]), near, far, frames, looks_away=True)
    close(to_world_to_camera(spiral)[:, :3], golden["spiral_w2c"])


def test_dtu_cameras(arrays, tmp_path: Path):
    golden = arrays("dtu_camera")
    ids = golden["view_ids"].tolist()
    height, width = (int(side) for side in golden["depth_shape"])
    folder, images = tmp_path / "Cameras" / "train", tmp_path / "Rectified" / "scan1_train"
    folder.mkdir(parents=True)
    images.mkdir(parents=True)
    texts = dict(zip(ids, golden["cam_txt"].tolist(), strict=True))
    config = MVSNetDTUDataParserConfig(data=tmp_path, num_views=max(ids) + 1)
    for view in range(config.num_views):
        # The views in between are not among the reference vectors; they must be there for the scan to be whole.
        (folder / f"{view:08d}_cam.txt").write_text(texts.get(view, texts[ids[0]]), encoding="utf-8")
        name = f"rect_{view + 1:03d}_{config.light}_r5000.png"
        cv2.imwrite(str(images / name), np.zeros((height, width, 3), np.uint8))
    (tmp_path / "test.lst").write_text("scan1\n", encoding="utf-8")
    parser = config.setup()
    (entry,) = parser.scene_table("test")
    scene = parser.open_scene(entry)
    cameras = scene.cameras[torch.tensor(ids)]
    poses = cameras.camera_to_worlds.double().numpy()
    close(to_world_to_camera(poses), golden["extrinsics"])
    close(homogeneous(flip_camera_axes(poses)), golden["c2w"])
    intrinsics = torch.cat([cameras.fx, cameras.fy, cameras.cx - 0.5, cameras.cy - 0.5], dim=-1)
    matrices = golden["intrinsics"]
    close(intrinsics, np.stack([matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 2], matrices[:, 1, 2]], axis=1))
    files = [read_mvsnet_camera(folder / f"{view:08d}_cam.txt") for view in ids]
    near = np.array([file.depth_min for file in files]) * config.scale
    steps = np.array([file.depth_interval for file in files]) * config.scale
    close(np.stack([near, near + config.depth_planes * steps], axis=1), golden["near_fars"])
    nearest = SourceViewsConfig("nearest", count=len(ids) - 1, distance="l1", pool=tuple(ids))
    target = scene.cameras.camera_to_worlds[ids[-1]]
    assert SourceViews(nearest).select(scene, target, exclude=ids[-1:]) == tuple(golden["nearest_order"].tolist())


def test_dtu_depth(arrays, tmp_path: Path):
    golden = arrays("dtu_camera")
    height, width = (int(side) for side in golden["depth_shape"])
    rows, columns = np.mgrid[:1200, :1600].astype(np.float32)
    cv2.imwrite(str(tmp_path / "depth_map_0000.pfm"), 500 + 0.25 * rows + 0.125 * columns)
    scale = MVSNetDTUDataParserConfig().scale
    depth = read_mvsnet_depth(tmp_path / "depth_map_0000.pfm", (height, width), scale)
    step = height // len(golden["depth_sub"])
    close(depth[::step, ::step], golden["depth_sub"])


def close_within(value: Any, expected: np.ndarray, error: Any = 0.0) -> None:
    """Compares within the tolerance of the reference vectors' README, given float32's own error."""
    close(value, expected, **network(error))


def as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array)).float()


def fill(network: nn.Module, parameters: Dict[str, Tensor]) -> None:
    missing, unexpected = network.load_state_dict(parameters, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)


def opengl_poses(extrinsics: np.ndarray) -> Tensor:
    """(N, 3, 4) camera-to-world with OpenGL axes of world-to-camera (N, 4, 4) with OpenCV axes."""
    poses = np.linalg.inv(extrinsics.astype(np.float64))[:, :3]
    poses[:, :, 1:3] *= -1.0
    return as_tensor(poses)


def packed_intrinsics(intrinsics: np.ndarray) -> Tensor:
    """(N, 4) fx, fy, cx, cy with pixel centres at +0.5 of matrices (N, 3, 3) for integer pixels."""
    focal, centre = intrinsics[:, [0, 1], [0, 1]], intrinsics[:, :2, 2]
    return as_tensor(np.concatenate([focal, centre + 0.5], axis=-1))


def views_of(golden: GoldenFile) -> Tuple[Tensor, Tensor, Tensor]:
    """Images of the sources (V, 3, H, W), poses and intrinsics of sources and target (V + 1, ...)."""
    poses, intrinsics = opengl_poses(golden["extrinsics"][0]), packed_intrinsics(golden["intrinsics"][0])
    return as_tensor(golden["images"][0])[: len(poses) - 1], poses, intrinsics


def test_world_to_cameras(arrays):
    extrinsics = arrays("latent")["extrinsics"][0]
    close_within(opencv_world_to_cameras(opengl_poses(extrinsics)), extrinsics[:, :3])


def latent_inputs(golden: GoldenFile) -> Tuple[Tensor, Tensor, Tensor]:
    images, poses, intrinsics = views_of(golden)
    rays = ray_images(poses, intrinsics, (images.shape[-2], images.shape[-1]), "world_to_camera")
    return images[None], rays[None, :-1], rays[-1:]


def test_ray_images(arrays):
    golden = arrays("latent")
    images, sources, target = latent_inputs(golden)
    every = images.shape[-1] // golden["target_ray_image_sub"].shape[-1]
    close_within(sources[0, ..., ::every, ::every], golden["ray_images_sub"])
    close_within(target[0, ..., ::every, ::every], golden["target_ray_image_sub"])


def test_latent(arrays):
    golden = arrays("latent")
    inputs = latent_inputs(golden)
    network = LatentInference(inputs[0].shape[1])
    fill(network, recipe_parameters(golden))
    latent = network.eval()(*inputs)
    close_within(latent, golden["latent"], golden["latent_f32_error"])
    (latent * as_tensor(golden["cotangent"])).sum().backward()
    close_within(network.final_layer.weight.grad, golden["grad_final_weight"], golden["latent_f32_error"] * 100)
    close_within(network.mix_1[0].weight.grad, golden["grad_mix_1_0_weight"], golden["latent_f32_error"] * 100)
    close_within(network.train()(*inputs), golden["latent_batchstat"], golden["latent_f32_error"])


def test_attention(arrays):
    golden = arrays("refinement_decoder")
    parameters = {name: as_tensor(value) for name, value in golden.part("attention_param/").items()}
    sequence, rows = as_tensor(golden["attention_input"]), as_tensor(golden["attention_mask"])
    network = MultiHeadAttention(sequence.shape[-1], 4, len(parameters["w_qs.weight"]) // 4, passes=3)
    fill(network, parameters)
    close_within(network(sequence), golden["attention_output"])
    close_within(network(sequence, rows), golden["attention_output_masked"])


def view_features(golden: GoldenFile) -> Tensor:
    """(V, R, S, C) features that the file has a recipe for."""
    rays, samples = golden["points_ndc"].shape[1:3]
    columns = golden["recipe_shape"][list(golden["recipe_name"]).index("cond_feat_fc.0.weight")].split(",")[1]
    shape = 1, int(columns), rays, samples
    base, sums = int(golden["view_cond_base"]), golden["view_cond_sum"]
    draws = [np.random.default_rng(base + view).standard_normal(shape).astype(np.float32) for view in range(len(sums))]
    np.testing.assert_allclose([draw.sum(dtype=np.float64) for draw in draws], sums, rtol=1e-6, atol=1e-6)
    return as_tensor(np.concatenate(draws)).movedim(1, -1)


def build_field(parameters: Dict[str, Tensor], num_views: int) -> MatchingField:
    """The product's decoder in the released form, in the size of the parameters."""
    tokens = parameters["latent_layer2.weight"].shape[0]
    attended = parameters["cond_fc.weight"].shape[1]
    view_columns = parameters["cond_feat_fc.0.weight"].shape[1]
    layers = [value.shape for name, value in parameters.items() if name.startswith("pts_linears") and value.ndim == 2]
    position = layers[0][1]
    field = MatchingField(
        matching_columns=attended - (num_views + 1) * tokens,
        view_columns=view_columns,
        num_views=num_views,
        refinement="scrambled",
        attention_passes=3,
        position_octaves=(position - 3) // 6,
        width=layers[0][0],
        num_layers=len(layers),
        skip_layers=[index - 1 for index, shape in enumerate(layers) if index and shape[1] > layers[0][0]],
    )
    fill(field, parameters)
    return field.eval()


def test_refinement_and_decoder(arrays):
    golden = arrays("refinement_decoder")
    parameters = recipe_parameters(golden)
    field = build_field(parameters, golden["mask_info"].shape[-1])
    assert sum(value.numel() for value in field.parameters()) == sum(
        value.numel() for name, value in parameters.items() if "running" not in name
    )
    assert field.view_matrix is not None
    features, matching = view_features(golden) @ field.view_matrix.T, as_tensor(golden["matching_info"])[0]
    vector = field.latent_vector(as_tensor(golden["latent"]))
    close_within(vector[0], golden["latent_vector"])
    vectors = vector.expand(len(matching), -1)
    tokens = field.tokens(features, vectors)
    close_within(tokens, golden["tokens"])
    close_within(field.guidance_module(tokens), golden["attended"], golden["f32_error"])
    close_within(field.condition(matching, features, vectors)[None], golden["cond"], golden["f32_error"])
    seen = as_tensor(golden["mask_info"])[0]
    along = field.ray_attention(as_tensor(golden["ray_attention_in"]), seen.sum(-1, keepdim=True) > 1)
    close_within(along, golden["ray_attention_out"])
    heard = []
    handle = field.ray_attention.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    points, directions = (as_tensor(golden[name])[0] for name in ("points_ndc", "ray_unit"))
    density, rgb = field(points, directions, matching, seen, features, vectors)
    handle.remove()
    close_within(heard[0], golden["ray_attention_in"], golden["f32_error"])
    close_within(density[None], golden["density"], golden["f32_error"])
    close_within(rgb[None], golden["rgb"], golden["f32_error"])


@pytest.mark.parametrize("case", ["plain", "plain_white", "interval"])
def test_compositing(arrays, case):
    golden = arrays("compositing")
    density = as_tensor(golden["density"])[0].requires_grad_()
    z, colours = as_tensor(golden["z"])[0, ..., 0], as_tensor(golden["rgb_samples"])[0]
    interval = case == "interval"
    weights = point_weights(density, z, as_tensor(golden["ray"])[0]) if interval else sample_weights(density)
    rgb = composite_rgb(colours, weights, "white" if case.endswith("white") else "black")
    depth = (weights * z).sum(-1, keepdim=True)
    for name, value in (("rgb", rgb), ("depth", depth), ("weights", weights)):
        close_within(value[None], golden[f"{case}_{name}"])
    close_within(weights.sum(-1, keepdim=True)[None], golden[f"{case}_opacity"])
    (as_tensor(golden["cotangent_rgb"])[0] * rgb).sum().backward(retain_graph=True)
    (as_tensor(golden["cotangent_depth"])[0] * depth).sum().backward()
    assert density.grad is not None
    close_within(density.grad[None], golden[f"{case}_grad_density"])


class StoredPredictor:
    """The noise predictions of the file in place of a network's; keeps what it was given."""

    def __init__(self, golden: GoldenFile) -> None:
        self.alphas = as_tensor(golden["alphas_cumprod"])
        self.size = golden["noise"].shape[-1]
        self.token_columns = golden["tokens"].shape[-1]
        self.stored = torch.cat([as_tensor(golden["eps_uncond"]), as_tensor(golden["eps_cond"])])
        self.given: Dict[str, Tensor] = {}

    def __call__(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        self.given = {"noisy": noisy, "tokens": tokens}
        return self.stored


def distillation(golden: GoldenFile) -> Tuple[Distillation, StoredPredictor]:
    prior = Distillation(DiffusionPriorConfig(guidance=float(golden["guidance_scale"])))
    predictor = StoredPredictor(golden)
    prior.predictor = predictor  # type: ignore[assignment]
    return prior, predictor


def gradient(golden: GoldenFile, predicted: np.ndarray, step: int) -> Tuple[Tensor, Tensor]:
    """Gradient by a prediction, and the noisy latents."""
    prior, predictor = distillation(golden)
    leaf = as_tensor(predicted).requires_grad_()
    latents = diffusion_latents(leaf, predictor.size)
    timestep = torch.tensor([golden["timesteps"][step]])
    score = prior.gradient(latents.detach(), as_tensor(golden["tokens"]), timestep, as_tensor(golden["noise"]))
    distillation_loss(latents, score).backward()
    assert leaf.grad is not None
    return leaf.grad, predictor.given["noisy"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_score_distillation(arrays, step):
    golden = arrays("sds")
    found, noisy = gradient(golden, golden["pred"], step)
    close_within(noisy[:1], golden[f"noisy_{step}"])
    close_within(noisy[1:], golden[f"noisy_{step}"])
    close_within(found, golden[f"grad_pred_{step}"])


def test_score_distillation_of_a_small_prediction(arrays):
    golden = arrays("sds")
    close_within(gradient(golden, golden["small_pred"], 1)[0], golden["small_grad_pred"])


def test_image_tokens_and_time_steps(arrays):
    golden = arrays("sds")
    prior, predictor = distillation(golden)
    config = prior.config
    first, last = timestep_range(len(predictor.alphas), config.min_time, config.max_time)
    assert [first, last] == golden["t_range"].tolist()
    embeddings = as_tensor(golden["image_embeddings"])
    tokens = lengthen_tokens(embeddings, predictor.token_columns)
    close_within(torch.stack([as_tensor(golden["uncond_embeddings"])[0], tokens]), golden["tokens"])


def build_model(golden: GoldenFile) -> IDNeRFModel:
    """The preset of the released code with the parameters of the recipes."""
    config: Any = deepcopy(idnerf_released.pipeline.model)
    config.num_views = golden["extrinsics"].shape[1] - 1
    config.num_samples = len(golden["sample_depth"])
    near, far = golden["near_fars"][0, -1]
    geometry = SceneGeometry("metric", float(near), float(far))
    record = FewShotMetadata(geometry, "golden", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})
    parts = {"enc_": model.feat_enc, "lat_": model.latent_inference, "dec_": model.nerf_dec}
    for prefix, part in parts.items():
        fill(part, recipe_parameters(golden, prefix))
    return model.eval()


@pytest.fixture(scope="module")
def rendered() -> Dict[str, IDNeRFModel]:
    return {}


def shown_model(golden: GoldenFile, known: Dict[str, IDNeRFModel]) -> IDNeRFModel:
    """The model, shown the source views of the file."""
    if "model" in known:
        return known["model"]
    model = build_model(golden)
    images, poses, intrinsics = views_of(golden)
    views, bounds = len(images), as_tensor(golden["near_fars"])
    given = Conditioning(
        *(
            images.movedim(1, -1)[None],
            poses[None, :views],
            intrinsics[None, :views],
            bounds[:, -1, 0],
            bounds[:, -1, 1],
        ),
        target_to_worlds=poses[views:],
        target_intrinsics=intrinsics[views:],
    )
    with torch.no_grad():
        model.condition(given)
        # In the file every source view has bounds of its own.
        near, far = bounds[:, :views].unbind(-1)
        assert model.feat_enc is not None
        features = model.feat_enc(given.images)
    model._sources = MatchingSources(given, features, near, far, model.config.window)
    known["model"] = model
    return model


def render(golden: GoldenFile, model: IDNeRFModel, rays: int, z: Tensor) -> Dict[str, Tensor]:
    origins, along = (as_tensor(golden[name])[:rays] for name in ("ray_center", "ray_dir"))
    length = along.norm(dim=-1, keepdim=True)
    scenes = torch.zeros(rays, dtype=torch.long)
    with torch.no_grad():
        density, colours = model.query(origins, along / length, z * length, scenes)
        weights = sample_weights(density)
        rgb, depth = composite_rgb(colours, weights, "black"), (weights * z).sum(-1, keepdim=True)
    return {"rgb": rgb[None], "depth": depth[None], "opacity": weights.sum(-1, keepdim=True)[None]}


def expect_render(golden: GoldenFile, found: Dict[str, Tensor], prefix: str = "") -> None:
    errors: Dict[str, float] = dict(zip(("rgb", "depth", "opacity"), golden["f32_error"].tolist(), strict=True))
    for name, value in found.items():
        close_within(value, golden[f"{prefix}{name}"], errors[name])


def test_rays(arrays):
    golden = arrays("full_render")
    images, poses, intrinsics = views_of(golden)
    assert len(images) == len(poses) - 1
    size = images.shape[-2], images.shape[-1]
    rays = ray_images(poses[-1], intrinsics[-1], size).flatten(1)[:, golden["ray_idx"]]
    close_within(rays[:3].T, golden["ray_center"])
    close_within(rays[3:].T, golden["ray_dir"])


def test_rendering(arrays, rendered):
    golden = arrays("full_render")
    model = shown_model(golden, rendered)
    close_within(model.targets.latents, golden["latent"], 1e-5)
    count = len(golden["ray_idx"])
    near, far = (as_tensor(bound).expand(count, 1) for bound in golden["near_fars"][0, -1])
    z = stratified_points(near, far, model.config.num_samples)
    close_within(z[0], golden["sample_depth"])
    expect_render(golden, render(golden, model, count, z))


def test_rendering_without_latent(arrays, rendered):
    golden = arrays("full_render")
    model = shown_model(golden, rendered)
    kept = model.targets
    with torch.no_grad():
        empty = torch.zeros_like(kept.latents)
        model._targets = TargetViews(empty, model.nerf_dec.latent_vector(empty))
    z = as_tensor(golden["sample_depth"]).expand(len(golden["ray_idx"]), -1)
    found = render(golden, model, len(z), z)
    model._targets = kept
    close_within(found["rgb"], golden["rgb_zero_latent"], golden["f32_error"])


def test_rendering_at_random_depths(arrays, rendered):
    golden = arrays("full_render")
    model = shown_model(golden, rendered)
    assert model.config.training_depths == "overshooting"
    jitter = as_tensor(golden["train_u"])[0, ..., 0]
    near, far = (as_tensor(bound).expand(len(jitter), 1) for bound in golden["near_fars"][0, -1])
    z = overshooting_depths(near, far, jitter.shape[1], jitter)
    expect_render(golden, render(golden, model, len(jitter), z), "train_")
