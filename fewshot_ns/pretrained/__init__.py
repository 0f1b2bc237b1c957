"""Pretrained networks and the search for their weights."""
