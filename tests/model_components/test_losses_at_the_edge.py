"""Every loss is finite, with finite gradients, where its input is at an edge: nothing measured, nothing rendered, ties,
priors that are no numbers, half precision, one ray, none.

A function that looks like a loss and is not in the list below fails `test_every_loss_is_listed`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from torch import Tensor

import fewshot_ns.model_components
import fewshot_ns.priors
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.stereo.views import StereoView
from fewshot_ns.model_components import (
    depth_losses,
    interval_losses,
    losses,
    normal_losses,
    renderers,
    view_consistency,
)
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.pretrained.encoders import preprocessing
from fewshot_ns.priors import distortion
from fewshot_ns.priors.base import prior_configs
from fewshot_ns.priors.depth import inverse, metric
from fewshot_ns.priors.depth.metric import MetricDepthConfig
from fewshot_ns.priors.diffusion import score_distillation

EDGES = (
    "ordinary",
    "nothing_measured",
    "nothing_rendered",
    "hardly_anything_rendered",
    "constant",
    "ties",
    "infinite_priors",
    "no_numbers_in_priors",
    "some_no_numbers_in_priors",
    "negative_priors",
    "no_width",
    "bfloat16",
    "single",
    "empty",
)
MEASURED = ("depth", "slope", "sigma", "nearness", "normal_target", "alpha_of_photo", "gaps", "z_depth")
"""What comes from priors."""


def scene(edge: str) -> SimpleNamespace:
    """Inputs of all losses at an edge: R rays of S samples, quads, patches, an image, planes, embeddings, latents."""
    g = torch.Generator().manual_seed(0)
    rays, samples, side = (1, 1, 1) if edge == "single" else (0, 6, 3) if edge == "empty" else (48, 6, 5)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    x: Dict[str, Any] = {
        "t": 1.0 + 3.0 * rand(rays, samples + 1).sort(-1).values,
        "t_envelope": 1.0 + 3.0 * rand(rays, samples + 3).sort(-1).values,
        "weights": rand(rays, samples) / samples,
        "envelope": rand(rays, samples + 2) / samples,
        "density": rand(rays, samples),
        "sample_rgb": rand(rays, samples, 3),
        "rgb": rand(rays, 3),
        "target": rand(rays, 3),
        "ray_weights": rand(rays, 1),
        "opacity": rand(rays, 1),
        "alpha_of_photo": rand(rays, 1),
        "rendered": 1.0 + 3.0 * rand(rays, 1),
        "depth": 1.0 + 3.0 * rand(rays, 1),
        "slope": 0.5 + rand(rays, 1),
        "sigma": 0.1 + rand(rays, 1),
        "nearness": torch.cat([0.2 + rand(rays, 1), *(torch.ones(rays, 1) for _ in range(3))], dim=-1),
        "normals": torch.nn.functional.normalize(rand(rays, samples, 3) - 0.5, dim=-1),
        "normal_target": torch.nn.functional.normalize(rand(rays, 3) - 0.5, dim=-1),
        "viewdirs": torch.nn.functional.normalize(rand(rays, 3) - 0.5, dim=-1),
        "quads": 1.0 + rand(rays, 4),
        "gaps": rand(rays),
        "patches": 1.0 + rand(0 if edge == "empty" else 3, side, side),
        "patch_opacity": rand(0 if edge == "empty" else 3, side, side),
        "image": rand(side, side, 3),
        "image_target": rand(side, side, 3),
        "distance_map": 1.0 + rand(side, side),
        "plane": rand(3, 2, side, side),
        "embedding": rand(0 if edge == "empty" else 2, 8),
        "points": torch.cat([rand(rays, 2) - 0.5, -1.0 - rand(rays, 1)], dim=-1),
        "z_depth": 1.0 + rand(side, side),
        "latents": rand(0 if edge == "empty" else 1, 2, side, side),
    }
    fixed: Dict[str, Any] = {
        "valid": torch.ones(rays, 1, dtype=torch.bool),
        "shown": torch.ones(side, side, dtype=torch.bool),
        "views": torch.arange(rays) % 2,
        "least": 1 if edge == "single" else 16,
    }
    if edge == "nothing_measured":
        x |= {name: torch.zeros_like(x[name]) for name in MEASURED if name != "sigma"}
        x["nearness"][:, 2:] = 1.0
        fixed |= {"valid": ~fixed["valid"], "shown": ~fixed["shown"]}
    if edge in ("nothing_rendered", "hardly_anything_rendered"):
        # The second in numbers below the smallest normal one, as densities far below zero give them.
        little = 0.0 if edge == "nothing_rendered" else 1e-41
        empty = ("weights", "envelope", "density", "opacity", "patch_opacity", "rgb", "image", "rendered", "embedding")
        x |= {name: torch.full_like(x[name], little) for name in (*empty, "normals", "ray_weights", "plane")}
        x["points"] = torch.zeros_like(x["points"])
    if edge == "constant":
        x |= {name: torch.full_like(value, 0.5) for name, value in x.items() if name not in ("t", "t_envelope")}
    if edge == "ties":
        x |= {"target": x["rgb"].clone(), "alpha_of_photo": x["opacity"].clone(), "depth": x["rendered"].clone()}
        x |= {"t": x["t"][:, :1].expand_as(x["t"]).clone(), "image_target": x["image"].clone()}
        x |= {"quads": x["quads"][:, :1].expand_as(x["quads"]).clone(), "gaps": torch.zeros_like(x["gaps"])}
        x |= {"depth": x["t"][:, :1].clone(), "t_envelope": x["t"][:, :1].expand_as(x["t_envelope"]).clone()}
        x["normals"] = x["normal_target"][:, None].expand_as(x["normals"]).clone()
    wrong = {"infinite_priors": torch.inf, "no_numbers_in_priors": torch.nan, "negative_priors": -1.0}
    if edge in wrong:
        x |= {name: torch.full_like(x[name], wrong[edge]) for name in MEASURED}
        x["nearness"][:, 1:] = 1.0
    if edge == "some_no_numbers_in_priors":
        for name in MEASURED:
            flat = x[name].view(-1) if name != "nearness" else x[name][:, 0]
            flat[::3], flat[1::3] = torch.nan, torch.inf
    if edge == "no_width":
        x |= {"sigma": torch.zeros_like(x["sigma"]), "slope": torch.zeros_like(x["slope"])}
        x["depth"] = 0.5 * (x["t"][:, 1:2] + x["t"][:, :1])
    if edge == "bfloat16":
        x = {name: value if name in MEASURED else value.bfloat16() for name, value in x.items()}
    for name, value in x.items():
        if name not in (*MEASURED, "target", "ray_weights", "viewdirs", "image_target", "t_envelope"):
            value.requires_grad_()
    return SimpleNamespace(**x, **fixed, leaves=x, edge=edge)


def middle(x: SimpleNamespace) -> Tensor:
    return (0.5 * (x.t[..., 1:] + x.t[..., :-1])).detach()


def rendering(x: SimpleNamespace) -> Rendering:
    return Rendering(rgb=x.rgb, accumulation=x.opacity, distance=x.rendered, depth=x.rendered)


def photo(x: SimpleNamespace) -> StereoView:
    size = x.shown.shape
    pose = torch.eye(4)[:3]
    intrinsics = torch.tensor([float(size[1]), float(size[0]), size[1] / 2, size[0] / 2])
    image = x.image_target.float().detach()
    return StereoView(image, pose, intrinsics, 1e-6, float("inf"), torch.ones(size, dtype=torch.bool), "photo")


def consistency(x: SimpleNamespace) -> Tensor:
    view = photo(x)
    farthest = view_consistency.farthest_visible(view.mask, x.z_depth, torch.zeros_like(x.z_depth), 0.05)
    parts = [
        view_consistency.view_consistency_loss(
            x.points.float(), x.rgb.float(), x.opacity.float(), [view], [farthest], target
        )
        for target in ("depth", "colour", "both")
    ]
    return torch.stack(parts).sum()


def metric_terms(x: SimpleNamespace) -> Tensor:
    """All losses on measured depth, with both kinds of bounds, annealed or not."""
    total = x.weights.new_zeros(())
    for flags in ({}, {"open_bounds": True, "far_open": True}, {"urf_squared": True, "min_sigma_of_maps": 0.01}):
        config = MetricDepthConfig(**flags)  # type: ignore[arg-type]
        for loss in ("cdf", "urf", "ds-nerf", "l2"):
            for step in (0, 10**6):
                given = x.weights, x.t, x.depth, x.sigma, x.slope, step
                terms = metric.metric_depth_terms(config, loss, *given)  # type: ignore[arg-type]
                total = total + sum(terms.values())
    return total


def quads_with_margins(x: SimpleNamespace) -> Tensor:
    """Ranking with margins by the prior's gaps, as the depth prior widens them."""
    slope = losses.depth_gap_slope(x.quads.detach(), x.gaps, x.views)
    return losses.depth_ranking_loss(x.quads, 1e-4 + losses.margins_of(slope, x.gaps))


GEOMETRY = SceneGeometry("metric", 0.5, 50.0)
LOSSES: Dict[str, Callable[[SimpleNamespace], Any]] = {
    "colour_loss": lambda x: (losses.colour_loss(x.rgb, x.target), losses.colour_loss(x.rgb, x.target, x.ray_weights)),
    "charbonnier_loss": lambda x: [
        losses.charbonnier_loss(x.rgb, x.target, weights, offset)
        for weights in (None, x.ray_weights)
        for offset in (0.0, 1e-3)
    ],
    "structural_dissimilarity": lambda x: losses.structural_dissimilarity(x.image, x.image_target),
    "edge_aware_smoothness": lambda x: losses.edge_aware_smoothness(x.distance_map, x.image_target, x.shown),
    "silhouette_loss": lambda x: losses.silhouette_loss(x.opacity, x.alpha_of_photo),
    "depth_ranking_loss": lambda x: losses.depth_ranking_loss(x.quads),
    "depth_gap_slope": quads_with_margins,
    "margins_of": quads_with_margins,
    "depth_continuity_loss": lambda x: losses.depth_continuity_loss(x.quads),
    "occlusion_loss": lambda x: losses.occlusion_loss(x.density, 2, losses.background_coloured(x.sample_rgb, 4)),
    "neighbour_differences": lambda x: [losses.neighbour_differences(x.patches, norm).sum() for norm in ("l1", "l2")],
    "patch_smoothness_loss": lambda x: losses.patch_smoothness_loss(x.patches, x.patch_opacity),
    "distortion_per_ray": lambda x: losses.distortion_per_ray(x.t, x.weights).sum(),
    "distortion_loss": lambda x: losses.distortion_loss(x.t, x.weights),
    "normalised_positions": lambda x: losses.distortion_loss(distortion.normalised_positions(x.t, GEOMETRY), x.weights),
    "plane_smoothness_loss": lambda x: losses.plane_smoothness_loss([x.plane]),
    "masked_mean": lambda x: depth_losses.masked_mean(x.rendered, x.valid),
    "mean_or_zero": lambda x: losses.mean_or_zero(x.rendered),
    "cdf_bound_losses": lambda x: [
        depth_losses.cdf_bound_losses(x.weights, middle(x), x.depth, x.sigma, beta, far_open)
        for beta in (0.0, 0.1)
        for far_open in (False, True)
    ],
    "open_bound_loss": lambda x: depth_losses.open_bound_loss(x.weights, middle(x), x.depth, x.sigma),
    "urf_losses": lambda x: [
        depth_losses.urf_losses(x.weights, middle(x), x.depth, width, squared)
        for width in (0.0, 0.3, x.sigma)
        for squared in (False, True)
    ],
    "ds_nerf_loss": lambda x: depth_losses.ds_nerf_loss(x.weights, x.t.detach(), x.depth, x.sigma),
    "depth_error": lambda x: depth_losses.depth_error(x.rendered, x.depth, x.depth > 0),
    "inverse_depth_error": lambda x: depth_losses.inverse_depth_error(x.rendered, x.depth, x.opacity > 0.5),
    "correlation_loss": lambda x: depth_losses.correlation_loss(
        x.rendered[:, 0], x.nearness[:, 0], x.valid[:, 0], x.views, x.least
    ),
    "nearness_correlation": lambda x: inverse.nearness_correlation(rendering(x), x.nearness, x.views),
    "measured_inverse_error": lambda x: inverse.measured_inverse_error(rendering(x), x.nearness),
    "metric_depth_terms": metric_terms,
    "l2_depth_terms": metric_terms,
    "interlevel_loss": lambda x: interval_losses.interlevel_loss(x.t, x.weights, x.t_envelope, x.envelope).sum(),
    "overlapping_weight": lambda x: interval_losses.overlapping_weight(x.t.detach(), x.t_envelope, x.envelope).sum(),
    "cumulative_around": lambda x: [
        each.sum() for each in interval_losses.cumulative_around(x.t.detach(), x.t_envelope, x.envelope)
    ],
    "normal_alignment_loss": lambda x: normal_losses.normal_alignment_loss(x.weights, x.normals, x.normal_target),
    "normal_chord_loss": lambda x: normal_losses.normal_chord_loss(x.weights, x.normals, x.normal_target),
    "orientation_loss": lambda x: normal_losses.orientation_loss(
        x.weights, x.normals, x.viewdirs, normal_losses.has_normal(x.normal_target)
    ),
    "view_consistency_loss": consistency,
    "warped_colours": consistency,
    "smallest_error": consistency,
    "colour_error": lambda x: view_consistency.colour_error(x.rgb, x.target).sum(),
    "cosine_similarity": lambda x: preprocessing.cosine_similarity(x.embedding, torch.ones(8)),
    "distillation_loss": lambda x: score_distillation.distillation_loss(x.latents, x.latents.detach()),
    "expected_distance": lambda x: renderers.expected_distance(x.weights, x.t.detach()).sum(),
    "expected_distance_clipped": lambda x: renderers.expected_distance_clipped(x.weights, x.t.detach()).sum(),
    "distance_deviation": lambda x: renderers.distance_deviation(x.weights, x.t.detach()).sum(),
    "accumulated_distance": lambda x: renderers.accumulated_distance(x.weights, x.t.detach()).sum(),
}
"""Name of a function -> what it gives of a scene: a scalar, or several."""
NO_LOSSES = {
    "cdf_sets": "masks",
    "background_coloured": "a mask",
    "has_normal": "a mask",
    "farthest_visible": "a constant of a photo",
    "normal_cdf": "of constants; in cdf_bound_losses",
    "known_depth": "a mask and constants",
    "resolved_near_weight": "a number of the config",
    "annealed_sigma": "a number of the config",
    "timestep_range": "numbers of the config",
    "gradient_weight": "a factor of time steps",
    "add_noise": "of constants",
    "guided_noise": "of constants",
    "diffusion_latents": "resizes",
    "lengthen_tokens": "of constants",
    "group_similarity": "features of source views",
}
"""Other functions of the modules of losses."""
MODULES = (losses, depth_losses, interval_losses, normal_losses, view_consistency, inverse, metric, score_distillation)
LOOKS_LIKE_A_LOSS = re.compile(r"loss|error|smoothness|dissimilarity|similarity|correlation|terms|distortion")
OF_PRIORS = {
    "occlusion": ["occlusion_loss"],
    "distortion": ["distortion_loss", "normalised_positions"],
    "normals": ["normal_alignment_loss", "normal_chord_loss", "orientation_loss"],
    "plane_smoothness": ["plane_smoothness_loss"],
    "depth": ["depth_ranking_loss", "depth_continuity_loss", "metric_depth_terms", "nearness_correlation"],
    "smoothness": ["patch_smoothness_loss"],
    "semantic": ["cosine_similarity"],
    "diffusion": ["distillation_loss"],
    "consistency": ["view_consistency_loss"],
    "edge_smoothness": ["edge_aware_smoothness"],
    "silhouette": ["silhouette_loss"],
}


def functions(module: ModuleType) -> Iterator[str]:
    """Names of the public functions that a module defines."""
    for name, value in vars(module).items():
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
            yield name


def scalars(found: Any) -> List[Tensor]:
    return [found] if isinstance(found, Tensor) else [scalar for part in found for scalar in scalars(part)]


def evaluated(loss: str, x: SimpleNamespace) -> Tuple[Tensor, List[Tensor]]:
    """Values of a loss, and the gradients of their sum by all that takes one."""
    values = torch.stack([value.float() for value in scalars(LOSSES[loss](x))])
    leaves = [leaf for leaf in x.leaves.values() if leaf.requires_grad]
    if not values.requires_grad:
        return values.detach(), []
    gradients = torch.autograd.grad(values.sum(), leaves, allow_unused=True)
    return values.detach(), [gradient for gradient in gradients if gradient is not None]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("loss", LOSSES)
def test_finite(loss: str, edge: str) -> None:
    values, gradients = evaluated(loss, scene(edge))
    assert values.isfinite().all(), values
    assert all(gradient.isfinite().all() for gradient in gradients)
    if edge in ("ordinary", "bfloat16"):
        # Not by being nothing.
        assert any((gradient != 0).any() for gradient in gradients)


OF_MEASURED_DEPTH = ("cdf_bound_losses", "open_bound_loss", "urf_losses", "ds_nerf_loss", "depth_error")
OF_MEASURED = (
    *OF_MEASURED_DEPTH,
    "metric_depth_terms",
    "inverse_depth_error",
    "normal_alignment_loss",
    "normal_chord_loss",
    "orientation_loss",
)


@pytest.mark.parametrize("edge", ["nothing_measured", "no_numbers_in_priors"])
@pytest.mark.parametrize("loss", OF_MEASURED)
def test_nothing_measured_costs_nothing(loss: str, edge: str) -> None:
    values, gradients = evaluated(loss, scene(edge))
    assert (values == 0).all() and all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("loss", OF_MEASURED_DEPTH)
def test_rays_without_a_number_do_not_change_the_others(loss: str) -> None:
    """The same value and gradients as without those rays."""
    whole = scene("ordinary")
    whole.depth[::2] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0]).repeat(6)[:, None]
    few = scene("ordinary")
    for name in ("weights", "t", "depth", "sigma", "rendered", "opacity"):
        part = getattr(few, name).detach()[1::2].clone().requires_grad_(name in ("weights", "rendered"))
        setattr(few, name, part)
        few.leaves[name] = part
    (values, of_whole), (expected, of_few) = evaluated(loss, whole), evaluated(loss, few)
    torch.testing.assert_close(values, expected)
    for theirs, ours in zip(of_few, of_whole, strict=True):
        torch.testing.assert_close(ours[1::2], theirs)
        assert (ours[::2] == 0).all()


def test_every_loss_is_listed() -> None:
    listed = {*LOSSES, *NO_LOSSES}
    for module in MODULES:
        missing = set(functions(module)) - listed
        assert not missing, f"{module.__name__}: give {sorted(missing)} a place in LOSSES or NO_LOSSES"
    for package in (fewshot_ns.model_components, fewshot_ns.priors):
        for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            alike = set(filter(LOOKS_LIKE_A_LOSS.search, functions(importlib.import_module(entry.name))))
            assert alike <= listed, f"{entry.name}: give {sorted(alike - listed)} a place in LOSSES or NO_LOSSES"


def test_every_prior_has_a_loss_here() -> None:
    assert set(OF_PRIORS) == set(prior_configs(FewShotPipelineConfig()))
    assert {loss for named in OF_PRIORS.values() for loss in named} <= set(LOSSES)
