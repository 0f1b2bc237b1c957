"""Recipes and protocols: what a benchmark runs."""
