"""The silhouette prior: its term, its weight over time, and what becomes of it where photos have no alpha."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from prior_scenes import context_of, pixels_of, scene_of
from torch import Tensor

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.labels import ALPHA_KEY
from fewshot_ns.model_components.rendering import Rendering
from fewshot_ns.priors.silhouette import SilhouettePrior, SilhouettePriorConfig


def make(has_alpha: bool = True, **fields: Any) -> SilhouettePrior:
    scene = scene_of()
    dataset: Any = SimpleNamespace(**vars(scene.dataset), has_alpha=has_alpha)
    prior = SilhouettePriorConfig(**{"enabled": True, **fields}).setup(
        scene=replace(scene, dataset=dataset), name="silhouette"
    )
    prior.prepare()
    return prior


@pytest.fixture
def opacity() -> Tensor:
    return torch.tensor([[0.0], [0.25], [1.0], [0.5]], requires_grad=True)


def seen(opacity: Tensor) -> Rendering:
    return pixels_of(torch.ones(4, 1), opacity)


ALPHA = torch.tensor([[0.0], [1.0], [1.0], [0.0]])


def test_opacity_is_compared_with_alpha(opacity: Tensor) -> None:
    prior = make(weight=0.4)
    losses = prior.loss_dict(0, context_of(seen(opacity), batch={ALPHA_KEY: ALPHA}))
    assert set(losses) == {"silhouette_loss"}
    assert float(losses["silhouette_loss"]) == pytest.approx(0.4 * (0.75 + 0.5) / 4)
    losses["silhouette_loss"].backward()
    assert opacity.grad is not None
    # Opacity rises inside of the outline, falls outside of it, and stays where it is right.
    assert opacity.grad[:, 0].tolist() == pytest.approx([0.0, -0.1, 0.0, 0.1])
    assert prior.resolved() == {"photos_with_alpha": True}


def test_weight_and_fade_scale_the_term(opacity: Tensor) -> None:
    fading = make(weight=2.0, fade_start_step=0, fade_end_step=10, fade_ratio=0.5)
    for step, factor in ((0, 2.0), (5, 1.5), (10, 1.0), (99, 1.0)):
        term = fading.loss_dict(step, context_of(seen(opacity), batch={ALPHA_KEY: ALPHA}))["silhouette_loss"]
        assert float(term) == pytest.approx(factor * 1.25 / 4)
    assert make(weight=0.0).loss_dict(0, context_of(seen(opacity), batch={ALPHA_KEY: ALPHA})) == {}
    with pytest.raises(ValueError, match="expected --pipeline.silhouette.weight of at least 0, got -1"):
        make(weight=-1.0)


def test_photos_without_alpha_have_no_term_and_the_log_says_so(
    opacity: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = make(has_alpha=False)
    said = " ".join(capsys.readouterr().out.split())
    assert said == "--pipeline.silhouette: the photos have no alpha, so there is no silhouette to keep to"
    assert prior.loss_dict(0, context_of(seen(opacity))) == {}
    assert prior.resolved() == {"photos_with_alpha": False}
    make()
    assert capsys.readouterr().out == ""


def test_needs() -> None:
    needs = make().needs
    assert needs.labels == {"alpha"} and needs.single_scene and not needs.served and needs.request is None


@pytest.mark.parametrize("whole_images", [False, True])
def test_batches_hold_the_photos_alpha_at_the_cameras_size(tiny_blender_scene: Path, whole_images: bool) -> None:
    parser = FewShotBlenderDataParserConfig(data=tiny_blender_scene, downscale_factor=2)
    config = FewShotDataManagerConfig(dataparser=parser, whole_images=whole_images, train_num_rays_per_batch=64)
    manager = config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    assert ALPHA_KEY not in manager.next_train(0)[1]
    manager.use_labels({"alpha"})
    _, batch = manager.next_train(0)
    alpha = batch[ALPHA_KEY]
    assert alpha.shape == (100 if whole_images else 64, 1) and 0 < alpha.mean() < 1
    views = torch.stack([manager.train_dataset.alpha(index) for index in range(len(manager.train_dataset))])
    assert views.shape[1:] == (10, 10)
    assert torch.equal(alpha[:, 0], views[tuple(batch["indices"].T)])
    # At half the size the outline is fractional, and the colours of the batch have the same alpha in them.
    assert ((views > 0) & (views < 1)).any()
    assert torch.equal(batch["image"][alpha[:, 0] == 0], torch.ones_like(batch["image"][alpha[:, 0] == 0]))


def test_batches_of_photos_without_alpha_have_none(tiny_llff_scene: Path) -> None:
    config = FewShotDataManagerConfig(dataparser=LLFFDataParserConfig(data=tiny_llff_scene))
    manager = config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    manager.use_labels({"alpha"})
    assert ALPHA_KEY not in manager.next_train(0)[1]
