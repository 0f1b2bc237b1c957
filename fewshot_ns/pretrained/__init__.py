"""Networks trained elsewhere, and one way to find their weights."""
