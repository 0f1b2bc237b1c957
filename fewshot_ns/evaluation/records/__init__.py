"""Rows of evaluated views on disk, and tables of them."""
