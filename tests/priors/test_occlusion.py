"""The occlusion prior: which samples it covers, by the ray space and the samples of a ray, and its term."""

from __future__ import annotations

from typing import Any, Tuple

import pytest
import torch
from prior_scenes import context_of, rendering_of, scene_of, without_samples
from torch import Tensor

from fewshot_ns.model_components.losses import background_coloured, occlusion_loss
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.occlusion import OcclusionPrior, OcclusionPriorConfig

RAYS = 5


def make(ray_space: str = "metric", **fields: Any) -> OcclusionPrior:
    return OcclusionPriorConfig(**{"enabled": True, "weight": 1.0, **fields}).setup(
        scene=scene_of(ray_space), name="occlusion"
    )


def rendered(samples: int = 128) -> Tuple[Rendering, Tensor, Tensor]:
    """A rendering, its densities and its colours: two rays are white or black, one is grey, the others are mixed."""
    torch.manual_seed(0)
    density, rgb = torch.rand(RAYS, samples, requires_grad=True), torch.rand(RAYS, samples, 3)
    rgb[0], rgb[1], rgb[2] = 1.0, 0.0, 0.5
    weights, t = torch.rand(RAYS, samples) / samples, torch.rand(RAYS, samples + 1).sort(-1).values
    return rendering_of(weights, t, density=density, rgb=rgb.requires_grad_()), density, rgb


def term(prior: OcclusionPrior, rendering: Rendering, step: int = 0) -> Tensor:
    losses = prior.loss_dict(step, context_of(rendering))
    assert set(losses) == {"occlusion_loss"}
    return losses["occlusion_loss"]


@pytest.mark.parametrize("space, first, background", [("ndc", 20, 0), ("metric", 10, 20)])
def test_samples_of_freenerf(space: str, first: int, background: int) -> None:
    prior = make(space, weight=0.25)
    rendering, density, rgb = rendered()
    extra = background_coloured(rgb.detach(), background) if background else None
    assert extra is None or extra.any()
    torch.testing.assert_close(term(prior, rendering), 0.25 * occlusion_loss(density, first, extra))
    assert prior.resolved() == {"num_samples": f"{first} of 128", "background_samples": f"{background} of 128"}


@pytest.mark.parametrize("samples, counts", [(128, (10, 20)), (64, (5, 10)), (24, (2, 4))])
def test_share_of_the_rays_own_samples(samples: int, counts: Tuple[int, int]) -> None:
    assert make().counts_of(samples) == counts
    rendering, density, rgb = rendered(samples)
    expected = occlusion_loss(density, counts[0], background_coloured(rgb.detach(), counts[1]))
    torch.testing.assert_close(term(make(), rendering), expected)


def test_given_numbers_are_kept() -> None:
    prior = make(num_samples=2, background_samples=1)
    assert prior.counts_of(128) == prior.counts_of(24) == (2, 1)
    assert prior.resolved() == {"num_samples": 2, "background_samples": 1}


def test_background_colours_count_and_others_do_not() -> None:
    rendering, _, rgb = rendered()
    assert term(make(num_samples=2, background_samples=6), rendering) > term(
        make(num_samples=2, background_samples=0), rendering
    )
    with torch.no_grad():
        rgb.fill_(0.5)
    assert torch.equal(
        term(make(num_samples=2, background_samples=6), rendering),
        term(make(num_samples=2, background_samples=0), rendering),
    )


def test_the_gradient_reaches_the_first_densities_alone() -> None:
    rendering, density, rgb = rendered()
    term(make(num_samples=3, background_samples=0), rendering).backward()
    assert density.grad is not None and (density.grad[:, :3] > 0).all() and not density.grad[:, 3:].any()
    density.grad = None
    term(make(num_samples=0, background_samples=20), rendering).backward()
    # Colours say which samples count; they are not moved.
    assert rgb.grad is None and density.grad is not None
    assert density.grad[:2, :20].all() and not density.grad[2].any()


def test_weight_and_fade_scale_the_term() -> None:
    rendering, _, _ = rendered()
    fading = make(weight=2.0, fade_start_step=0, fade_end_step=10, fade_ratio=0.0)
    once = float(term(make(), rendering))
    for step, factor in ((0, 2.0), (5, 1.0), (10, 0.0)):
        assert float(term(fading, rendering, step)) == pytest.approx(factor * once)


def test_needs() -> None:
    needs = make().needs
    assert set(needs.served) == {"density"} and not needs.labels and needs.request is None
    assert not needs.single_scene and "dropout" in needs.alternative
    assert make().loss_dict(0, context_of(without_samples(rendered()[0]))) == {}
