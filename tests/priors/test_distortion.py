"""The distortion prior: its term on the final level."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from prior_scenes import context_of, rendering_of, scene_of, without_samples

from fewshot_ns.model_components.losses import distortion_loss
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.distortion import DistortionPrior, DistortionPriorConfig


def make(scene: Any = None, **fields: Any) -> DistortionPrior:
    scene = scene_of() if scene is None else scene
    return DistortionPriorConfig(enabled=True, **fields).setup(scene=scene, name="distortion")


@pytest.fixture
def rendering() -> Rendering:
    torch.manual_seed(0)

    def level() -> Any:
        return (torch.rand(4, 6) / 6).requires_grad_(), torch.rand(4, 7).sort(-1).values

    return rendering_of(*level(), coarse=rendering_of(*level()))


def test_term_of_the_final_level(rendering: Rendering) -> None:
    assert rendering.samples is not None and rendering.coarse is not None and rendering.coarse.samples is not None
    losses = make(weight=0.1).loss_dict(0, context_of(rendering))
    expected = distortion_loss(rendering.samples.t, rendering.samples.weights)
    assert set(losses) == {"distortion_loss"} and losses["distortion_loss"] > 0
    torch.testing.assert_close(losses["distortion_loss"], 0.1 * expected)
    losses["distortion_loss"].backward()
    assert rendering.samples.weights.grad is not None and rendering.coarse.samples.weights.grad is None


def test_weight_and_fade_scale_the_term(rendering: Rendering) -> None:
    context = context_of(rendering)
    once = float(make(weight=1.0).loss_dict(0, context)["distortion_loss"])
    fading = make(weight=3.0, fade_start_step=2, fade_end_step=4, fade_ratio=0.5)
    for step, factor in ((0, 3.0), (3, 2.25), (9, 1.5)):
        assert float(fading.loss_dict(step, context)["distortion_loss"]) == pytest.approx(factor * once)


def test_needs(rendering: Rendering) -> None:
    needs = make().needs
    assert set(needs.served) == {"samples"} and not needs.labels and needs.request is None
    assert not needs.single_scene and "--pipeline.smoothness" in needs.alternative
    assert make().loss_dict(0, context_of(without_samples(rendering))) == {}
    assert not DistortionPriorConfig().enabled


def test_in_long_intervals_positions_are_shares_of_the_way(rendering: Rendering) -> None:
    """So that the term does not grow with the unit of length, nor with how far away the background is."""
    assert rendering.samples is not None
    near, far = 0.1, 100.0
    share = rendering.samples.t
    t = near * (far / near) ** share
    context = context_of(rendering_of(rendering.samples.weights, t))
    expected = distortion_loss(share, rendering.samples.weights)
    prior = make(scene_of("metric", near, far), weight=0.1)
    torch.testing.assert_close(prior.loss_dict(0, context)["distortion_loss"], 0.01 * expected)
    assert prior.resolved() == {"normalised": True, "weight": 0.01}
    assert make(scene_of("metric", near, far), weight=0.002).weight == 0.002
    asked = make(scene_of("metric", near, far), weight=0.1, normalised=True)
    torch.testing.assert_close(asked.loss_dict(0, context)["distortion_loss"], 0.1 * expected)
    raw = distortion_loss(t, rendering.samples.weights)
    for plain in (make(scene_of("metric", 10.0, 15.0)), make(scene_of("metric", near, far), normalised=False)):
        assert plain.resolved() == {}
        torch.testing.assert_close(plain.loss_dict(0, context)["distortion_loss"], 0.01 * raw)
    for scene in (scene_of("ndc"), scene_of("metric", 0.0, 1.0)):
        assert make(scene).resolved() == {}
        with pytest.raises(ValueError, match="--pipeline.distortion.normalised: expected a metric scene"):
            make(scene, normalised=True)
