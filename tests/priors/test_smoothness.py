"""The smoothness prior: its term against a naive one, its weights, and when it is off."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import torch
from torch import Tensor

from fewshot_ns.model_components.losses import neighbour_differences, patch_smoothness_loss
from fewshot_ns.model_components.renderers import expected_distance_clipped
from fewshot_ns.priors.smoothness import SmoothnessPriorConfig


def naive(distance: Tensor, opacity: Tensor) -> float:
    total, count = 0.0, 0
    for patch in range(distance.shape[0]):
        for row in range(distance.shape[1] - 1):
            for column in range(distance.shape[2] - 1):
                here = distance[patch, row, column]
                right, below = distance[patch, row, column + 1], distance[patch, row + 1, column]
                total += float(opacity[patch, row, column] * ((here - right) ** 2 + (here - below) ** 2))
                count += 1
    return total / count


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_term_is_the_naive_one() -> None:
    distance, opacity = torch.rand(3, 5, 4, dtype=torch.float64), torch.rand(3, 5, 4, dtype=torch.float64)
    assert float(patch_smoothness_loss(distance, opacity)) == pytest.approx(naive(distance, opacity))
    assert float(patch_smoothness_loss(torch.ones(2, 4, 4), torch.ones(2, 4, 4))) == 0.0


def test_gradient_reaches_distances_and_not_opacities() -> None:
    distance = torch.rand(2, 4, 4, dtype=torch.float64, requires_grad=True)
    opacity = torch.rand(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: patch_smoothness_loss(x, opacity), distance)
    patch_smoothness_loss(distance, opacity).backward()
    assert distance.grad is not None and opacity.grad is None


def test_unknown_norm_is_named() -> None:
    with pytest.raises(ValueError, match="'l1' or 'l2', got 'l3'"):
        neighbour_differences(torch.rand(2, 4, 4), "l3")  # type: ignore[arg-type]


def rays(patches: int = 2, size: int = 4, coarse: bool = True) -> Dict[str, Tensor]:
    count = patches * size * size
    outputs = {}
    for suffix in ("", "_coarse") if coarse else ("",):
        outputs[f"t{suffix}"] = torch.rand(count, 7).sort(dim=-1).values
        outputs[f"weights{suffix}"] = (torch.rand(count, 6) / 6).requires_grad_(True)
    return outputs


def make(ray_space: Any = "metric", **fields: Any) -> Any:
    return SmoothnessPriorConfig(**{"enabled": True, "patch_size": 4, **fields}).setup(ray_space=ray_space)


def test_weights_of_both_levels() -> None:
    prior, outputs = make(weight_start=8.0, weight_end=2.0, ramp_steps=4, coarse_weight=0.5), rays()
    plain = {}
    for suffix in ("", "_coarse"):
        weights, t = outputs[f"weights{suffix}"], outputs[f"t{suffix}"]
        shape = (2, 4, 4)
        distance = expected_distance_clipped(weights, t).reshape(shape)
        plain[suffix] = float(patch_smoothness_loss(distance, weights.sum(-1).reshape(shape)).detach())
    for step, weight in ((0, 6.5), (1, 5.0), (3, 2.0), (100, 2.0)):
        losses = prior.loss_dict(outputs, step)
        assert float(losses["depth_smoothness"].detach()) == pytest.approx(weight * plain[""])
        assert float(losses["depth_smoothness_coarse"].detach()) == pytest.approx(0.5 * plain["_coarse"])


def test_a_model_without_a_coarse_level() -> None:
    losses = make().loss_dict(rays(coarse=False), step=0)
    assert set(losses) == {"depth_smoothness"}
    losses["depth_smoothness"].backward()


@pytest.mark.parametrize(
    "ray_space, fields, factor",
    [
        ("metric", {}, 1.0),
        ("ndc", {}, 0.0),
        ("ndc", {"factor": 2.0}, 2.0),
        ("metric", {"factor": 0.0}, 0.0),
        ("metric", {"enabled": False}, 0.0),
    ],
)
def test_factor_resolves_from_the_ray_space(ray_space: str, fields: Dict[str, Any], factor: float) -> None:
    prior = make(ray_space, **fields)
    assert prior.factor == factor and prior.active == (factor != 0)
    assert bool(prior.loss_dict(rays(), step=0)) == prior.active
    assert prior.resolved() == ({} if fields.get("enabled") is False else {"factor": factor})


def test_empty_rays_have_a_finite_gradient() -> None:
    outputs = rays(coarse=False)
    with torch.no_grad():
        outputs["weights"].zero_()
    make().loss_dict(outputs, step=0)["depth_smoothness"].backward()
    assert outputs["weights"].grad is not None and outputs["weights"].grad.isfinite().all()
