"""The smoothness prior: its term against a naive one, its weights, and when it is off."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import torch
from prior_scenes import context_of, pixels_of, rendering_of, scene_of
from torch import Tensor

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.model_components.losses import neighbour_differences, patch_smoothness_loss
from fewshot_ns.model_components.renderers import expected_distance_clipped
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.base import CameraRequest
from fewshot_ns.priors.smoothness import SmoothnessPrior, SmoothnessPriorConfig


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


def patches_of(patches: int = 2, size: int = 4, coarse: bool = True) -> Rendering:
    """Pixels (patches, size, size) of a ray backbone."""
    count = patches * size * size

    def level(**fields: Any) -> Rendering:
        t = torch.rand(count, 7).sort(dim=-1).values
        return rendering_of((torch.rand(count, 6) / 6).requires_grad_(True), t, **fields)

    return level(coarse=level() if coarse else None).reshape(patches, size, size)


def make(ray_space: Any = "metric", **fields: Any) -> SmoothnessPrior:
    config = SmoothnessPriorConfig(**{"enabled": True, "patch_size": 4, **fields})
    return config.setup(scene=scene_of(ray_space), name="smoothness")


def terms(prior: SmoothnessPrior, patches: Any, step: int = 0) -> Dict[str, Tensor]:
    return prior.loss_dict(step, context_of(pixels_of(torch.ones(5, 1)), patches))


def weights_and_fenceposts(level: Any) -> Any:
    return level.flatten().samples.weights, level.flatten().samples.t


def test_weights_of_both_levels() -> None:
    prior, patches = make(weight_start=8.0, weight_end=2.0, ramp_steps=4, coarse_weight=0.5), patches_of()
    plain = []
    for level in (patches, patches.coarse):
        weights, t = weights_and_fenceposts(level)
        shape = (2, 4, 4)
        distance = expected_distance_clipped(weights, t).reshape(shape)
        plain.append(float(patch_smoothness_loss(distance, weights.sum(-1).reshape(shape)).detach()))
    for step, weight in ((0, 6.5), (1, 5.0), (3, 2.0), (100, 2.0)):
        losses = terms(prior, patches, step)
        assert float(losses["depth_smoothness"].detach()) == pytest.approx(weight * plain[0])
        assert float(losses["depth_smoothness_coarse"].detach()) == pytest.approx(0.5 * plain[1])


def test_fading_scales_both_levels() -> None:
    patches = patches_of()
    plain, faded = terms(make(), patches, 10), terms(make(fade_end_step=10, fade_ratio=0.25), patches, 10)
    assert set(plain) == {"depth_smoothness", "depth_smoothness_coarse"}
    for name, value in plain.items():
        assert float(faded[name].detach()) == pytest.approx(0.25 * float(value.detach()))


def test_a_model_without_a_coarse_level() -> None:
    losses = terms(make(), patches_of(coarse=False))
    assert set(losses) == {"depth_smoothness"}
    losses["depth_smoothness"].backward()


def test_a_backbone_without_rays_is_compared_by_its_distances() -> None:
    distance = (1.0 + torch.rand(2, 4, 4, 1)).requires_grad_(True)
    opacity = torch.rand(2, 4, 4, 1)
    losses = terms(make(weight_start=1.0, weight_end=1.0), pixels_of(distance, opacity))
    assert float(losses["depth_smoothness"].detach()) == pytest.approx(
        naive(distance[..., 0], opacity[..., 0]), rel=1e-5
    )
    losses["depth_smoothness"].backward()
    assert distance.grad is not None and distance.grad.any()


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
    # Where the factor is zero nothing is rendered, and so there is no term.
    assert prior.needs.request == ("cameras" if prior.active else None)
    assert set(prior.needs.served) == ({"unseen_views"} if prior.active else set())
    assert prior.request(0) is None and terms(prior, None) == {}
    assert prior.resolved() == {"factor": factor, "num_patches": 64 if prior.active else 0}


def test_empty_rays_have_a_finite_gradient() -> None:
    weights = torch.zeros(32, 6, requires_grad=True)
    patches = rendering_of(weights, torch.rand(32, 7).sort(dim=-1).values).reshape(2, 4, 4)
    terms(make(), patches)["depth_smoothness"].backward()
    assert weights.grad is not None and weights.grad.isfinite().all()


def test_each_step_asks_for_patches_of_views_of_their_own(tiny_pipeline_config: Any, tiny_llff_scene: Any) -> None:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    smooth = config.smoothness
    smooth.enabled, smooth.factor, smooth.patch_size, smooth.num_patches, smooth.num_poses = True, 1.0, 4, 3, 50
    pipeline = config.setup(device="cpu", test_mode="val")
    prior, seen = pipeline.priors.all["smoothness"], pipeline.datamanager.train_dataset.cameras
    requests = [prior.request(step) for step in range(2)]
    for request in requests:
        assert isinstance(request, CameraRequest) and request.footprint_scale == 1.0
        assert request.cameras.shape == (3,) and set(request.cameras.height.flatten().tolist()) == {4}
        poses = request.cameras.camera_to_worlds[:, :, 3]
        assert torch.cdist(poses, seen.camera_to_worlds[:, :, 3]).min() > 1e-4
    assert not torch.equal(*(request.cameras.camera_to_worlds for request in requests))
    assert pipeline.resolved()["smoothness"] == {"factor": 1.0, "num_patches": 3}
    losses = pipeline.get_train_loss_dict(0)[1]
    assert losses["depth_smoothness"].isfinite()
