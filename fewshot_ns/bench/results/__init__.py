"""Finished cells, their summary and status words."""
