"""The plane smoothness prior: it looks at the backbone's planes, whatever was rendered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from prior_scenes import context_of, pixels_of, scene_of

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.model_components.losses import plane_smoothness_loss
from fewshot_ns.priors.plane_smoothness import PlaneSmoothnessPrior, PlaneSmoothnessPriorConfig


def make(**fields: Any) -> PlaneSmoothnessPrior:
    return PlaneSmoothnessPriorConfig(enabled=True, **fields).setup(scene=scene_of(), name="plane_smoothness")


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return SimpleNamespace(planes=[torch.rand(3, 2, side, side, requires_grad=True) for side in (4, 6)])


def test_term_of_all_levels(model: Any) -> None:
    context = context_of(pixels_of(torch.ones(5, 1)), model=model)
    losses = make(weight=0.5).loss_dict(0, context)
    assert set(losses) == {"plane_smoothness_loss"}
    torch.testing.assert_close(losses["plane_smoothness_loss"], 0.5 * plane_smoothness_loss(model.planes))
    losses["plane_smoothness_loss"].backward()
    assert all(plane.grad is not None and plane.grad.any() for plane in model.planes)
    fading = make(weight=1.0, fade_end_step=10, fade_ratio=0.0)
    once = float(plane_smoothness_loss(model.planes))
    for step, factor in ((0, 1.0), (5, 0.5), (10, 0.0)):
        assert float(fading.loss_dict(step, context)["plane_smoothness_loss"]) == pytest.approx(factor * once)


def test_the_planes_of_a_real_backbone_are_moved(tiny_pipeline_config: Any, tiny_llff_scene: Any) -> None:
    pipeline = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene)).setup(device="cpu", test_mode="val")
    _, losses, _ = pipeline.get_train_loss_dict(0)
    losses["plane_smoothness_loss"].backward()
    planes = pipeline.model.planes
    assert len(planes) == 2 and all(plane.grad is not None and plane.grad.any() for plane in planes)
    moved = {id(value) for value in pipeline.model.parameters() if value.grad is not None and value.grad.any()}
    assert moved == {id(plane) for plane in planes}


def test_a_field_without_planes_is_refused(tiny_pipeline_config: Any, tiny_llff_scene: Any) -> None:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    config.model.field_type = "mlp"
    with pytest.raises(
        ValueError,
        match="--pipeline.plane-smoothness.enabled: plane smoothness compares .*, and a field of "
        "--pipeline.model.field-type mlp has none; give --pipeline.plane-smoothness.enabled False",
    ):
        config.setup(device="cpu", test_mode="val")
    config.plane_smoothness.enabled = False
    pipeline = config.setup(device="cpu", test_mode="val")
    assert "plane_smoothness_loss" not in pipeline.get_train_loss_dict(0)[1]


def test_needs() -> None:
    needs = make().needs
    assert set(needs.served) == {"planes"} and not needs.labels and needs.request is None and not needs.single_scene
    assert not PlaneSmoothnessPriorConfig().enabled
