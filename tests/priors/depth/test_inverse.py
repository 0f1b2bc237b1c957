"""Losses of the depth prior on inverse depth: exact depth costs nothing in any scene by any map; what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
import torch
from prior_scenes import context_of, scene_of
from torch import Tensor

from fewshot_ns.cameras.ray_space import ray_parameter, to_model_rays
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.depth.maps import read_depth_map
from fewshot_ns.data.labels import DEPTH_KEY, NEARNESS_KEY, nearness_labels
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.depth.metric import MetricDepthConfig
from fewshot_ns.priors.depth.prior import DepthPrior, DepthPriorConfig

TERMS = {"pearson": "depth_pearson", "inverse-l1": "depth_inverse_l1"}


def make(loss: Any, ray_space: Any = "metric", **fields: Any) -> DepthPrior:
    config = DepthPriorConfig(enabled=True, loss=loss, **fields)
    return config.setup(scene=scene_of(ray_space), name="depth")


def label_of(depth: Tensor, norms: Tensor) -> Tensor:
    """(R, 4) label of measured planar depths (R, 1), 0 where there is none, of known scale."""
    valid = depth > 0
    return torch.cat([1.0 / torch.where(valid, depth, 1.0), valid, norms, torch.ones_like(depth)], dim=-1)


def seen(planar: Tensor, norms: Tensor, opacity: Tensor) -> Rendering:
    """Pixels (R,) at planar depths, whose ray parameter is of no use."""
    return Rendering(torch.zeros(len(planar), 3), planar * norms, opacity, torch.full_like(planar, torch.nan))


def term(prior: DepthPrior, rendering: Rendering, label: Tensor, views: Tensor, step: int = 0) -> Tensor:
    indices = torch.stack([views, views, views], dim=-1)
    losses = prior.loss_dict(step, context_of(rendering, batch={NEARNESS_KEY: label, "indices": indices}))
    assert set(losses) == {TERMS[prior.config.loss]}
    return losses[TERMS[prior.config.loss]]


@pytest.fixture
def pixels() -> Dict[str, Tensor]:
    """Of 60 pixels of two views: rendered and measured planar depth, ratio of ray to planar depth, opacity, view."""
    generator = torch.Generator().manual_seed(0)
    planar, depth, norms = (1.0 + torch.rand(60, 1, generator=generator) for _ in range(3))
    depth[::5] = 0.0
    opacity = torch.ones(60, 1)
    opacity[1::5], opacity[2::5] = 0.4, 0.005
    views = (torch.arange(60) >= 30).long()
    return {"planar": planar.requires_grad_(), "depth": depth, "norms": norms, "opacity": opacity, "views": views}


@pytest.mark.parametrize("loss", TERMS)
def test_terms_weights_and_what_counts(loss: str, pixels: Dict[str, Tensor]) -> None:
    planar, depth, norms, opacity, views = pixels.values()
    label, rendering = label_of(depth, norms), seen(planar, norms, opacity)
    # A surface, or anything at all that has an order.
    counts = ((depth > 0) & (opacity > (0.01 if loss == "pearson" else 0.5)))[:, 0]
    if loss == "pearson":
        values = []
        for view in (0, 1):
            mine = counts & (views == view)
            pairs = torch.stack([1.0 / planar[mine, 0], 1.0 / depth[mine, 0]])
            values.append(1.0 - torch.corrcoef(pairs)[0, 1])
        expected, weight = torch.stack(values).mean(), {"pearson_weight": 0.4}
    else:
        error = (1.0 / planar - 1.0 / depth)[counts].abs().mean()
        expected, weight = error * depth[depth > 0].median(), {"metric": MetricDepthConfig(inverse_l1_weight=0.4)}
    found = term(make(loss, **weight), rendering, label, views)
    torch.testing.assert_close(found, 0.4 * expected)
    (gradient,) = torch.autograd.grad(found, planar, retain_graph=True)
    assert torch.equal(gradient[:, 0] != 0, counts)
    torch.testing.assert_close(term(make(loss), rendering, label, views), 0.05 * expected)
    fading = make(loss, fade_end_step=10, fade_ratio=0.2, **weight)
    torch.testing.assert_close(term(fading, rendering, label, views, step=10), 0.08 * expected)


@pytest.mark.parametrize("loss", TERMS)
def test_nothing_known_or_nothing_shown_costs_nothing(loss: Any, pixels: Dict[str, Tensor]) -> None:
    planar, depth, norms, opacity, views = pixels.values()
    for measured, shown in ((torch.zeros_like(depth), opacity), (depth, torch.zeros_like(opacity))):
        # Pixels of no opacity have no depth either.
        empty = torch.where(shown > 0, planar, 0.0 * planar)
        found = term(make(loss), seen(empty, norms, shown), label_of(measured, norms), views)
        (gradient,) = torch.autograd.grad(found, planar)
        assert found == 0 and not gradient.any() and gradient.isfinite().all()


def test_constant_depth_has_no_gradient_and_few_pixels_do_not_count(pixels: Dict[str, Tensor]) -> None:
    planar, depth, norms, _, views = pixels.values()
    flat, shown = torch.full_like(planar, 3.3, requires_grad=True), torch.ones_like(planar)
    found = term(make("pearson"), seen(flat, norms, shown), label_of(depth, norms), views)
    assert found == 0 and not torch.autograd.grad(found, flat)[0].any()
    views = torch.zeros_like(views)
    views[:15] = 1
    found = term(make("pearson"), seen(planar, norms, shown), label_of(depth, norms), views)
    (gradient,) = torch.autograd.grad(found, planar)
    assert found > 0 and not gradient[:15].any()


def test_a_pixel_without_bounds_does_not_take_all(pixels: Dict[str, Tensor]) -> None:
    _, depth, norms, _, views = pixels.values()
    exact = torch.where(depth > 0, depth, 1.5)
    label, shown = label_of(exact, norms), torch.ones_like(exact)
    for wrong in (0.0, 1e-9):
        near = exact.clone()
        near[3] = wrong
        near.requires_grad_()
        for loss in TERMS:
            found = term(make(loss), seen(near, norms, shown), label, views)
            (gradient,) = torch.autograd.grad(found, near)
            assert found.isfinite() and gradient.isfinite().all() and not gradient[3].any()


def manager_of(parser: Any) -> Any:
    config = FewShotDataManagerConfig(dataparser=parser, whole_images=True)
    return config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)


def scaled_maps(scene: Path, unit: float, meaning: Any) -> LLFFDataParserConfig:
    """The tiny scene with a ramp of distances in .npz maps, whose first row is a hole."""
    folder = scene / f"maps_{unit}_{meaning}"
    folder.mkdir()
    for photo in sorted((scene / "images_4").iterdir()):
        depth = np.linspace(5.0, 9.0, 24 * 32).reshape(24, 32).astype(np.float32)
        depth[0] = 0.0
        np.savez(folder / f"{photo.stem}.npz", depth=depth)
    return LLFFDataParserConfig(
        data=scene, depth_dir=folder, depth_polarity="distance", depth_unit=unit or None, depth_meaning=meaning
    )


SCENES: Dict[str, Any] = {
    "inverse depth": ("tiny_llff_scene", lambda folder: LLFFDataParserConfig(data=folder)),
    "metric": ("tiny_rgbd_scene", lambda folder: RGBDDataParserConfig(data=folder)),
    "distance": ("tiny_dtu_scene", lambda folder: DTUDataParserConfig(data=folder, depth_polarity="distance")),
    "unknown scale": ("tiny_llff_scene", lambda folder: scaled_maps(folder, 0.0, "z_depth")),
    "along rays": ("tiny_llff_scene", lambda folder: scaled_maps(folder, 0.0, "ray_distance")),
    "known scale": ("tiny_llff_scene", lambda folder: scaled_maps(folder, 0.5, "ray_distance")),
}


FORWARD = tuple(name for name, (fixture, _) in SCENES.items() if fixture == "tiny_llff_scene")


def planar_depth(dataset: Any, view: int) -> Tuple[Tensor, bool]:
    """Planar depth (H, W) that a map says up to scale and shift, with some of these; and whether it has a scale."""
    record = dataset.fewshot
    encoding, path = record.depth_encoding, record.depth_prior_filenames[view]
    if dataset.has_metric_depth(view):
        return torch.as_tensor(dataset.metric_depth(view).z_depth), True
    found = read_depth_map(path, encoding.polarity, dataset.size_of(view), encoding)
    values = torch.as_tensor(found.values)
    if found.polarity == "inverse_depth":
        return 1.0 / (0.1 + 3.0 * values / values.max()), False
    norms = torch.as_tensor(dataset.ray_norms(view)) if encoding.meaning == "ray_distance" else 1.0
    return 2.0 + 3.0 * values / values.max() / norms, False


@pytest.mark.parametrize("name, space", [*((name, "metric") for name in SCENES), *((name, "ndc") for name in FORWARD)])
def test_exact_depth_costs_nothing_in_any_scene(name: str, space: Any, request: pytest.FixtureRequest) -> None:
    fixture, parser_of = SCENES[name]
    parser = parser_of(request.getfixturevalue(fixture))
    if name in FORWARD:
        parser = replace(parser, ray_space=space)
    manager = manager_of(parser)
    manager.use_labels({"nearness"})
    dataset = manager.train_dataset
    assert dataset.fewshot.geometry.ray_space == space
    for step in range(3):
        rays, batch = manager.next_train(step)
        label, view = batch[NEARNESS_KEY], int(batch["indices"][0, 0])
        height, width = batch["image_size"]
        planar, scaled = planar_depth(dataset, view)
        assert scaled == (name in ("metric", "known scale"))
        norms = rays.metadata["directions_norm"]
        torch.testing.assert_close(label[:, 2:3], norms)
        depth = (planar.reshape(-1, 1) * norms).requires_grad_()
        opacity = torch.ones_like(depth)
        for loss in TERMS if scaled else ("pearson",):
            exact = Rendering(batch["image"], depth, opacity, depth)
            assert term(make(loss), exact, label, batch["indices"][:, 0]).item() == pytest.approx(0.0, abs=2e-6)
            # The same from left to right is something else.
            turned = depth.reshape(height, width).flip(1).reshape(-1, 1)
            assert (
                term(make(loss), Rendering(batch["image"], turned, opacity, turned), label, batch["indices"][:, 0])
                > 1e-5
            )


def test_labels_of_holes_masks_and_scales(tiny_llff_scene: Path) -> None:
    manager = manager_of(replace(scaled_maps(tiny_llff_scene, 0.5, "z_depth"), ray_space="metric"))
    assert NEARNESS_KEY not in manager.next_train(0)[1]
    manager.use_labels({"nearness", "depth"})
    batch = manager.next_train(0)[1]
    nearness, valid, _, inverse = batch[NEARNESS_KEY].split(1, dim=-1)
    assert not valid[:32].any() and (valid[32:] == 1).all() and (inverse == 1).all()
    # In metric scenes the ray parameter is planar depth, world units.
    torch.testing.assert_close(1.0 / nearness[32:], batch[DEPTH_KEY][32:])
    dataset = manager_of(scaled_maps(tiny_llff_scene, 0.0, "z_depth")).train_dataset
    for label in nearness_labels(dataset):
        assert label.shape == (24, 32, 4) and not label[..., 3].any() and not label[0, :, 1].any()
        np.testing.assert_allclose(label[1:, :, 0], -np.linspace(5.0, 9.0, 768).reshape(24, 32)[1:], rtol=1e-6)


# More steps at so high a rate empty the field in NDC.
@pytest.mark.parametrize("space, steps", [("metric", 100), ("ndc", 40)])
def test_rays_learn_the_order_of_inverse_maps(
    space: Any, steps: int, tiny_pipeline_config: Any, tiny_llff_scene: Path
) -> None:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene, ray_space=space))
    config.depth.loss, config.depth.source, config.depth.pearson_weight = "pearson", "auto", 1.0
    config.datamanager.train_num_rays_per_batch = 256
    torch.manual_seed(0)
    pipeline = config.setup(device="cpu", test_mode="val")
    assert pipeline.resolved()["depth"] == {"loss": "pearson", "source": "files"}
    assert pipeline.priors.requests(0, "pixels") == {}
    optimizer = torch.optim.Adam([value for group in pipeline.get_param_groups().values() for value in group], 0.01)
    terms = []
    for step in range(steps):
        losses = pipeline.get_train_loss_dict(step)[1]
        terms.append(float(losses["depth_pearson"].detach()))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert 0 < sum(terms[-10:]) < 0.5 * sum(terms[:10])


def test_what_inverse_l1_cannot_serve_is_refused(tiny_pipeline_config: Any, tiny_llff_scene: Path) -> None:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene, ray_space="ndc"))
    config.depth.loss, config.depth.source = "inverse-l1", "files"
    with pytest.raises(
        ValueError,
        match=r"--pipeline.depth.loss inverse-l1: expected a scene in world space, found .*llff in NDC; give the "
        r"dataparser's --ray-space metric, or --pipeline.depth.loss cdf, or pearson",
    ):
        config.setup(device="cpu", test_mode="val")
    config.datamanager.dataparser.ray_space = "metric"
    with pytest.raises(
        ValueError,
        match=r"--pipeline.depth.loss inverse-l1: the maps in .*depth_maps have no known scale. Ways out: .*stereo",
    ):
        config.setup(device="cpu", test_mode="val")


@pytest.mark.parametrize("loss", TERMS)
def test_negative_weights_are_refused(loss: str) -> None:
    fields: Any = {"pearson_weight": -1.0}
    if loss == "inverse-l1":
        fields = {"metric": MetricDepthConfig(inverse_l1_weight=-1.0)}
    flag = "pearson-weight" if loss == "pearson" else "metric.inverse-l1-weight"
    with pytest.raises(ValueError, match=f"expected --pipeline.depth.{flag} of at least 0, got -1"):
        make(loss, **fields)


def test_world_depth_of_rays_that_begin_at_a_plane(tiny_dtu_scene: Path) -> None:
    """There the ray parameter is no planar depth: the same scene in it would cost something."""
    manager = manager_of(DTUDataParserConfig(data=tiny_dtu_scene, depth_polarity="distance", depth_unit=1.0))
    manager.use_labels({"nearness"})
    rays, batch = manager.next_train(0)
    geometry, view = manager.train_dataset.fewshot.geometry, int(batch["indices"][0, 0])
    measured = manager.train_dataset.metric_depth(view)
    depth = torch.as_tensor(measured.ray_distance).reshape(-1, 1)
    parameter = ray_parameter(depth, to_model_rays(rays, geometry), geometry)
    assert not torch.allclose(parameter, torch.as_tensor(measured.z_depth).reshape(-1, 1), rtol=0.1)
    exact = Rendering(batch["image"], depth, torch.ones_like(depth), parameter)
    for loss in TERMS:
        found = term(make(loss), exact, batch[NEARNESS_KEY], batch["indices"][:, 0])
        assert found.item() == pytest.approx(0.0, abs=2e-6)
