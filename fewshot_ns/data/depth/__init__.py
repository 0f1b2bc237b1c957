"""Depth maps of views: where they lie, what their numbers mean, depth of known scale."""
