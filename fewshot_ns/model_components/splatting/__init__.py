"""Gaussian splats on any device: gsplat's call without its kernels."""
