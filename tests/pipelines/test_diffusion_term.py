"""The diffusion prior in a pipeline: renderings of unseen views through the autoencoder, with tiny real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason="needs the extra 'priors'")

from tiny_diffusion import save_clip, save_diffusion  # noqa: E402

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_diffusion(folder / "sd")
    save_clip(folder / "clip")
    return folder


@pytest.fixture
def config(tiny_llff_scene: Path, tiny_pipeline_config: Any, models: Path) -> Any:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene))
    prior = config.diffusion
    prior.enabled, prior.weights, prior.image_encoder_weights = True, models / "sd", models / "clip"
    prior.views.grid_size, prior.chunk_rays, prior.interval = 12, 50, 2
    return config


@pytest.mark.parametrize("prompt", ["images", "text"])
def test_the_term_reaches_the_model_and_no_frozen_network(config, prompt):
    config.diffusion.prompt, config.diffusion.text = prompt, "a plane"
    pipeline = config.setup(device="cpu", test_mode="val")
    prior = pipeline.priors.all["diffusion"]
    assert prior.views.kind in ("hemisphere", "box")
    assert "diffusion" not in pipeline.get_train_loss_dict(0)[1]
    losses = pipeline.get_train_loss_dict(1)[1]
    losses["diffusion"].backward()
    found = [value.grad.abs().sum() for value in pipeline.model.parameters() if value.grad is not None]
    assert sum(found) > 0
    networks = prior.distillation.ready.unet, prior.autoencoder.vae
    frozen = [value for network in networks for value in network.parameters()]
    assert all(value.grad is None for value in frozen)


def test_flags_of_its_views_are_named(config):
    config.diffusion.views.grid_size = 0
    with pytest.raises(ValueError, match="--pipeline.diffusion.views.grid-size"):
        config.setup(device="cpu", test_mode="val")


def test_checkpoints_and_parameters_do_not_hold_the_networks(config):
    with_prior = config.setup(device="cpu", test_mode="val")
    config.diffusion.enabled = False
    without = config.setup(device="cpu", test_mode="val")
    assert set(with_prior.state_dict()) == set(without.state_dict())
    assert {id(v) for group in with_prior.get_param_groups().values() for v in group} <= {
        id(value) for value in with_prior.model.parameters()
    }


@pytest.mark.parametrize("mode", ["test", "inference"])
def test_evaluation_loads_nothing(config, tmp_path, mode):
    config.diffusion.weights = tmp_path / "nowhere"
    pipeline = config.setup(device="cpu", test_mode=mode)
    assert pipeline.priors.all["diffusion"].distillation.predictor is None


def test_switched_off_nothing_else_changes(config):
    """Colour and depth terms of a step are those of a run without the prior, though the prior draws numbers too."""

    def terms(enabled: bool) -> Any:
        config.diffusion.enabled = enabled
        torch.manual_seed(0)
        pipeline = config.setup(device="cpu", test_mode="val")
        torch.manual_seed(1)
        return pipeline.get_train_loss_dict(1)[1]

    with_prior, without = terms(True), terms(False)
    assert set(with_prior) - set(without) == {"diffusion"}
    for name, value in without.items():
        torch.testing.assert_close(value, with_prior[name])
