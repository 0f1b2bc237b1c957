"""The depth prior: when its terms count, on which rays, with which weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewshot_ns.model_components.losses import depth_continuity_loss, depth_ranking_loss
from fewshot_ns.priors.depth.prior import DepthPrior, DepthPriorConfig


def prior(**changes: Any) -> DepthPrior:
    settings = dict(enabled=True, ranking_weight=1.0, ranking_margin_scale=0.0, continuity_weight=1.0)
    return DepthPriorConfig(**{**settings, **changes}).setup()


@pytest.fixture
def distance() -> torch.Tensor:
    """Distances of three quads and four single rays."""
    return torch.rand(16, 1, generator=torch.Generator().manual_seed(0))


def test_terms_of_the_quads_alone(distance: torch.Tensor) -> None:
    distance.requires_grad_(True)
    losses = prior(ranking_weight=2.0, continuity_weight=0.5, ranking_margin=0.1, continuity_margin=0.2).loss_dict(
        distance, gaps=torch.zeros(3), interval=1.0, step=0
    )
    quads = distance[:12, 0].reshape(3, 4)
    assert list(losses) == ["depth_ranking", "depth_continuity"]
    assert torch.equal(losses["depth_ranking"], 2.0 * depth_ranking_loss(quads, 0.1))
    assert torch.equal(losses["depth_continuity"], 0.5 * depth_continuity_loss(quads, 0.2))
    (gradient,) = torch.autograd.grad(losses["depth_ranking"] + losses["depth_continuity"], distance)
    assert (gradient[12:] == 0).all() and (gradient[:12] != 0).any()


def test_a_pair_in_the_wrong_order_is_pushed_apart() -> None:
    # p0 is nearer by the prior and rendered farther.
    distance = torch.tensor([[2.0], [1.0], [2.0], [1.0]], requires_grad=True)
    losses = prior().loss_dict(distance, gaps=torch.tensor([0.5]), interval=3.0, step=0)
    assert losses["depth_ranking"].item() == pytest.approx(1.0 + 1e-4)
    (gradient,) = torch.autograd.grad(losses["depth_ranking"], distance)
    assert gradient[0] > 0 > gradient[1]


def test_margin_grows_with_the_gap_where_asked_for(distance: torch.Tensor) -> None:
    gaps = torch.tensor([0.0, 0.5, 1.0])
    wide = prior(ranking_margin=0.1, ranking_margin_scale=0.2).loss_dict(distance, gaps, interval=3.0, step=0)
    quads = distance[:12, 0].reshape(3, 4)
    expected = sum(max(float(q[0] - q[1]) + 0.1 + 0.6 * float(g), 0.0) for q, g in zip(quads, gaps, strict=True)) / 3
    assert float(wide["depth_ranking"]) == pytest.approx(expected, rel=1e-5)


def test_fitted_margin_follows_the_rendered_slope_of_each_view() -> None:
    # View 0 is rendered with slope 2 but for one pair, view 1 flat.
    distance = torch.tensor([[1.0, 2.0], [1.0, 1.9], [1.0, 1.0]]).repeat_interleave(2, 0).reshape(3, 2, 2)
    distance = torch.cat([distance[:, 0], distance[:, 1]], dim=-1).reshape(-1, 1).requires_grad_(True)
    gaps, views = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0, 0, 1])
    settings = dict(ranking_margin=0.0, ranking_margin_scale=0.1, ranking_margin_fit=0.99)
    losses = prior(**settings).loss_dict(distance, gaps, interval=1.0, step=0, views=views)
    # Fitted slope of view 0: (0.5 * 1 + 0.5 * 0.9) / (0.25 + 0.25) = 1.9; that of view 1 is zero, so 0.1 counts.
    first, second, third = (max(0.99 * 1.9 * 0.5 - moved, 0.0) for moved in (1.0, 0.9, 9.0))
    assert float(losses["depth_ranking"]) == pytest.approx((first + second + third + 0.05) / 3, rel=1e-5)
    (gradient,) = torch.autograd.grad(losses["depth_ranking"], distance)
    # The fit itself is not differentiated: a pair that violates nothing gets nothing.
    assert gradient[:4].abs().sum() == 0 and gradient[4:6].abs().sum() > 0


def test_weights_fade(distance: torch.Tensor) -> None:
    fading = prior(fade_start_step=10, fade_end_step=20, fade_ratio=0.2)
    assert [fading.fade(step) for step in (0, 10, 15, 20, 99)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert [prior().fade(step) for step in (0, 10**6)] == [1.0, 1.0]
    early, late = (fading.loss_dict(distance, torch.zeros(3), 1.0, step) for step in (0, 20))
    for name, value in early.items():
        assert float(late[name]) == pytest.approx(0.2 * float(value))


def test_steps_at_which_the_terms_count(distance: torch.Tensor) -> None:
    bounded = prior(start_step=10, stop_step=20)
    assert [step for step in range(30) if bounded.loss_dict(distance, torch.zeros(3), 1.0, step)] == list(range(10, 20))
    assert prior(start_step=5).active(10**9) and not prior(start_step=5).active(4)
    assert prior(stop_step=1).active(0) and not prior(stop_step=1).active(1)


def test_off_by_default_and_without_quads(distance: torch.Tensor) -> None:
    assert not DepthPriorConfig().enabled
    assert prior(enabled=False).loss_dict(distance, torch.zeros(3), 1.0, 0) == {}
    assert prior().loss_dict(distance, torch.zeros(0), 1.0, 0) == {}
