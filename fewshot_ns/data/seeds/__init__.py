"""Points that Gaussians start from: from depth, from COLMAP's tracks in the training views, or at random."""
