"""Losses on depth of known scale: what the prior makes of them, and how depth reaches the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prior_scenes import context_of, pixels_of, rendering_of, scene_of
from torch import Tensor

from fewshot_ns.cameras.ray_space import to_model_rays, world_distance
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.labels import DEPTH_KEY, DEPTH_SIGMA_KEY, DEPTH_SLOPE_KEY
from fewshot_ns.model_components.depth_losses import cdf_bound_losses, open_bound_loss
from fewshot_ns.priors.depth.metric import MetricDepthConfig, annealed_sigma, metric_depth_terms
from fewshot_ns.priors.depth.prior import DepthPrior, DepthPriorConfig

NAMES = {
    "cdf": {"depth_near", "depth_empty"},
    "urf": {"depth_near", "depth_empty"},
    "l2": {"depth_l2"},
    "ds-nerf": {"depth_ds_nerf"},
    "none": set(),
    "ranking": set(),
}


def outputs() -> dict:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(6, 8, generator=generator) / 8
    t = torch.rand(6, 9, generator=generator).sort(-1).values + 1.0
    return {"weights": weights.requires_grad_(), "t": t}


def make(config: DepthPriorConfig, length_unit: float = 1.0) -> DepthPrior:
    return config.setup(scene=scene_of(length_unit=length_unit), name="depth")


def metric_terms(prior: DepthPrior, rendered: dict, depth: Tensor, sigma: Tensor, slope: Tensor, step: int = 0) -> dict:
    """What the prior makes of a batch with these labels."""
    batch = {DEPTH_KEY: depth, DEPTH_SIGMA_KEY: sigma, DEPTH_SLOPE_KEY: slope}
    return prior.loss_dict(step, context_of(rendering_of(rendered["weights"], rendered["t"]), batch=batch))


def terms(loss: Any, depth: Tensor, step: int = 0, own: float = 0.0, **fields: Any) -> dict:
    rendered = outputs()
    prior = make(DepthPriorConfig(enabled=True, loss=loss, metric=MetricDepthConfig(**fields)))
    sigma, slope = torch.full_like(depth, own), torch.ones_like(depth)
    return {**metric_terms(prior, rendered, depth, sigma, slope, step), "weights": rendered}


@pytest.mark.parametrize("loss", NAMES)
def test_terms_of_each_loss(loss: str) -> None:
    depth = torch.full((6, 1), 1.5)
    losses = terms(loss, depth)
    assert set(losses) - {"weights"} == NAMES[loss]
    assert all(losses[name] > 0 for name in NAMES[loss])


@pytest.mark.parametrize("loss", [name for name in NAMES if NAMES[name]])
def test_no_depth_no_loss(loss: str) -> None:
    losses = terms(loss, torch.zeros(6, 1))
    weights = losses.pop("weights")["weights"]
    (gradient,) = torch.autograd.grad(torch.stack(list(losses.values())).sum(), weights)
    assert all(term == 0 for term in losses.values()) and not gradient.any()


def test_weights_and_the_maps_own_sigma() -> None:
    depth, rendered = torch.full((6, 1), 1.5), outputs()
    t_mid = 0.5 * (rendered["t"][:, 1:] + rendered["t"][:, :-1])
    for own, used in ((0.2, 0.2), (0.01, 0.1)):
        losses = terms("cdf", depth, own=own, near_weight=2.0, empty_weight=3.0, beta=0.05, sigma=0.1)
        bounds = cdf_bound_losses(rendered["weights"], t_mid, depth, used, 0.05)
        torch.testing.assert_close(losses["depth_near"], 2.0 * bounds.near)
        torch.testing.assert_close(losses["depth_empty"], 3.0 * bounds.empty)


@pytest.mark.parametrize("loss", ["cdf", "urf"])
def test_a_near_weight_of_none_is_decided_by_the_scene(loss: Any) -> None:
    rendered = outputs()
    labels = torch.full((6, 1), 1.5), torch.zeros(6, 1), torch.ones(6, 1)

    def near(weight: Any, space: Any) -> Tensor:
        config = MetricDepthConfig(near_weight=weight)
        found = metric_depth_terms(config, loss, rendered["weights"], rendered["t"], *labels, 0, ray_space=space)
        return found["depth_near"]

    for space, weight in (("ndc", 0.5), ("metric", 0.1)):
        torch.testing.assert_close(near(None, space), weight * near(1.0, space))


def test_sigma_of_the_first_version() -> None:
    config = MetricDepthConfig(sigma_anneal_steps=1000)
    assert [annealed_sigma(config, step) for step in (0, 10, 900)] == [0.25, pytest.approx(0.15), 0.09]
    assert annealed_sigma(MetricDepthConfig(), 10) == 0.03


@pytest.mark.parametrize("space", ["metric", "ndc"])
def test_depths_of_a_batch_lie_on_the_surface(space: str, request: Any, tiny_pipeline_config: Any) -> None:
    """The photos show the plane that the depth maps hold: the batch's ray parameter leads back to it."""
    if space == "metric":
        data: Any = RGBDDataParserConfig(data=request.getfixturevalue("tiny_rgbd_scene"))
    else:
        data = LLFFDataParserConfig(
            data=request.getfixturevalue("tiny_llff_scene"), depth_polarity="distance", depth_unit=1e-4
        )
    config = tiny_pipeline_config(data)
    config.depth.loss = "cdf"
    pipeline = config.setup(device="cpu", test_mode="val")
    manager, geometry = pipeline.datamanager, pipeline.model.geometry
    bundle, batch = manager.next_train(0)
    assert pipeline.priors.requests(0, "pixels") == {} and batch["depth"].shape == (64, 1)
    known = batch["depth"][:, 0] > 0
    assert known.any() and (batch["depth_sigma"] == 0).all()
    distance = world_distance(batch["depth"], to_model_rays(bundle, geometry), geometry)
    maps = [manager.train_dataset.metric_depth(view) for view in range(3)]
    for ray, (view, row, column) in enumerate(batch["indices"].tolist()):
        if known[ray]:
            assert distance[ray].item() == pytest.approx(float(maps[view].ray_distance[row, column]), rel=1e-3)
    _, losses, _ = pipeline.get_train_loss_dict(0)
    assert {"depth_near", "depth_empty"} <= set(losses)
    assert all(term.isfinite() for term in losses.values())
    # The frames of rgbd-data are in metres, whatever became of them in the world.
    unit = manager.train_dataset.world_scale if geometry.ray_space == "metric" else 1.0
    near_weight = 0.1 if space == "metric" else 0.5
    expected = {"loss": "cdf", "length_unit": pytest.approx(unit), "near_weight": near_weight, "source": "files"}
    assert pipeline.resolved()["depth"] == expected


def test_depth_without_scale_is_refused(tiny_pipeline_config: Any, tiny_llff_scene: Path) -> None:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    config.depth.loss, config.depth.source = "l2", "files"
    with pytest.raises(ValueError, match="known scale"):
        config.setup(device="cpu", test_mode="val")


def test_none_needs_no_maps(tiny_pipeline_config: Any, tiny_llff_scene: Path) -> None:
    for path in (tiny_llff_scene / "depth_maps").iterdir():
        path.unlink()
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    config.depth.loss = "none"
    _, losses, _ = config.setup(device="cpu", test_mode="val").get_train_loss_dict(0)
    assert not any(name.startswith("depth") for name in losses)


@pytest.mark.parametrize("loss", ["cdf", "urf", "ds-nerf"])
@pytest.mark.parametrize("slope", [1.0, 0.02])
def test_widths_are_lengths_of_the_world_in_every_space(loss: Any, slope: float) -> None:
    """The same scene, its ray parameter stretched: the same terms."""
    rendered, depth = outputs(), torch.tensor([[1.3], [0.0], [1.5], [1.6], [1.7], [1.4]])
    prior = make(DepthPriorConfig(enabled=True, loss=loss, metric=MetricDepthConfig(sigma=0.1, beta=0.02)))
    ones, own = torch.ones_like(depth), torch.full_like(depth, 0.12)
    expected = metric_terms(prior, rendered, depth, own, ones, 0)
    stretched = {**rendered, "t": slope * rendered["t"]}
    found = metric_terms(prior, stretched, slope * depth, own, slope * ones, 0)
    for name in NAMES[loss]:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", ["cdf", "urf", "ds-nerf", "l2"])
def test_terms_do_not_depend_on_how_the_parser_scaled_the_scene(loss: Any) -> None:
    """The same room in metres, and blown up by 20 with the metre as its unit of lengths."""
    rendered, depth = outputs(), torch.tensor([[1.3], [0.0], [1.5], [1.6], [1.7], [1.4]])
    config = DepthPriorConfig(enabled=True, loss=loss, metric=MetricDepthConfig(sigma=0.1, beta=0.02))
    ones, own = torch.ones_like(depth), torch.full_like(depth, 0.12)
    expected = metric_terms(make(config), rendered, depth, own, ones, 0)
    larger = {**rendered, "t": 20.0 * rendered["t"]}
    found = metric_terms(make(config, 20.0), larger, 20.0 * depth, 20.0 * own, ones, 0)
    config.metric.length_unit = 20.0
    stated = metric_terms(make(config, 3.0), larger, 20.0 * depth, 20.0 * own, ones, 0)
    assert set(found) == set(stated) == NAMES[loss]
    for name in NAMES[loss]:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(stated[name], found[name])


def test_a_unit_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length-unit"):
        make(DepthPriorConfig(metric=MetricDepthConfig(length_unit=0.0)))


def test_variants_of_the_original() -> None:
    depth, rendered = torch.full((6, 1), 1.5), outputs()
    t_mid = 0.5 * (rendered["t"][:, 1:] + rendered["t"][:, :-1])
    variant = terms("cdf", depth, open_bounds=True, near_weight=2.0)
    torch.testing.assert_close(variant["depth_near"], 2.0 * open_bound_loss(rendered["weights"], t_mid, depth, 0.03))
    torch.testing.assert_close(variant["depth_empty"], terms("cdf", depth)["depth_empty"])
    squared, plain = (terms("urf", depth, urf_squared=squared, near_weight=1.0) for squared in (True, False))
    torch.testing.assert_close(squared["depth_near"], plain["depth_near"] ** 2)


def sigma_of(**fields: Any) -> torch.Tensor:
    """(2,) standard deviation that ds-nerf takes for rays whose maps have none and 0.002, read off its term."""
    config = MetricDepthConfig(sigma=0.03, ds_nerf_weight=1.0, **fields)
    t, weights, one = torch.linspace(0.9, 1.1, 2001)[None], torch.full((1, 2000), 1.0 / 2000), torch.ones(1, 1)
    each = []
    for own in (0.0, 0.002):
        sigma = torch.full((1, 1), own)
        each.append(metric_depth_terms(config, "ds-nerf", weights, t, one, sigma, one, 0)["depth_ds_nerf"])
    # The term of a ray of equal weights w is -log(w) sum exp(...) dt, which grows with sigma alone.
    area = torch.stack(each) / -torch.log(torch.tensor(1.0 / 2000 + 1e-7))
    return area / (2.0 * torch.pi) ** 0.5


def test_maps_with_a_sigma_of_their_own_may_be_below_sigma() -> None:
    usual, lower = sigma_of(), sigma_of(min_sigma_of_maps=0.001)
    torch.testing.assert_close(usual, torch.full((2,), 0.03), rtol=1e-2, atol=0.0)
    torch.testing.assert_close(lower, torch.tensor([0.03, 0.002]), rtol=1e-2, atol=0.0)
    bounded = sigma_of(min_sigma_of_maps=0.01)
    torch.testing.assert_close(bounded, torch.tensor([0.03, 0.01]), rtol=1e-2, atol=0.0)
    assert torch.equal(sigma_of(sigma_of_maps=False, min_sigma_of_maps=0.001), usual)
    with pytest.raises(ValueError, match="expected a positive --pipeline.depth.metric.min-sigma-of-maps, got 0"):
        make(DepthPriorConfig(enabled=True, loss="cdf", metric=MetricDepthConfig(min_sigma_of_maps=0.0)))


def test_a_backbone_without_rays_is_compared_by_l2_alone() -> None:
    rendered, depth = outputs(), torch.tensor([[1.3], [0.0], [1.5], [1.6], [1.7], [1.4]])
    zeros, ones = torch.zeros_like(depth), torch.ones_like(depth)
    rays = rendering_of(rendered["weights"], rendered["t"])
    image = pixels_of(rays.distance, rays.accumulation)
    loss: Any
    for loss in NAMES:
        prior = make(DepthPriorConfig(enabled=True, loss=loss))
        if loss == "l2":
            expected = metric_terms(prior, rendered, depth, zeros, ones)["depth_l2"]
            found = prior.metric_terms(image, depth, zeros, ones, step=0)
            torch.testing.assert_close(found["depth_l2"], expected)
        elif loss not in ("ranking", "none"):
            assert prior.metric_terms(image, depth, zeros, ones, step=0) == {}
