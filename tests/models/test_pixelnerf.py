"""pixelNeRF's model: what it renders from, which samples it takes, what learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.records.scene import SCENE_INDEX_KEY, Conditioning
from fewshot_ns.encoders.resnet import ResNetEncoderConfig
from fewshot_ns.model_components.rendering import RenderOptions
from fewshot_ns.models.pixelnerf import PixelNeRFModel, PixelNeRFModelConfig

SMALL: Dict[str, Any] = {"width": 16, "num_blocks": 2, "pool_before": 1, "num_octaves": 2, "min_eval_samples": 4}
SAMPLES = {"num_samples": 6, "num_importance_samples": 4, "num_depth_samples": 3}


def build(frozen: bool = False, **fields: Any) -> PixelNeRFModel:
    torch.manual_seed(0)
    encoder = ResNetEncoderConfig(backbone="resnet18", num_layers=2, keep_unused=False, pretrained=False, frozen=frozen)
    config: Any = PixelNeRFModelConfig(
        encoder=encoder, **{**SMALL, **SAMPLES, "density_activation": "softplus", **fields}
    )
    record = FewShotMetadata(SceneGeometry("metric", 1.0, 3.0), "test", "train", (0,), (0,), (0,), torch.eye(4)[None])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})
    for network in (model.mlp_coarse, model.mlp_fine):
        for parameter in () if network is None else network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def sources(scenes: int = 2, views: int = 2, **fields: Any) -> Conditioning:
    torch.manual_seed(1)
    poses = torch.eye(4)[:3].repeat(scenes, views, 1, 1)
    poses[..., 3] = torch.randn(scenes, views, 3) * 0.1 + torch.tensor([0.0, 0.0, 2.0])
    intrinsics = torch.tensor([16.0, 16.0, 8.0, 8.0]).expand(scenes, views, 4)
    near, far = torch.full((scenes,), 1.0), torch.full((scenes,), 3.0)
    return replace(Conditioning(torch.rand(scenes, views, 16, 16, 3), poses, intrinsics, near, far), **fields)


def rays(scenes: List[int], **metadata: Tensor) -> RayBundle:
    torch.manual_seed(2)
    count = len(scenes)
    directions = torch.nn.functional.normalize(torch.randn(count, 3) * 0.1 - torch.tensor([0.0, 0.0, 1.0]), dim=-1)
    return RayBundle(
        origins=torch.tensor([0.0, 0.0, 2.0]).repeat(count, 1),
        directions=directions,
        pixel_area=torch.ones(count, 1),
        metadata={SCENE_INDEX_KEY: torch.tensor(scenes)[:, None], **metadata},
    )


def centred(**fields: Any) -> PixelNeRFModel:
    return build(eval_samples="centred", **fields).eval()


def test_it_says_that_it_was_shown_nothing():
    with pytest.raises(RuntimeError, match="shown no source views"):
        build().get_outputs(rays([0]))


@torch.no_grad()
def test_each_ray_is_of_its_own_scene():
    model, both = centred(), sources()
    model.condition(both)
    together = model.get_outputs(rays([0, 1, 1, 0]))
    names = {f"{name}{suffix}" for name in ("rgb", "depth", "accumulation") for suffix in ("", "_coarse")}
    assert set(together) == names
    for scene in (0, 1):
        tensors = {name: value[scene : scene + 1] for name, value in vars(both).items() if isinstance(value, Tensor)}
        model.condition(replace(both, **tensors))
        mine = torch.tensor([0, 1, 1, 0]) == scene
        alone = model.get_outputs(rays([0, 0, 0, 0]))
        for name, value in together.items():
            torch.testing.assert_close(value[mine], alone[name][mine])
    bundle = rays([0, 0, 0, 0])
    bundle.metadata = {}
    torch.testing.assert_close(model.get_outputs(bundle)["rgb"], alone["rgb"])  # type: ignore[possibly-unbound]


@torch.no_grad()
def test_near_and_far_are_those_of_the_scene():
    model = centred()
    model.condition(sources(near=torch.tensor([1.0, 4.0]), far=torch.tensor([2.0, 5.0])))
    depth = model.get_outputs(rays([0, 1]))["depth"][:, 0]
    assert 1 <= depth[0] <= 2 and 4 <= depth[1] <= 5
    cropped = rays([0, 0])
    cropped.nears, cropped.fars = torch.tensor([[1.5], [7.0]]), torch.tensor([[1.6], [8.0]])
    outputs = model.get_outputs(cropped)
    assert 1.5 <= outputs["depth"][0] <= 1.6
    # A ray that misses the box meets nothing.
    assert outputs["accumulation"][1] < 1e-6


@torch.no_grad()
def test_background():
    model, given = centred(), rays([0, 1])
    model.condition(sources(background="black"))
    black = model.get_outputs(given)
    model.condition(sources(background="white"))
    white = model.get_outputs(given)
    torch.testing.assert_close(white["rgb"], black["rgb"] + 1 - black["accumulation"])


@torch.no_grad()
def test_samples_of_evaluation(monkeypatch):
    seen: List[tuple] = []
    model = centred(min_eval_samples=9)
    levels_of = model.levels_of

    def spy(*arguments: Any, **named: Any) -> Any:
        levels = levels_of(*arguments, **named)
        seen.append(tuple(level["z"].shape[1] for level in levels.values()))
        return levels

    monkeypatch.setattr(model, "levels_of", spy)
    model.condition(sources())
    first, second = model.get_outputs(rays([0, 1])), model.get_outputs(rays([0, 1]))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    model.config.eval_samples = "random"
    assert not torch.equal(model.get_outputs(rays([0, 1]))["rgb"], first["rgb"])
    model.config.eval_coarse_only = True
    model.get_outputs(rays([0, 1]))
    assert seen == [(9, 16)] * 3 + [(9, 9 + 128)]
    model.train().get_outputs(rays([0, 1]))
    assert seen[-1] == (6, 13)


@torch.no_grad()
def test_the_coarse_network_alone():
    model = centred(eval_coarse_only=True)
    model.condition(sources())
    before = model.get_outputs(rays([0]))["rgb"]
    assert model.mlp_fine is not None
    model.mlp_fine.lin_out.bias.add_(1.0)
    model.condition(sources())
    assert torch.equal(model.get_outputs(rays([0]))["rgb"], before)


def test_without_a_fine_network():
    model = build(num_importance_samples=0, num_depth_samples=0).train()
    assert model.mlp_fine is None
    model.condition(sources())
    rendering = model.render_bundle(rays([0, 1]))
    assert rendering.coarse is None and rendering.samples is not None and rendering.samples.weights.shape == (2, 6)
    assert set(model.get_loss_dict(rendering, {"image": torch.rand(2, 3)})) == {"rgb_loss"}
    even, only = (model.render_bundle(rays([0, 1]), False, coarse_only) for coarse_only in (False, True))
    assert only.coarse is None and torch.equal(only.rgb, even.rgb)


@pytest.mark.parametrize("depth_samples", [0, 3])
def test_the_fine_loss_reaches_the_coarse_network_through_the_depth(depth_samples: int):
    model = build(num_depth_samples=depth_samples).train()
    # On rays that are nearly empty the depth, which no opacity divides, lies before near.
    torch.nn.init.constant_(model.mlp_coarse.lin_out.bias, 2.0)
    model.condition(sources())
    losses = model.get_loss_dict(model.render_training_rays(rays([0, 1])), {"image": torch.rand(2, 3)})
    assert set(losses) == {"rgb_loss", "rgb_loss_coarse"}
    losses["rgb_loss"].backward()
    gradient = model.mlp_coarse.lin_in.weight.grad
    assert (gradient is not None and bool(gradient.abs().sum() > 0)) == (depth_samples > 0)
    assert model.encoder.model.conv1.weight.grad is not None


def test_a_step_teaches_encoder_and_both_networks():
    model = build().train()
    model.condition(sources())
    rendering = model.render_training_rays(rays([0, 1, 0]))
    assert rendering.coarse is not None
    fine, coarse = rendering.rgb, rendering.coarse.rgb
    target = torch.rand(3, 3)
    losses = model.get_loss_dict(rendering, {"image": target})
    torch.testing.assert_close(losses["rgb_loss"], ((fine - target) ** 2).mean())
    torch.testing.assert_close(losses["rgb_loss_coarse"], ((coarse - target) ** 2).mean())
    torch.stack(list(losses.values())).sum().backward()
    (parameters,) = model.get_param_groups().values()
    assert all(parameter.grad is not None for parameter in parameters)
    model.config.colour_loss, model.config.fine_weight, model.config.coarse_weight = "l1", 2.0, 0.5
    losses = model.get_loss_dict(rendering, {"image": target})
    torch.testing.assert_close(losses["rgb_loss"], 2.0 * (fine - target).abs().mean())
    torch.testing.assert_close(losses["rgb_loss_coarse"], 0.5 * (coarse - target).abs().mean())


def test_a_frozen_encoder_is_no_parameter_to_learn():
    model = build(frozen=True).train()
    statistics = model.encoder.model.bn1.running_mean.clone()  # type: ignore[union-attr,operator]
    model.condition(sources())
    model.get_loss_dict(model.render_training_rays(rays([0])), {"image": torch.rand(1, 3)})["rgb_loss"].backward()
    learning = {id(parameter) for parameter in model.get_param_groups()["field"]}
    assert not any(id(parameter) in learning for parameter in model.encoder.parameters())
    assert torch.equal(statistics, model.encoder.model.bn1.running_mean)  # type: ignore[arg-type]


def test_the_encoder_runs_once_per_conditioning(monkeypatch):
    model, calls = build().train(), []
    forward = model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda images: calls.append(len(images)) or forward(images))
    model.condition(sources(scenes=3, views=2))
    model.get_outputs(rays([0, 1, 2]))
    model.render_bundle(rays([0, 1, 2]))
    assert calls == [6]


def test_levels_for_priors():
    model = build().train()
    model.condition(sources())
    norm = torch.full((2, 1), 1.25)
    assert model.render_bundle(rays([0, 1])).coarse is not None
    even = [model.render_bundle(rays([0, 1]), stratified=False) for _ in range(2)]
    assert torch.equal(even[0].rgb, even[1].rgb) and even[0].coarse is not None
    fine_calls: List[int] = []
    assert model.mlp_fine is not None
    model.mlp_fine.register_forward_hook(lambda *_: fine_calls.append(1))
    only = model.render_bundle(rays([0, 1]), stratified=False, coarse_only=True)
    assert not fine_calls and torch.equal(only.rgb, even[0].coarse.rgb)
    assert only.coarse is not None and torch.equal(only.coarse.rgb, only.rgb)
    rendering = model.render_bundle(rays([0, 1], directions_norm=norm))
    assert rendering.coarse is not None
    for level, count in ((rendering, 13), (rendering.coarse, 6)):
        torch.testing.assert_close(level.distance * norm, level.depth)
        assert level.samples is not None and level.samples.density is not None
        assert level.samples.weights.shape == level.samples.density.shape == (2, count)
        t = level.samples.t
        assert t.shape == (2, count + 1) and (t.diff(dim=-1) >= 0).all()
        torch.testing.assert_close(t[:, -1:] * norm, torch.full((2, 1), 3.0))
    assert len(fine_calls) > 0 and model.eval().render_bundle(rays([0, 1])).samples is None


@pytest.mark.parametrize("count", [2, 90])
def test_a_view_rendered_in_chunks_has_the_plain_gradient(count: int):
    """Also where a chunk has more points than the maps have pixels, so that it projects them itself."""
    shown, results = sources(scenes=1, views=1), []
    pose = torch.eye(4)[None, :3].clone()
    pose[0, 2, 3] = 2.0
    camera = Cameras(pose, 16.0, 16.0, 0.5 * count / 2, 1.0, count // 2, 2)
    for chunk in (None, count):
        model = build().train()
        model.condition(shown)
        rendering = model.render_cameras(camera, RenderOptions(stratified=False, chunk_rays=chunk))
        assert rendering.shape == (1, 2, count // 2)
        (rendering.rgb**2).sum().backward()
        parameters = [*model.encoder.parameters(), *model.mlp_coarse.parameters()]
        results.append((rendering.rgb, *(p.grad for p in parameters if p.grad is not None)))
    assert len(results[0]) == len(results[1]) > 10
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-3, atol=1e-4)


def test_number_formats():
    outputs = {}
    for compute_dtype in ("float32", "bfloat16"):
        model = centred(compute_dtype=compute_dtype)
        with torch.no_grad():
            model.condition(sources())
            outputs[compute_dtype] = model.get_outputs(rays([0, 1]))
    for name, value in outputs["float32"].items():
        assert outputs["bfloat16"][name].dtype == torch.float32
        torch.testing.assert_close(outputs["bfloat16"][name], value, rtol=0.05, atol=0.05)
