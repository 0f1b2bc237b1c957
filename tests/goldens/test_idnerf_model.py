"""ID-NeRF's reference vectors through the product's latent network, refinement, decoder, distillation and model."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - the host's modules import each other in this order only
import numpy as np
import pytest
import torch
from golden_arrays import GoldenFile, expect_all_used
from golden_recipe import recipe_parameters
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor, nn

from fewshot_ns.cameras.ray_images import opencv_world_to_cameras, ray_images
from fewshot_ns.configs.idnerf import idnerf_released
from fewshot_ns.data.scene_geometry import METADATA_KEY, FewShotMetadata, SceneGeometry
from fewshot_ns.data.scene_table import Conditioning
from fewshot_ns.field_components.attention import MultiHeadAttention
from fewshot_ns.fields.latent_inference import LatentInference
from fewshot_ns.fields.matching_field import MatchingField
from fewshot_ns.fields.matching_sources import MatchingSources
from fewshot_ns.model_components.planar_samples import overshooting_depths, sample_weights, summed_depth
from fewshot_ns.model_components.point_samples import point_weights, stratified_points
from fewshot_ns.model_components.renderers import composite_rgb
from fewshot_ns.models.idnerf import IDNeRFModel, TargetViews
from fewshot_ns.priors.diffusion import DiffusionPrior, DiffusionPriorConfig
from fewshot_ns.priors.score_distillation import diffusion_latents, distillation_loss, lengthen_tokens, timestep_range

pytestmark = pytest.mark.goldens

FILES = ("latent", "refinement_decoder", "compositing", "sds", "full_render")

_loaded: Dict[Path, GoldenFile] = {}


@pytest.fixture
def arrays(goldens_dir: Path) -> Callable[[str], GoldenFile]:
    """Function (name) -> arrays of that file of the folder idnerf/, one object per file and session."""

    def load(name: str) -> GoldenFile:
        path = goldens_dir / "idnerf" / f"{name}.npz"
        if path not in _loaded:
            _loaded[path] = GoldenFile.load(path)
        return _loaded[path]

    return load


def close(value: Any, expected: np.ndarray, error: Any = 0.0) -> None:
    """Compares within the tolerance of the reference vectors' README, given float32's own error."""
    value = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=max(1e-5, 10.0 * float(np.max(error))))


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array)).float()


def fill(network: nn.Module, parameters: Dict[str, Tensor]) -> None:
    missing, unexpected = network.load_state_dict(parameters, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)


def opengl_poses(extrinsics: np.ndarray) -> Tensor:
    """(N, 3, 4) camera-to-world with OpenGL axes of world-to-camera (N, 4, 4) with OpenCV axes."""
    poses = np.linalg.inv(extrinsics.astype(np.float64))[:, :3]
    poses[:, :, 1:3] *= -1.0
    return tensor(poses)


def lenses(intrinsics: np.ndarray) -> Tensor:
    """(N, 4) fx, fy, cx, cy with pixel centres at +0.5 of matrices (N, 3, 3) for integer pixels."""
    focal, centre = intrinsics[:, [0, 1], [0, 1]], intrinsics[:, :2, 2]
    return tensor(np.concatenate([focal, centre + 0.5], axis=-1))


def views_of(golden: GoldenFile) -> Tuple[Tensor, Tensor, Tensor]:
    """Images of the sources (V, 3, H, W), poses and lenses of sources and target (V + 1, ...)."""
    poses, lens = opengl_poses(golden["extrinsics"][0]), lenses(golden["intrinsics"][0])
    return tensor(golden["images"][0])[: len(poses) - 1], poses, lens


def test_world_to_cameras(arrays):
    extrinsics = arrays("latent")["extrinsics"][0]
    close(opencv_world_to_cameras(opengl_poses(extrinsics)), extrinsics[:, :3])


def latent_inputs(golden: GoldenFile) -> Tuple[Tensor, Tensor, Tensor]:
    images, poses, lens = views_of(golden)
    rays = ray_images(poses, lens, (images.shape[-2], images.shape[-1]), "world_to_camera")
    return images[None], rays[None, :-1], rays[-1:]


def test_ray_images(arrays):
    golden = arrays("latent")
    images, sources, target = latent_inputs(golden)
    every = images.shape[-1] // golden["target_ray_image_sub"].shape[-1]
    close(sources[0, ..., ::every, ::every], golden["ray_images_sub"])
    close(target[0, ..., ::every, ::every], golden["target_ray_image_sub"])


def test_latent(arrays):
    golden = arrays("latent")
    inputs = latent_inputs(golden)
    network = LatentInference(inputs[0].shape[1])
    fill(network, recipe_parameters(golden))
    latent = network.eval()(*inputs)
    close(latent, golden["latent"], golden["latent_f32_error"])
    (latent * tensor(golden["cotangent"])).sum().backward()
    close(network.final_layer.weight.grad, golden["grad_final_weight"], golden["latent_f32_error"] * 100)
    close(network.mix_1[0].weight.grad, golden["grad_mix_1_0_weight"], golden["latent_f32_error"] * 100)
    close(network.train()(*inputs), golden["latent_batchstat"], golden["latent_f32_error"])


def test_attention(arrays):
    golden = arrays("refinement_decoder")
    parameters = {name: tensor(value) for name, value in golden.part("attention_param/").items()}
    sequence, rows = tensor(golden["attention_input"]), tensor(golden["attention_mask"])
    network = MultiHeadAttention(sequence.shape[-1], 4, len(parameters["w_qs.weight"]) // 4, passes=3)
    fill(network, parameters)
    close(network(sequence), golden["attention_output"])
    close(network(sequence, rows), golden["attention_output_masked"])


def view_features(golden: GoldenFile) -> Tensor:
    """(V, R, S, C) features that the file has a recipe for."""
    rays, samples = golden["points_ndc"].shape[1:3]
    columns = golden["recipe_shape"][list(golden["recipe_name"]).index("cond_feat_fc.0.weight")].split(",")[1]
    shape = 1, int(columns), rays, samples
    base, sums = int(golden["view_cond_base"]), golden["view_cond_sum"]
    draws = [np.random.default_rng(base + view).standard_normal(shape).astype(np.float32) for view in range(len(sums))]
    np.testing.assert_allclose([draw.sum(dtype=np.float64) for draw in draws], sums, rtol=1e-6)
    return tensor(np.concatenate(draws)).movedim(1, -1)


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
    features, matching = view_features(golden), tensor(golden["matching_info"])[0]
    vector = field.latent_vector(tensor(golden["latent"]))
    close(vector[0], golden["latent_vector"])
    vectors = vector.expand(len(matching), -1)
    tokens = field.tokens(features, vectors)
    close(tokens, golden["tokens"])
    close(field.guidance_module(tokens), golden["attended"], golden["f32_error"])
    close(field.condition(matching, features, vectors)[None], golden["cond"], golden["f32_error"])
    seen = tensor(golden["mask_info"])[0]
    along = field.ray_attention(tensor(golden["ray_attention_in"]), seen.sum(-1, keepdim=True) > 1)
    close(along, golden["ray_attention_out"])
    heard = []
    handle = field.ray_attention.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    points, directions = (tensor(golden[name])[0] for name in ("points_ndc", "ray_unit"))
    density, rgb = field(points, directions, matching, seen, features, vectors)
    handle.remove()
    close(heard[0], golden["ray_attention_in"], golden["f32_error"])
    close(density[None], golden["density"], golden["f32_error"])
    close(rgb[None], golden["rgb"], golden["f32_error"])


@pytest.mark.parametrize("case", ["plain", "plain_white", "interval"])
def test_compositing(arrays, case):
    golden = arrays("compositing")
    density = tensor(golden["density"])[0].requires_grad_()
    z, colours = tensor(golden["z"])[0, ..., 0], tensor(golden["rgb_samples"])[0]
    interval = case == "interval"
    weights = point_weights(density, z, tensor(golden["ray"])[0]) if interval else sample_weights(density)
    rgb = composite_rgb(colours, weights, "white" if case.endswith("white") else "black")
    depth = summed_depth(weights, z)
    for name, value in (("rgb", rgb), ("depth", depth), ("weights", weights)):
        close(value[None], golden[f"{case}_{name}"])
    close(weights.sum(-1, keepdim=True)[None], golden[f"{case}_opacity"])
    (tensor(golden["cotangent_rgb"])[0] * rgb).sum().backward(retain_graph=True)
    (tensor(golden["cotangent_depth"])[0] * depth).sum().backward()
    assert density.grad is not None
    close(density.grad[None], golden[f"{case}_grad_density"])


class StoredPredictor:
    """The noise predictions of the file in place of a network's; keeps what it was given."""

    def __init__(self, golden: GoldenFile) -> None:
        self.alphas = tensor(golden["alphas_cumprod"])
        self.size = golden["noise"].shape[-1]
        self.token_columns = golden["tokens"].shape[-1]
        self.stored = torch.cat([tensor(golden["eps_uncond"]), tensor(golden["eps_cond"])])
        self.given: Dict[str, Tensor] = {}

    def __call__(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        self.given = {"noisy": noisy, "tokens": tokens}
        return self.stored


def distillation(golden: GoldenFile) -> Tuple[DiffusionPrior, StoredPredictor]:
    prior = DiffusionPrior(DiffusionPriorConfig(guidance=float(golden["guidance_scale"])))
    predictor = StoredPredictor(golden)
    prior.predictor = predictor  # type: ignore[assignment]
    return prior, predictor


def gradient(golden: GoldenFile, predicted: np.ndarray, step: int) -> Tuple[Tensor, Tensor]:
    """Gradient by a prediction, and the noisy latents."""
    prior, predictor = distillation(golden)
    leaf = tensor(predicted).requires_grad_()
    latents = diffusion_latents(leaf, predictor.size)
    timestep = torch.tensor([golden["timesteps"][step]])
    score = prior.gradient(latents.detach(), tensor(golden["tokens"]), timestep, tensor(golden["noise"]))
    distillation_loss(latents, score).backward()
    assert leaf.grad is not None
    return leaf.grad, predictor.given["noisy"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_score_distillation(arrays, step):
    golden = arrays("sds")
    found, noisy = gradient(golden, golden["pred"], step)
    close(noisy[:1], golden[f"noisy_{step}"])
    close(noisy[1:], golden[f"noisy_{step}"])
    close(found, golden[f"grad_pred_{step}"])


def test_score_distillation_of_a_small_prediction(arrays):
    golden = arrays("sds")
    close(gradient(golden, golden["small_pred"], 1)[0], golden["small_grad_pred"])


def test_image_tokens_and_time_steps(arrays):
    golden = arrays("sds")
    prior, predictor = distillation(golden)
    config = prior.config
    first, last = timestep_range(len(predictor.alphas), config.min_time, config.max_time)
    assert [first, last] == golden["t_range"].tolist()
    embeddings = tensor(golden["image_embeddings"])
    tokens = lengthen_tokens(embeddings, predictor.token_columns)
    close(torch.stack([tensor(golden["uncond_embeddings"])[0], tokens]), golden["tokens"])


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
    images, poses, lens = views_of(golden)
    views, bounds = len(images), tensor(golden["near_fars"])
    given = Conditioning(
        *(images.movedim(1, -1)[None], poses[None, :views], lens[None, :views], bounds[:, -1, 0], bounds[:, -1, 1]),
        target_to_worlds=poses[views:],
        target_intrinsics=lens[views:],
    )
    with torch.no_grad():
        model.condition(given)
        # In the file every source view has bounds of its own.
        near, far = bounds[:, :views].unbind(-1)
        features = model.feat_enc(given.images)
    model._sources = MatchingSources(given, features, near, far, model.config.window)
    known["model"] = model
    return model


def render(golden: GoldenFile, model: IDNeRFModel, rays: int, z: Tensor) -> Dict[str, Tensor]:
    origins, along = (tensor(golden[name])[:rays] for name in ("ray_center", "ray_dir"))
    length = along.norm(dim=-1, keepdim=True)
    scenes = torch.zeros(rays, dtype=torch.long)
    with torch.no_grad():
        density, colours = model.query(origins, along / length, z * length, scenes)
        weights = sample_weights(density)
        rgb, depth = composite_rgb(colours, weights, "black"), summed_depth(weights, z)
    return {"rgb": rgb[None], "depth": depth[None], "opacity": weights.sum(-1, keepdim=True)[None]}


def expect_render(golden: GoldenFile, found: Dict[str, Tensor], prefix: str = "") -> None:
    errors: Dict[str, float] = dict(zip(("rgb", "depth", "opacity"), golden["f32_error"].tolist(), strict=True))
    for name, value in found.items():
        close(value, golden[f"{prefix}{name}"], errors[name])


def test_rays(arrays):
    golden = arrays("full_render")
    images, poses, lens = views_of(golden)
    assert len(images) == len(poses) - 1
    size = images.shape[-2], images.shape[-1]
    rays = ray_images(poses[-1], lens[-1], size).flatten(1)[:, golden["ray_idx"]]
    close(rays[:3].T, golden["ray_center"])
    close(rays[3:].T, golden["ray_dir"])


def test_rendering(arrays, rendered):
    golden = arrays("full_render")
    model = shown_model(golden, rendered)
    close(model.targets.latents, golden["latent"], 1e-5)
    count = len(golden["ray_idx"])
    near, far = (tensor(bound).expand(count, 1) for bound in golden["near_fars"][0, -1])
    z = stratified_points(near, far, model.config.num_samples)
    close(z[0], golden["sample_depth"])
    expect_render(golden, render(golden, model, count, z))


def test_rendering_without_latent(arrays, rendered):
    golden = arrays("full_render")
    model = shown_model(golden, rendered)
    kept = model.targets
    with torch.no_grad():
        empty = torch.zeros_like(kept.latents)
        model._targets = TargetViews(empty, model.nerf_dec.latent_vector(empty))
    z = tensor(golden["sample_depth"]).expand(len(golden["ray_idx"]), -1)
    found = render(golden, model, len(z), z)
    model._targets = kept
    close(found["rgb"], golden["rgb_zero_latent"], golden["f32_error"])


def test_rendering_at_random_depths(arrays, rendered):
    golden = arrays("full_render")
    model = shown_model(golden, rendered)
    assert model.config.training_depths == "overshooting"
    jitter = tensor(golden["train_u"])[0, ..., 0]
    near, far = (tensor(bound).expand(len(jitter), 1) for bound in golden["near_fars"][0, -1])
    z = overshooting_depths(near, far, jitter.shape[1], jitter)
    expect_render(golden, render(golden, model, len(jitter), z), "train_")


@pytest.mark.parametrize("name", FILES)
def test_every_array_was_used(arrays, request, name):
    expect_all_used(arrays(name), request)
