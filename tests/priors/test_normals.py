"""The normals prior: its terms, on which rays they count, and what it asks of scene and backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from prior_scenes import context_of, rendering_of, scene_of, without_samples
from torch import Tensor

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.labels import NORMAL_KEY
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.normals import NormalsPrior, NormalsPriorConfig

MEASURED = (Path("normals.png"), None, None)


def make(files: Any = MEASURED, **fields: Any) -> NormalsPrior:
    return NormalsPriorConfig(**{"enabled": True, **fields}).setup(
        scene=scene_of(normal_filenames=files), name="normals"
    )


@pytest.fixture
def normals() -> Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(5, 6, 3), dim=-1).requires_grad_()


@pytest.fixture
def rendering(normals: Tensor) -> Rendering:
    torch.manual_seed(1)
    viewdirs = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
    t = torch.rand(5, 7).sort(-1).values
    return rendering_of(torch.rand(5, 6) / 6, t, viewdirs=viewdirs, normals=normals)


@pytest.fixture
def measured() -> Tensor:
    """Normals of five rays, of which the second and the last have none."""
    torch.manual_seed(2)
    found = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
    found[[1, 4]] = 0.0
    return found


def terms(prior: NormalsPrior, rendering: Rendering, measured: Any = None, step: int = 0) -> Dict[str, Tensor]:
    batch = {} if measured is None else {NORMAL_KEY: measured}
    return prior.loss_dict(step, context_of(rendering, batch=batch))


def parts_of(rendering: Rendering) -> Any:
    assert rendering.samples is not None
    return rendering.samples.weights, rendering.samples.normals, rendering.viewdirs


@pytest.mark.parametrize("kind", ["alignment", "chord"])
def test_measured_normals(kind: Any, rendering: Rendering, normals: Tensor, measured: Tensor) -> None:
    prior = make(weight=0.5, orientation_weight=0.25, loss=kind)
    losses = terms(prior, rendering, measured)
    weights, _, viewdirs = parts_of(rendering)
    misfit = (weights * (1 - (normals * measured[:, None]).sum(-1))).sum(-1)[[0, 2, 3]].mean()
    torch.testing.assert_close(losses["normal_loss"], 0.5 * misfit, rtol=1e-4, atol=1e-6)
    away = (weights * (normals * viewdirs[:, None]).sum(-1).clamp(min=0) ** 2).sum(-1)
    torch.testing.assert_close(losses["orientation_loss"], 0.25 * away[[0, 2, 3]].mean())
    losses["normal_loss"].backward(retain_graph=True)
    assert normals.grad is not None and normals.grad[[0, 2, 3]].any() and not normals.grad[[1, 4]].any()
    # A batch without any costs nothing; a scene without any counts orientation on every ray.
    none = terms(prior, rendering, torch.zeros(5, 3))
    assert none["normal_loss"] == 0 and none["orientation_loss"] == 0
    normals.grad = None
    (none["normal_loss"] + none["orientation_loss"]).backward(retain_graph=True)
    assert normals.grad is None or not normals.grad.any()
    without = terms(prior, rendering)
    torch.testing.assert_close(without["orientation_loss"], 0.25 * away.mean())
    assert "normal_loss" not in without


def test_a_vanishing_normal_tells_the_losses_apart(rendering: Rendering, normals: Tensor, measured: Tensor) -> None:
    with torch.no_grad():
        normals[0] = 0.0
    found = [float(terms(make(loss=kind), rendering, measured)["normal_loss"]) for kind in ("alignment", "chord")]
    assert found[0] > found[1]


def test_terms_without_a_weight_are_left_out(rendering: Rendering, measured: Tensor) -> None:
    assert set(terms(make(), rendering, measured)) == {"normal_loss"}
    assert set(terms(make(weight=0.0, orientation_weight=0.1), rendering, measured)) == {"orientation_loss"}


def test_weights_fade(rendering: Rendering, measured: Tensor) -> None:
    prior = make(orientation_weight=0.1, fade_end_step=10, fade_ratio=0.2)
    early, late = (terms(prior, rendering, measured, step) for step in (0, 10))
    for name, value in early.items():
        assert value > 0 and float(late[name]) == pytest.approx(0.2 * float(value))


def test_both_weights_zero_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"the normals prior is on, but both its weights are 0 \(--pipeline.normals.weight, "
        r"--pipeline.normals.orientation-weight\)",
    ):
        make(weight=0.0)
    make(weight=0.0, enabled=False)


def test_needs(rendering: Rendering) -> None:
    assert set(make().needs.served) == {"samples", "normals"} and make().needs.request is None
    asked = {
        (weight, files is not None): bool(make(files, weight=weight, orientation_weight=0.1).needs.labels)
        for weight in (0.0, 0.1)
        for files in (None, MEASURED)
    }
    # Orientation counts on the measured rays where the scene has some, and asks for none.
    assert asked == {(0.0, False): False, (0.0, True): True, (0.1, False): True, (0.1, True): True}
    assert terms(make(), without_samples(rendering)) == {}


def test_a_tri_plane_is_refused(tiny_pipeline_config: Any, tiny_llff_scene: Path) -> None:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    config.normals.enabled, config.normals.weight, config.normals.orientation_weight = True, 0.0, 0.1
    with pytest.raises(
        ValueError,
        match="--pipeline.normals.enabled: .* tri-plane.* no second derivative; use .*--pipeline.model.field-type mlp",
    ):
        config.setup(device="cpu", test_mode="val")
    config.model.field_type, config.plane_smoothness.enabled = "mlp", False
    pipeline = config.setup(device="cpu", test_mode="val")
    losses = pipeline.get_train_loss_dict(0)[1]
    losses["orientation_loss"].backward()
    assert any(value.grad is not None and value.grad.any() for value in pipeline.model.networks.parameters())
