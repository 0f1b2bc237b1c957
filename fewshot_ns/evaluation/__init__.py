"""Metrics of rendered views, the ledger of their rows, baselines, and the loops that fill it."""
