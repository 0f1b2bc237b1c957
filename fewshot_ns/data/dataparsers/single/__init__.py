"""Formats of one scene."""
