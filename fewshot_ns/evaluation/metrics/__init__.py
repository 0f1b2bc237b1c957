"""Metrics of single images, and of all images together."""
