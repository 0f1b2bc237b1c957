"""depth-mipnerf's model: its size, its levels, the embedding of views, normals."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Dict

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox

from fewshot_ns.cameras.ray_space import ModelRays, normals_to_world
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.model_components.ray_samplers import depth_guided_fenceposts, stratified_fenceposts
from fewshot_ns.model_components.rendering import RaySamples, Rendering
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModel, DepthMipNeRFModelConfig
from fewshot_ns.priors.distortion import DistortionPriorConfig
from fewshot_ns.priors.normals import NormalsPriorConfig

SMALL: Dict[str, Any] = dict(
    width=16, num_layers=3, skip_layer=1, num_octaves=3, proposal_width=16, num_proposal_layers=2
)


METRIC = SceneGeometry("metric", 2.0, 6.0, "cone", "white")
NDC = SceneGeometry("ndc", 0.0, 1.0, "cylinder", "black", ndc_focal=(1.3, 1.7), ndc_near=1.2)


def build(geometry: SceneGeometry = METRIC, **fields: Any) -> DepthMipNeRFModel:
    torch.manual_seed(0)
    record = FewShotMetadata(geometry, "test", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    return DepthMipNeRFModelConfig(**fields).setup(scene_box=box, num_train_data=3, metadata={METADATA_KEY: record})


def rays(count: int = 5) -> ModelRays:
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(count, 1)
    return ModelRays(
        origins=torch.zeros(count, 3),
        directions=directions,
        viewdirs=torch.nn.functional.normalize(directions, dim=-1),
        radii=0.01 * ones,
        near=2 * ones,
        far=6 * ones,
        valid=ones.bool(),
        z_scale=ones,
        offset=0 * ones,
        z_slope=ones,
        views=torch.tensor([[0], [1], [2], [0], [-1]])[:count],
    )


def samples_of(rendering: Rendering) -> RaySamples:
    assert rendering.samples is not None
    return rendering.samples


def test_size_of_the_original() -> None:
    (parameters,) = build().get_param_groups().values()
    assert sum(value.numel() for value in parameters) == 835206


@pytest.mark.parametrize("proposals", [(8, 6), (9,)])
def test_levels(proposals: tuple) -> None:
    model = build(num_proposal_samples=proposals, num_samples=4, **SMALL).train()
    rendering = model.rendering_of(rays())
    assert samples_of(rendering).weights.shape == (5, 4) and rendering.rgb.shape == (5, 3)
    shapes = [rendering.extras[f"weights_proposal_{level}"].shape[1] for level in range(len(proposals))]
    assert shapes == list(proposals)
    losses = model.get_loss_dict(rendering, {"image": torch.rand(5, 3)})
    assert set(losses) == {"rgb_loss", "proposal_loss"}
    losses["rgb_loss"].backward()
    assert all(value.grad is None for value in model.proposal.parameters())
    before = [value.grad.clone() for value in model.field.parameters() if value.grad is not None]
    model.get_loss_dict(model.rendering_of(rays()), {"image": torch.rand(5, 3)})["proposal_loss"].backward()
    assert all(value.grad is not None for value in model.proposal.parameters())
    after = [value.grad for value in model.field.parameters() if value.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_no_proposal_level_is_refused() -> None:
    with pytest.raises(ValueError, match="num-proposal-samples"):
        build(num_proposal_samples=(), **SMALL)


def test_embedding_of_the_training_views() -> None:
    model = build(embedding_size=4, stratified=False, **SMALL).train()
    same = replace(rays(), directions=torch.ones(5, 3), viewdirs=torch.ones(5, 3) / 3**0.5)
    rgb = model.rendering_of(same).rgb
    assert torch.allclose(rgb[0], rgb[3]) and not torch.allclose(rgb[0], rgb[1])
    rgb.sum().backward()
    assert model.embedding is not None and model.embedding.weight.grad is not None
    assert any(value is model.embedding.weight for value in model.get_param_groups()["field"])
    rgb_of_eval = model.eval().rendering_of(same).rgb
    torch.testing.assert_close(rgb_of_eval, rgb_of_eval[:1].expand(5, 3))
    torch.testing.assert_close(rgb_of_eval[4], rgb[4])


def test_optional_terms() -> None:
    """What priors add: distortion on the final samples, orientation on the normals that the model then computes."""
    model = build(**SMALL).train()
    assert samples_of(model.rendering_of(rays())).normals is None
    assert {"samples", "density", "normals"} <= model.provides
    model.serve(frozenset({"samples", "normals"}))
    rendering = model.rendering_of(rays())
    normals = samples_of(rendering).normals
    assert normals is not None and normals.shape == (5, 32, 3)
    losses = terms_of(DistortionPriorConfig(enabled=True), rendering)
    losses |= terms_of(NormalsPriorConfig(enabled=True, weight=0.0, orientation_weight=0.1), rendering)
    assert set(losses) == {"distortion_loss", "orientation_loss"}
    for name, term in losses.items():
        model.zero_grad()
        term.backward(retain_graph=True)
        gradients = [value.grad for value in model.field.trunk.parameters() if value.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients), name
        assert any(gradient.any() for gradient in gradients), name
        # The proposal learns from its own term alone.
        assert all(value.grad is None for value in model.proposal.parameters()), name
    assert model.eval().rendering_of(rays()).samples is None


def terms_of(config: Any, rendering: Rendering, **batch: torch.Tensor) -> Dict[str, torch.Tensor]:
    """Terms of a prior on training pixels."""
    scene: Any = SimpleNamespace(geometry=METRIC)
    context: Any = SimpleNamespace(photos=rendering, batch=batch)
    return config.setup(scene=scene, name="prior").loss_dict(0, context)


def measured_depth(depth: float = 4.0) -> torch.Tensor:
    """(5, 2) one depth for all rays, of which those of rays 1 and 3 are missing."""
    return torch.tensor([[depth, 1.0], [0.0, 1.0], [depth, 1.0], [0.0, 1.0], [depth, 1.0]])


def test_samples_around_the_measured_depth() -> None:
    model = build(depth_guided_samples=6, num_proposal_samples=(16, 8), **SMALL).train()
    labelled = replace(rays(), measured=measured_depth())
    t = model.rendering_of(labelled).extras["t_proposal_0"]
    assert t.shape == (5, 17) and (t.diff(dim=-1) >= 0).all()
    # Of 16 uniform segments of a quarter each, at most two have fenceposts within 0.2 of the depth.
    close = ((t - 4).abs() < 4 * math.exp(-3)).sum(-1)
    known = measured_depth()[:, 0] > 0
    assert (close[known] >= 6).all() and (close[~known] <= 2).all()
    spread = torch.cat([model.rendering_of(labelled).extras["t_proposal_0"][known] - 4 for _ in range(50)]).flatten()
    assert spread[spread.abs() < 0.2].std().item() == pytest.approx(math.exp(-3), rel=0.3)
    assert model.labels == {"depth"}
    for same in (model.eval().rendering_of(labelled), model.train().eval().rendering_of(rays())):
        torch.testing.assert_close(same.depth, model.rendering_of(rays()).depth)
    assert same.extras == {}


def test_their_width_is_learnt() -> None:
    model = build(depth_guided_samples=6, num_proposal_samples=(16, 8), **SMALL).train()
    target = {"image": torch.rand(5, 3)}
    # A final level that holds more weight than the proposals allow it, where the rays begin.
    torch.nn.init.constant_(model.field.density.bias, 5.0)

    def loss(measured: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return model.get_loss_dict(model.rendering_of(replace(rays(), measured=measured)), target)["proposal_loss"]

    loss(measured_depth(2.2)).backward()
    gradient = model.log_depth_spread.grad
    assert gradient is not None and gradient.isfinite() and gradient != 0
    model.zero_grad()
    loss(torch.tensor([[0.0, 1.0]]).expand(5, 2)).backward()
    assert model.log_depth_spread.grad == 0
    # It is a parameter in every case, but has a gradient only where the option is on.
    without = build(**SMALL).train()
    torch.stack(list(without.get_loss_dict(without.rendering_of(rays()), target).values())).sum().backward()
    assert without.log_depth_spread.grad is None and not without.labels


def test_fenceposts_are_a_function_of_the_width() -> None:
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(3, 1, dtype=torch.float64)
    noise = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    jitter = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    depth = torch.tensor([[4.0], [5.9], [0.0]], dtype=torch.float64)

    def fenceposts(spread: torch.Tensor) -> torch.Tensor:
        return depth_guided_fenceposts(2 * ones, 6 * ones, 8, depth, spread, noise, jitter)

    assert torch.autograd.gradcheck(fenceposts, (0.3 * ones.requires_grad_(),))
    t = fenceposts(0.3 * ones).detach()
    assert t.min() >= 2 and t.max() <= 6
    assert torch.equal(t[2], stratified_fenceposts(2 * ones, 6 * ones, 8, jitter)[2].detach())
    drawn = (depth + 0.3 * noise)[0].detach()
    assert all((t[0] - value).abs().min() < 1e-12 for value in drawn)


@pytest.mark.parametrize("count", [-1, 64])
def test_as_many_samples_as_the_level_has_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="depth-guided-samples"):
        build(depth_guided_samples=count, **SMALL)


@pytest.mark.parametrize("kind", ["alignment", "chord"])
def test_measured_normals(kind: Any) -> None:
    """The terms of the normals prior on what the model renders."""
    model = build(**SMALL).train()
    model.serve(frozenset({"normals"}))
    config = NormalsPriorConfig(enabled=True, weight=0.5, orientation_weight=0.25, loss=kind)
    rendering = model.rendering_of(rays())
    measured = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
    measured[[1, 4]] = 0.0
    losses = terms_of(config, rendering, normal=measured)
    weights, normals, viewdirs = samples_of(rendering).weights, samples_of(rendering).normals, rendering.viewdirs
    assert normals is not None and viewdirs is not None
    misfit = (weights * (1 - (normals * measured[:, None]).sum(-1))).sum(-1)[[0, 2, 3]].mean()
    torch.testing.assert_close(losses["normal_loss"], 0.5 * misfit, rtol=1e-4, atol=1e-6)
    away = (weights * (normals * viewdirs[:, None]).sum(-1).clamp(min=0) ** 2).sum(-1)
    torch.testing.assert_close(losses["orientation_loss"], 0.25 * away[[0, 2, 3]].mean())
    losses["normal_loss"].backward(retain_graph=True)
    gradient = next(model.field.trunk.parameters()).grad
    assert gradient is not None and gradient.any()
    # A batch without any costs nothing; a scene without any counts orientation on every ray.
    none = terms_of(config, rendering, normal=torch.zeros(5, 3))
    assert none["normal_loss"] == 0 and none["orientation_loss"] == 0
    model.zero_grad()
    (none["normal_loss"] + none["orientation_loss"]).backward(retain_graph=True)
    assert not any(value.grad is not None and value.grad.any() for value in model.parameters())
    without = terms_of(config, rendering)
    torch.testing.assert_close(without["orientation_loss"], 0.25 * away.mean())
    assert "normal_loss" not in without


@pytest.mark.parametrize("geometry", [METRIC, NDC], ids=["metric", "ndc"])
def test_normals_of_a_tilted_plane_are_those_of_the_world(geometry: SceneGeometry, monkeypatch: Any) -> None:
    """A field whose density grows behind a plane: its normals point out of the plane, whatever space it is asked in."""
    model = build(geometry, **SMALL).train()
    model.serve(frozenset({"normals"}))
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)

    def to_world(position: torch.Tensor) -> torch.Tensor:
        if geometry.ray_space == "metric" or geometry.ndc_focal is None:
            return position
        x, y, z = position.unbind(-1)
        depth = 2 * geometry.ndc_near / (z - 1)
        return torch.stack([-x * depth / geometry.ndc_focal[0], -y * depth / geometry.ndc_focal[1], depth], dim=-1)

    def trainable_normals(means: torch.Tensor, *_: Any) -> torch.Tensor:
        means = means.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad((-(to_world(means) @ normal)).sum(), means)
        return -torch.nn.functional.normalize(gradient, dim=-1)

    monkeypatch.setattr(model.field, "trainable_normals", trainable_normals)
    spread = torch.rand(4, 3, 3) * torch.tensor([1.0, 1.0, 0.8]) - torch.tensor([0.5, 0.5, 0.9])
    found = normals_to_world(trainable_normals(spread, spread), spread, geometry)
    torch.testing.assert_close(found, normal.expand_as(found), rtol=1e-4, atol=1e-5)
    # And those that the model renders.
    near, far = (-0.7, 0.0) if geometry.ray_space == "ndc" else (2.0, 6.0)
    ahead = torch.tensor([0.1, 0.2, -1.0 if geometry.ray_space == "metric" else 1.0]).expand(5, 3)
    ones = torch.ones(5, 1)
    given = replace(rays(), directions=ahead, viewdirs=ahead / ahead.norm(dim=-1, keepdim=True))
    rendered = samples_of(model.rendering_of(replace(given, near=near * ones, far=far * ones))).normals
    assert rendered is not None
    torch.testing.assert_close(rendered, normal.expand_as(rendered), rtol=1e-3, atol=1e-4)


def test_trainable_normals_are_those_of_the_density() -> None:
    field = build(**SMALL).field
    means, cov_diag = torch.rand(2, 3, 3), 0.01 * torch.rand(2, 3, 3)
    density, _ = field(means.requires_grad_(), cov_diag, torch.rand(2, 3))
    (gradient,) = torch.autograd.grad(density.sum(), means)
    expected = -torch.nn.functional.normalize(gradient, dim=-1)
    torch.testing.assert_close(field.trainable_normals(means, cov_diag), expected, rtol=1e-4, atol=1e-5)
