"""Formats of many scenes."""
