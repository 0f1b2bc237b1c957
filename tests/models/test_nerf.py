"""DietNeRF's NeRF: samples, levels, losses, what it gives to the priors, and the simplified one."""

from __future__ import annotations

from typing import Any, Dict

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.ray_space import ModelRays, to_model_rays
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.model_components.curricula import FrequencyMaskConfig
from fewshot_ns.model_components.point_samples import point_weights, resample_points, stratified_points
from fewshot_ns.model_components.rendering import RaySamples, Rendering
from fewshot_ns.models.nerf import NeRFModel, NeRFModelConfig

METRIC = SceneGeometry("metric", 2.0, 6.0, background="white")


def build(geometry: SceneGeometry = METRIC, **fields: Any) -> NeRFModel:
    torch.manual_seed(0)
    small = {"width": 16, "num_layers": 3, "skip_layer": 1, "num_octaves": 3, "view_octaves": 1, "colour_width": 8}
    sizes = {"num_samples": 6, "num_importance_samples": 5}
    record = FewShotMetadata(geometry, "test", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    config: Any = NeRFModelConfig(**{**small, **sizes, **fields})
    return config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})


def rays(count: int = 4, near: float = 2.0, far: float = 6.0) -> ModelRays:
    ones = torch.ones(count, 1)
    directions = torch.randn(count, 3)
    length = directions.norm(dim=-1, keepdim=True)
    ends = near * ones, far * ones
    return ModelRays(
        torch.randn(count, 3), directions, directions / length, ones, *ends, ones.bool(), length, 0 * ones, ones
    )


def samples_of(rendering: Rendering) -> RaySamples:
    assert rendering.samples is not None
    return rendering.samples


def test_points_of_a_ray():
    near, far = torch.full((3, 1), 2.0), torch.full((3, 1), 6.0)
    z = stratified_points(near, far, 5)
    torch.testing.assert_close(z, torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0]).expand(3, 5))
    jittered = stratified_points(near, far, 5, torch.rand(3, 5))
    assert (jittered.diff(dim=-1) > 0).all() and (jittered >= 2).all() and (jittered <= 6).all()
    assert ((jittered[:, 1:-1] - z[:, 1:-1]).abs() <= 0.5).all()
    torch.testing.assert_close(
        1 / stratified_points(near, far, 5, in_disparity=True),
        1 / near + (1 / far - 1 / near) * torch.linspace(0, 1, 5),
    )


def test_resampled_points_lie_where_the_weight_is():
    z = torch.linspace(0.0, 1.0, 11).expand(2, 11)
    weights = torch.zeros(2, 11)
    weights[:, 4] = 1.0
    weights[:, [0, -1]] = 100.0
    samples = resample_points(z, weights, torch.linspace(0, 1, 102)[1:-1].expand(2, 100))
    # The bin of sample 4 ends half way to its neighbours; the weights at both ends have no bin.
    assert ((samples > 0.35 - 1e-5) & (samples < 0.45 + 1e-5)).all()
    flat = resample_points(z, torch.zeros(2, 11), torch.tensor([[0.0, 0.5, 1.0]]).expand(2, 3))
    torch.testing.assert_close(flat, torch.tensor([[0.05, 0.5, 0.95]]).expand(2, 3))


def test_weights_are_those_of_the_sum_written_out():
    z, density = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.3, 0.2, 0.1]])
    direction = torch.tensor([[0.0, 2.0, 0.0]])
    first, second = 1 - torch.exp(torch.tensor(-0.3 * 2)), 1 - torch.exp(torch.tensor(-0.2 * 4))
    expected = torch.stack([first, (1 - first) * second, (1 - first) * (1 - second)])
    torch.testing.assert_close(point_weights(density, z, direction)[0], expected)


@pytest.mark.parametrize("training", [True, False])
def test_levels(training: bool):
    model, given = build().train(training), rays()
    rendering = model.rendering_of(given)
    if not training:
        assert set(rendering.outputs()) == {"rgb", "depth", "accumulation"}
        assert rendering.samples is None and rendering.coarse is None
        repeated = model.rendering_of(given).outputs()
        assert all(torch.equal(value, repeated[name]) for name, value in rendering.outputs().items())
        return
    assert rendering.coarse is not None and rendering.extras == {}
    t, t_coarse = samples_of(rendering).t, samples_of(rendering.coarse).t
    assert t_coarse.shape == (4, 7) and t.shape == (4, 12)
    for each in (t, t_coarse):
        assert (each.diff(dim=-1) >= 0).all() and (each[:, -1] == 6.0).all()
    # The fine level looks at all points of the coarse one.
    distance = (t[:, None, :-1] - t_coarse[:, :-1, None]).abs().min(-1).values
    assert distance.max() == 0
    batch: Dict[str, Tensor] = {"image": torch.rand(4, 3)}
    losses = model.get_loss_dict(rendering, batch)
    fine = ((rendering.rgb - batch["image"]) ** 2).mean()
    torch.testing.assert_close(losses["rgb_loss"], fine)
    weights, rgb = samples_of(rendering.coarse).weights, samples_of(rendering.coarse).rgb
    assert rgb is not None
    coarse = (weights[..., None] * rgb).sum(1) + 1 - weights.sum(-1, keepdim=True)
    torch.testing.assert_close(losses["rgb_loss_coarse"], ((coarse - batch["image"]) ** 2).mean())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in model.get_param_groups()["field"])


def test_coarse_rendering_is_that_of_the_coarse_level():
    model, given = build().train(), world_rays()
    torch.manual_seed(1)
    outputs = model.render_rays(to_model_rays(given, model.geometry))
    weights = outputs["weights_coarse"]
    expected = (weights[..., None] * outputs["sample_rgb_coarse"]).sum(1) + 1 - weights.sum(-1, keepdim=True)
    torch.manual_seed(1)
    found = model.render_bundle(given, coarse_only=True)
    torch.testing.assert_close(found.rgb, expected)
    assert torch.equal(samples_of(found).weights, weights)


def test_simplified_nerf():
    model = build(num_importance_samples=0, view_dependent=False)
    assert model.fine is None and not any("bottleneck" in name for name, _ in model.named_parameters())
    model.train()
    rendering = model.rendering_of(rays())
    assert samples_of(rendering).t.shape == (4, 7) and rendering.coarse is None
    assert set(model.get_loss_dict(rendering, {"image": torch.rand(4, 3)})) == {"rgb_loss"}


def test_random_numbers_only_where_asked_for():
    given = rays()
    for stratified, same in ((True, False), (False, True)):
        model = build(stratified=stratified)
        model.train()
        assert torch.equal(model.render_rays(given)["t"], model.render_rays(given)["t"]) == same


def test_disparity_needs_a_near():
    with pytest.raises(ValueError, match="in-disparity needs a near above zero, and this ndc scene's is 0"):
        build(SceneGeometry("ndc", 0.0, 1.0, ndc_focal=(1.0, 1.0)), in_disparity=True)


def world_rays() -> RayBundle:
    origins = torch.tensor([[0.0, 0.0, 4.0]]).expand(5, 3)
    directions = torch.nn.functional.normalize(torch.randn(5, 3) - 2.0 * origins, dim=-1)
    ones = torch.ones(5, 1)
    return RayBundle(origins, directions, 1e-5 * ones, metadata={"directions_norm": ones})


def test_levels_of_world_rays():
    bundle, model = world_rays(), build().train()
    both = model.render_bundle(bundle, stratified=False)
    coarse = model.render_bundle(bundle, stratified=False, coarse_only=True)
    assert both.coarse is not None and coarse.coarse is not None
    # The final level is then the coarse one.
    assert torch.equal(coarse.rgb, both.coarse.rgb) and torch.equal(coarse.coarse.rgb, both.coarse.rgb)
    assert not torch.equal(coarse.rgb, both.rgb)
    coarse.rgb.sum().backward()
    assert model.fine is not None and all(parameter.grad is None for parameter in model.fine.parameters())
    assert not torch.equal(model.render_bundle(bundle).rgb, model.render_bundle(bundle).rgb)
    simple = build(num_importance_samples=0).train()
    alone = simple.render_bundle(bundle, stratified=False)
    assert alone.coarse is None
    assert torch.equal(simple.render_bundle(bundle, stratified=False, coarse_only=True).rgb, alone.rgb)


@pytest.mark.parametrize("importance", [5, 0])
def test_normals_of_the_final_network(importance: int):
    model, given = build(num_importance_samples=importance).train(), rays()
    assert samples_of(model.rendering_of(given)).normals is None
    model.serve(frozenset({"normals"}))
    rendering = model.rendering_of(given)
    samples = samples_of(rendering)
    assert samples.normals is not None and samples.normals.shape == (*samples.weights.shape, 3)
    positions = given.origins[:, None] + samples.t[:, :-1, None] * given.directions[:, None]
    final = model.fine or model.coarse
    torch.testing.assert_close(samples.normals, final.trainable_normals(positions), rtol=1e-4, atol=1e-5)
    assert rendering.coarse is None or samples_of(rendering.coarse).normals is None
    assert model.eval().rendering_of(given).samples is None


@pytest.mark.parametrize("view_dependent", [True, False])
def test_frequency_masks_open(view_dependent: bool):
    """The columns of the masks are those of the field's encodings: octave after octave."""
    mask = FrequencyMaskConfig(steps=30, order="octave")
    model, visible = build(frequency_mask=mask, view_dependent=view_dependent), []
    for step in (0, 10, 29):
        model.update_to_step(step)
        masks = model.encoding_masks()
        assert [None if m is None else m.shape for m in masks] == [(21,), (9,)][: 1 + view_dependent]
        assert masks[0] is not None and (masks[0][:3] == 1).all()
        # One visibility for sine and cosine of all coordinates of an octave, and none above a higher one's.
        octaves = masks[0][3:].reshape(3, 6)
        assert (octaves == octaves[:, :1]).all() and (octaves[1:, 0] <= octaves[:-1, 0]).all()
        visible.append(float(masks[0].sum()))
    assert visible == sorted(visible) and visible[0] < visible[-1]
    model.update_to_step(30)
    assert model.encoding_masks() == [None] * (1 + view_dependent)
    given = rays()
    plain = build(view_dependent=view_dependent).eval()
    assert torch.equal(model.eval().rendering_of(given).rgb, plain.rendering_of(given).rgb)
    model.update_to_step(0)
    assert not torch.equal(model.rendering_of(given).rgb, plain.rendering_of(given).rgb)
