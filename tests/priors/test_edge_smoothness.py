"""The edge smoothness prior: its term, its weight over time, which pixels count, and where it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Optional, Tuple

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from prior_scenes import context_of, pixels_of, scene_of
from torch import Tensor

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.samplers.pixels import PixelRequest
from fewshot_ns.model_components.losses import edge_aware_smoothness
from fewshot_ns.priors.base import PriorScene
from fewshot_ns.priors.edge_smoothness import EdgeSmoothnessPrior, EdgeSmoothnessPriorConfig, nearest_angle

SIZE = (5, 7)


def make(whole_images: bool = True, **fields: Any) -> EdgeSmoothnessPrior:
    scene = replace(scene_of(), whole_images=whole_images)
    config = EdgeSmoothnessPriorConfig(**{"enabled": True, "weight": 1.0, **fields})
    return config.setup(scene=scene, name="edge_smoothness")


@pytest.fixture
def step() -> Tuple[Tensor, Tensor, Dict[str, Any]]:
    """Distances (35, 1) and opacities (35, 1), a fifth of them below a half, of an image, and its batch."""
    generator = torch.Generator().manual_seed(0)
    distance = 1.0 + torch.rand(35, 1, generator=generator)
    opacity = torch.rand(35, 1, generator=generator) + torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5]).repeat(7)[:, None]
    image = torch.rand(35, 3, generator=generator)
    return distance.requires_grad_(), opacity.clamp(max=1.0), {"image": image, "image_size": SIZE}


def term(prior: EdgeSmoothnessPrior, distance: Tensor, opacity: Tensor, batch: Dict[str, Any], at: int = 0) -> Tensor:
    losses = prior.loss_dict(at, context_of(pixels_of(distance, opacity), batch=batch))
    assert set(losses) == {"edge_smoothness"}
    return losses["edge_smoothness"]


def test_the_term_is_that_of_the_image_where_it_is_opaque(step: Any) -> None:
    distance, opacity, batch = step
    opacity.requires_grad_()
    shown = opacity.detach() > 0.5
    assert 0 < shown.sum() < 35
    parts = distance.reshape(SIZE), batch["image"].reshape(*SIZE, 3), shown.reshape(SIZE)
    found = term(make(weight=0.3, edge=4.0), *step)
    assert found > 0
    torch.testing.assert_close(found, 0.3 * edge_aware_smoothness(*parts, 4.0))
    of_distance, of_opacity = torch.autograd.grad(found, (distance, opacity), allow_unused=True)
    assert of_opacity is None and not of_distance[~shown].any() and of_distance[shown].any()


def test_a_step_is_smoothed_unless_the_photo_has_an_edge_there() -> None:
    distance = torch.full(SIZE, 2.0)
    distance[:, 4:] = 1.0
    flat, edge = torch.full((*SIZE, 3), 0.5), torch.zeros(*SIZE, 3)
    edge[:, 4:] = 1.0
    terms = []
    for image in (flat, edge):
        depth = distance.reshape(-1, 1).clone().requires_grad_()
        batch = {"image": image.reshape(-1, 3), "image_size": SIZE}
        loss = term(make(), depth, torch.ones(35, 1), batch)
        terms.append(float(loss.detach()))
        (gradient,) = torch.autograd.grad(loss, depth)
        rows = gradient.reshape(SIZE)
        # The farther side comes nearer, the nearer side goes away.
        assert (rows[:, 3] > 0).all() and (rows[:, 4] < 0).all() and not rows[:, (0, 1, 2, 5, 6)].any()
    assert terms[1] == pytest.approx(terms[0] * torch.exp(torch.tensor(-10.0)).item(), rel=1e-4)


def test_pixels_before_the_image_do_not_matter(step: Any) -> None:
    distance, opacity, batch = step
    expected = term(make(), distance, opacity, batch)
    more = {"image": torch.cat([torch.rand(4, 3), batch["image"]]), "image_size": SIZE}
    before = torch.rand(4, 1, requires_grad=True)
    found = term(make(), torch.cat([before, distance]), torch.cat([torch.ones(4, 1), opacity]), more)
    assert torch.equal(found, expected)
    assert not torch.autograd.grad(found, before)[0].any()


def test_weight_and_fade_scale_the_term(step: Any) -> None:
    plain = float(term(make(), *step))
    fading = make(weight=2.0, fade_start_step=0, fade_end_step=10, fade_ratio=0.5)
    for at, factor in ((0, 2.0), (5, 1.5), (10, 1.0), (99, 1.0)):
        assert float(term(fading, *step, at=at)) == pytest.approx(factor * plain)
    for name in ("weight", "edge"):
        with pytest.raises(ValueError, match=f"expected --pipeline.edge-smoothness.{name} of at least 0, got -1"):
            make(True, **{name: -1.0})


def around(degrees: float, alpha: bool) -> PriorScene:
    """Three cameras that look at one point from so many degrees apart."""
    angles = torch.deg2rad(degrees * torch.arange(3.0))
    sine, cosine, zero, one = angles.sin(), angles.cos(), torch.zeros(3), torch.ones(3)
    rows = [[cosine, zero, sine, 4.0 * sine], [zero, one, zero, zero], [-sine, zero, cosine, 4.0 * cosine]]
    poses = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)
    scene = scene_of()
    dataset: Any = SimpleNamespace(**vars(scene.dataset), cameras=Cameras(poses, 8.0, 8.0, 4.0, 4.0), has_alpha=alpha)
    return replace(scene, dataset=dataset, whole_images=True)


@pytest.mark.parametrize(
    "degrees, alpha, given, expected",
    [(20.0, False, None, 3.0), (10.0, False, None, 0.0), (20.0, True, None, 0.0), (10.0, True, 0.5, 0.5)],
)
def test_a_weight_of_none_is_decided_by_the_scene(
    degrees: float, alpha: bool, given: Optional[float], expected: float, step: Any
) -> None:
    scene = around(degrees, alpha)
    assert nearest_angle(scene.dataset.cameras, scene.geometry) == pytest.approx(degrees, abs=1e-3)
    assert nearest_angle(scene.dataset.cameras[:1], scene.geometry) == 0.0
    prior = EdgeSmoothnessPriorConfig(enabled=True, weight=given).setup(scene=scene, name="edge_smoothness")
    # Before training nothing is read: photos may be gone when a run is rendered.
    assert prior.resolved() == {"weight": given}
    prior.prepare()
    assert prior.resolved() == {"weight": expected}
    if expected == 0.0:
        distance, opacity, batch = step
        assert prior.loss_dict(0, context_of(pixels_of(distance, opacity), batch=batch)) == {}
    else:
        torch.testing.assert_close(term(prior, *step), expected * term(make(), *step))


def test_an_image_of_which_nothing_shows_costs_nothing(step: Any) -> None:
    distance, opacity, batch = step
    nothing = term(make(), distance, torch.zeros_like(opacity), batch)
    (gradient,) = torch.autograd.grad(nothing, distance)
    assert nothing == 0 and not gradient.any()


def test_single_pixels_are_refused_with_the_flag() -> None:
    make().prepare()
    with pytest.raises(ValueError) as caught:
        make(whole_images=False).prepare()
    assert str(caught.value) == (
        "--pipeline.edge-smoothness.enabled: expected steps that train a whole image, found single pixels; give "
        "--pipeline.datamanager.whole-images True, or --pipeline.smoothness.enabled True in its place"
    )
    needs = make().needs
    assert needs.single_scene and not needs.served and not needs.labels and needs.request is None


def test_batches_end_with_the_image(tiny_llff_scene: Path) -> None:
    """What the prior takes for the image is the photo whose turn it is."""
    config = FewShotDataManagerConfig(dataparser=LLFFDataParserConfig(data=tiny_llff_scene), whole_images=True)
    manager = config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    requested = PixelRequest(torch.tensor([[0, 1, 2], [2, 3, 4], [1, 0, 0]]))
    _, batch = manager.next_train(0, [requested])
    view = int(batch["indices"][-1, 0])
    distance = 1.0 + torch.rand(24 * 32 + 3, 1, generator=torch.Generator().manual_seed(0))
    found = term(make(), distance, torch.ones_like(distance), batch)
    photo, shown = manager.train_dataset.get_image_float32(view)[..., :3], torch.ones(24, 32, dtype=torch.bool)
    assert torch.equal(found, edge_aware_smoothness(distance[3:].reshape(24, 32), photo, shown))
