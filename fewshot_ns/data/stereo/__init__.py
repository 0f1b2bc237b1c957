"""Depth of the training views from the photos themselves."""
