"""Scale and shift of monocular depth: alignment, fusion, points of known depth."""
