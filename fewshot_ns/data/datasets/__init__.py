"""Images of a split, at the size of their cameras."""
