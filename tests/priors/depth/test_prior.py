"""The depth prior: when its terms count, on which rays, with which weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from prior_scenes import context_of, pixels_of, scene_of

from fewshot_ns.data.records.metadata import PairBox
from fewshot_ns.model_components.losses import depth_continuity_loss, depth_ranking_loss
from fewshot_ns.priors.depth.prior import DepthPrior, DepthPriorConfig


def prior(**changes: Any) -> DepthPrior:
    settings = dict(enabled=True, ranking_weight=1.0, ranking_margin_scale=0.0, continuity_weight=1.0)
    near_far = {"far": changes.pop("interval", 1.0)}
    return DepthPriorConfig(**{**settings, **changes}).setup(scene=scene_of(**near_far), name="depth")


@pytest.fixture
def quads() -> torch.Tensor:
    """Distances (3, 4) of three quads."""
    return torch.rand(3, 4, generator=torch.Generator().manual_seed(0))


def test_terms_of_the_quads_alone(quads: torch.Tensor) -> None:
    """The term sees what the prior asked for; the other pixels of the batch do not matter."""
    depth = prior(ranking_weight=2.0, continuity_weight=0.5, ranking_margin=0.1, continuity_margin=0.2)
    depth._gaps, depth._views = torch.zeros(3), torch.zeros(3, dtype=torch.long)
    distance = torch.cat([quads.reshape(-1, 1), torch.rand(4, 1)]).requires_grad_(True)
    photos = pixels_of(distance)
    losses = depth.loss_dict(0, context_of(photos, photos[:12]))
    assert list(losses) == ["depth_ranking", "depth_continuity"]
    assert torch.equal(losses["depth_ranking"], 2.0 * depth_ranking_loss(quads, 0.1))
    assert torch.equal(losses["depth_continuity"], 0.5 * depth_continuity_loss(quads, 0.2))
    (gradient,) = torch.autograd.grad(losses["depth_ranking"] + losses["depth_continuity"], distance)
    assert (gradient[12:] == 0).all() and (gradient[:12] != 0).any()


def test_a_pair_in_the_wrong_order_is_pushed_apart() -> None:
    # p0 is nearer by the prior and rendered farther.
    quads = torch.tensor([[2.0, 1.0, 2.0, 1.0]], requires_grad=True)
    losses = prior(interval=3.0).ranking_terms(quads, torch.tensor([0.5]), step=0)
    assert losses["depth_ranking"].item() == pytest.approx(1.0 + 1e-4)
    (gradient,) = torch.autograd.grad(losses["depth_ranking"], quads)
    assert gradient[0, 0] > 0 > gradient[0, 1]


def test_margin_grows_with_the_gap_where_asked_for(quads: torch.Tensor) -> None:
    gaps = torch.tensor([0.0, 0.5, 1.0])
    wide = prior(ranking_margin=0.1, ranking_margin_scale=0.2, interval=3.0).ranking_terms(quads, gaps, step=0)
    expected = sum(max(float(q[0] - q[1]) + 0.1 + 0.6 * float(g), 0.0) for q, g in zip(quads, gaps, strict=True)) / 3
    assert float(wide["depth_ranking"]) == pytest.approx(expected, rel=1e-5)


def test_fitted_margin_follows_the_rendered_slope_of_each_view() -> None:
    # View 0 is rendered with slope 2 but for one pair, view 1 flat.
    quads = torch.tensor([[1.0, 2.0], [1.0, 1.9], [1.0, 1.0]]).repeat(1, 2).requires_grad_(True)
    gaps, views = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0, 0, 1])
    settings = dict(ranking_margin=0.0, ranking_margin_scale=0.1, ranking_margin_fit=0.99)
    losses = prior(**settings).ranking_terms(quads, gaps, step=0, views=views)
    # Fitted slope of view 0: (0.5 * 1 + 0.5 * 0.9) / (0.25 + 0.25) = 1.9; that of view 1 is zero, so 0.1 counts.
    first, second, third = (max(0.99 * 1.9 * 0.5 - moved, 0.0) for moved in (1.0, 0.9, 9.0))
    assert float(losses["depth_ranking"]) == pytest.approx((first + second + third + 0.05) / 3, rel=1e-5)
    (gradient,) = torch.autograd.grad(losses["depth_ranking"], quads)
    # The fit itself is not differentiated: a pair that violates nothing gets nothing.
    assert gradient[0].abs().sum() == 0 and gradient[1, :2].abs().sum() > 0


def test_weights_fade(quads: torch.Tensor) -> None:
    fading = prior(fade_start_step=10, fade_end_step=20, fade_ratio=0.2)
    assert [fading.config.fade(step) for step in (0, 10, 15, 20, 99)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert [prior().config.fade(step) for step in (0, 10**6)] == [1.0, 1.0]
    early, late = (fading.ranking_terms(quads, torch.zeros(3), step) for step in (0, 20))
    for name, value in early.items():
        assert float(late[name]) == pytest.approx(0.2 * float(value))


def test_steps_at_which_the_terms_count() -> None:
    bounded = prior(start_step=10, stop_step=20).config
    assert [step for step in range(30) if bounded.counts(step)] == list(range(10, 20))
    assert prior(start_step=5).config.counts(10**9) and not prior(start_step=5).config.counts(4)
    assert prior(stop_step=1).config.counts(0) and not prior(stop_step=1).config.counts(1)


def test_off_by_default_and_without_quads(quads: torch.Tensor) -> None:
    assert not DepthPriorConfig().enabled
    assert prior().loss_dict(0, context_of(pixels_of(quads.reshape(-1, 1)))) == {}
    assert prior().ranking_terms(torch.zeros(0, 4), torch.zeros(0), 0) == {}


@pytest.mark.parametrize(
    "loss, request_kind, served, labels",
    [
        ("ranking", "pixels", set(), set()),
        ("cdf", None, {"samples"}, {"depth"}),
        ("urf", None, {"samples"}, {"depth"}),
        ("ds-nerf", None, {"samples"}, {"depth"}),
        ("l2", None, set(), {"depth"}),
        ("pearson", None, set(), {"nearness"}),
        ("inverse-l1", None, set(), {"nearness"}),
        ("none", None, set(), set()),
    ],
)
def test_needs_of_each_loss(loss: Any, request_kind: Any, served: set, labels: set) -> None:
    needs = prior(loss=loss).needs
    assert (needs.request, set(needs.served), set(needs.labels)) == (request_kind, served, labels)
    assert needs.single_scene


@pytest.mark.parametrize(
    "ray_space, box, weights",
    [
        ("ndc", None, (0.5, 0.005, 30)),
        ("ndc", PairBox(5, 1), (0.5, 0.05, 30)),
        ("metric", None, (0.2, 0.2, None)),
    ],
)
def test_fields_of_sparsenerf_resolve_from_the_scene(ray_space: Any, box: Any, weights: tuple) -> None:
    config = DepthPriorConfig(
        enabled=True, ranking_weight=None, continuity_weight=None, box_fraction=None, num_quads=None
    )
    depth = config.setup(scene=scene_of(ray_space, num_rays=64, pair_box=box), name="depth")
    names = ("ranking_weight", "continuity_weight", "box_pixels")
    quads = 16 if box is None else 8
    assert depth.resolved() == {**dict(zip(names, weights, strict=True)), "box_fraction": 1.0, "num_quads": quads}
