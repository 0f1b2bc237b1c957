"""Score distillation against its formulas and against what diffusers computes."""

from __future__ import annotations

import pytest
import torch

from fewshot_ns.pretrained.diffusion_models import noise_of_output
from fewshot_ns.priors.diffusion.score_distillation import (
    add_noise,
    diffusion_latents,
    distillation_loss,
    gradient_weight,
    guided_noise,
    lengthen_tokens,
    timestep_range,
)


@pytest.fixture
def alphas() -> torch.Tensor:
    diffusers = pytest.importorskip("diffusers", reason="needs the extra 'priors'")
    schedule = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return diffusers.DDIMScheduler(**schedule).alphas_cumprod


def test_noise_is_added_as_by_diffusers(alphas):
    diffusers = pytest.importorskip("diffusers", reason="needs the extra 'priors'")
    scheduler = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, noise, steps = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6), torch.tensor([1, 500, 999])
    torch.testing.assert_close(add_noise(latents, noise, alphas[steps]), scheduler.add_noise(latents, noise, steps))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_kind_of_output_gives_the_noise(alphas, kind):
    diffusers = pytest.importorskip("diffusers", reason="needs the extra 'priors'")
    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, noise, steps = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6), torch.tensor([100, 700])
    output = {
        "epsilon": noise,
        "v_prediction": scheduler.get_velocity(latents, noise, steps),
        "sample": latents,
    }[kind]
    noisy = add_noise(latents, noise, alphas[steps])
    torch.testing.assert_close(noise_of_output(output, noisy, alphas[steps], kind), noise, rtol=1e-4, atol=1e-4)


def test_an_unknown_kind_of_output():
    ones = torch.ones(1, 1, 1, 1)
    with pytest.raises(ValueError, match="epsilon, v_prediction or sample, got 'flow'"):
        noise_of_output(ones, ones, torch.ones(1), "flow")


def test_weights():
    alpha = torch.tensor([0.25])
    assert gradient_weight(alpha, "latent-nerf").item() == pytest.approx(0.5 * 0.75)
    assert gradient_weight(alpha, "dreamfusion").item() == pytest.approx(0.75)
    assert gradient_weight(alpha, "uniform").item() == 1.0


def test_guidance():
    without, given = torch.tensor([1.0]), torch.tensor([1.5])
    assert guided_noise(without, given, 1.0) == given
    assert guided_noise(without, given, 100.0).item() == pytest.approx(51.0)


def test_time_steps_hold_both_ends():
    assert timestep_range(1000, 0.02, 0.98) == (20, 980)
    assert timestep_range(50, 0.0, 0.0) == (0, 0)


def test_the_loss_has_the_gradient_and_passes_none_to_it():
    latents, gradient = torch.randn(2, 4, 3, 3, requires_grad=True), torch.randn(2, 4, 3, 3, requires_grad=True)
    distillation_loss(latents, gradient).backward()
    torch.testing.assert_close(latents.grad, gradient.detach() / 2)
    assert gradient.grad is None


def test_latents_are_stretched_to_both_signs():
    found = diffusion_latents(torch.tensor([0.0, 0.5, 1.0, 0.25]).reshape(1, 4, 1, 1), 3)
    assert found.shape == (1, 4, 3, 3)
    torch.testing.assert_close(found[0, :, 1, 2], torch.tensor([-1.0, 0.0, 1.0, -0.5]))


def test_lengthened_tokens_keep_their_ends():
    tokens = torch.randn(3, 5)
    longer = lengthen_tokens(tokens, 9)
    torch.testing.assert_close(longer[:, ::2], tokens)
    torch.testing.assert_close(longer[:, 1], tokens[:, :2].mean(-1))
