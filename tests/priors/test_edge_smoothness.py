"""The edge smoothness prior: which pixels of a step it looks at, its weight, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from prior_scenes import context_of, pixels_of, scene_of
from torch import Tensor

from fewshot_ns.model_components.losses import edge_aware_smoothness
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.edge_smoothness import EdgeSmoothnessPrior, EdgeSmoothnessPriorConfig, nearest_angle

HEIGHT, WIDTH, OTHERS = 4, 6, 3


def make(whole_images: bool = True, cameras: Any = None, has_alpha: bool = False, **fields: Any) -> EdgeSmoothnessPrior:
    scene = scene_of()
    dataset: Any = SimpleNamespace(**vars(scene.dataset), cameras=cameras, has_alpha=has_alpha)
    return EdgeSmoothnessPriorConfig(**{"enabled": True, "weight": 1.0, **fields}).setup(
        scene=replace(scene, dataset=dataset, whole_images=whole_images), name="edge_smoothness"
    )


def around(*degrees: float) -> Cameras:
    """Cameras on a circle of radius 2 that look at its centre."""
    angles = torch.deg2rad(torch.tensor(degrees))
    backward = torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()], dim=-1)
    right = torch.stack([angles.cos(), torch.zeros_like(angles), -angles.sin()], dim=-1)
    up = torch.tensor([0.0, 1.0, 0.0]).expand(len(angles), 3)
    return Cameras(torch.stack([right, up, backward, 2.0 * backward], dim=-1), 10.0, 10.0, 5.0, 5.0)


def step() -> Tuple[Rendering, Tensor, Dict[str, Any]]:
    """Pixels of a prior and an image after them, their distances, and the batch."""
    torch.manual_seed(0)
    count = OTHERS + HEIGHT * WIDTH
    distance = (1.0 + torch.rand(count, 1)).requires_grad_()
    batch = {"image": torch.rand(count, 3), "image_size": (HEIGHT, WIDTH)}
    return pixels_of(distance, torch.rand(count, 1)), distance, batch


def test_it_looks_at_the_image_that_the_batch_ends_with() -> None:
    photos, distance, batch = step()
    losses = make(weight=0.5, edge=2.0).loss_dict(0, context_of(photos, batch=batch))
    parts = (values[OTHERS:].reshape(HEIGHT, WIDTH, -1) for values in (distance, batch["image"], photos.accumulation))
    of_image, image, opacity = parts
    expected = edge_aware_smoothness(of_image[..., 0], image, opacity[..., 0] > 0.5, 2.0)
    assert set(losses) == {"edge_smoothness"}
    torch.testing.assert_close(losses["edge_smoothness"], 0.5 * expected)
    losses["edge_smoothness"].backward()
    assert distance.grad is not None and not distance.grad[:OTHERS].any() and distance.grad[OTHERS:].any()


def test_weight_fades() -> None:
    photos, _, batch = step()
    fading = make(fade_start_step=0, fade_end_step=10, fade_ratio=0.0)
    once = float(make().loss_dict(0, context_of(photos, batch=batch))["edge_smoothness"])
    for number, factor in ((0, 1.0), (5, 0.5), (10, 0.0)):
        term = fading.loss_dict(number, context_of(photos, batch=batch))["edge_smoothness"]
        assert float(term) == pytest.approx(factor * once)


def test_single_pixels_and_negative_fields_are_refused() -> None:
    make().prepare()
    with pytest.raises(ValueError, match="--pipeline.edge-smoothness.enabled: expected steps that train a whole image"):
        make(whole_images=False).prepare()
    with pytest.raises(ValueError, match="expected --pipeline.edge-smoothness.weight of at least 0, got -1"):
        make(weight=-1.0)
    with pytest.raises(ValueError, match="expected --pipeline.edge-smoothness.edge of at least 0, got -1"):
        make(edge=-1.0)


def test_angle_to_the_nearest_photo() -> None:
    geometry = scene_of().geometry
    assert nearest_angle(around(0.0, 10.0, 40.0), geometry) == pytest.approx(10.0, abs=1e-3)
    assert nearest_angle(around(0.0, 100.0, 160.0, 220.0), geometry) == pytest.approx(60.0, abs=1e-3)
    assert nearest_angle(around(5.0), geometry) == 0.0


@pytest.mark.parametrize(
    "degrees, has_alpha, weight",
    [((0.0, 40.0, 80.0), False, 3.0), ((0.0, 40.0, 80.0), True, 0.0), ((0, 9), False, 0.0)],
)
def test_the_scene_decides_the_weight_where_none_is_given(degrees: tuple, has_alpha: bool, weight: float) -> None:
    prior = make(weight=None, cameras=around(*degrees), has_alpha=has_alpha)
    prior.prepare()
    photos, _, batch = step()
    assert prior.resolved() == {"weight": weight}
    assert bool(prior.loss_dict(0, context_of(photos, batch=batch))) == (weight > 0)


def test_a_given_weight_is_kept_and_nothing_is_read_before_training() -> None:
    prior = make(weight=0.5, cameras=around(0.0, 90.0))
    prior.prepare()
    assert prior.resolved() == {"weight": 0.5}
    # Where a run is rendered, its photos may be gone: the constructor asks for neither alpha nor cameras.
    EdgeSmoothnessPriorConfig(enabled=True).setup(scene=scene_of(), name="edge_smoothness")
