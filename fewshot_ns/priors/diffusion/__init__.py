"""The diffusion prior: score distillation on a latent or on renderings."""
