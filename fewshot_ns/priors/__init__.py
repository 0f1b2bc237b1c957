"""Priors: losses that take the place of missing views, one module each."""
