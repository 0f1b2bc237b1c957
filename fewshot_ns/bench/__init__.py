"""Benchmarks: recipes of protocols, methods, scenes and seeds, run as ordinary trainings, and the tables of them."""
