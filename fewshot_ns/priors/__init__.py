"""Frozen teachers (depth, semantic, diffusion) and the finding of their weight files."""
