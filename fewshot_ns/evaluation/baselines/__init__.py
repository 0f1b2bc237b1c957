"""Baselines that a method has to beat: the nearest training image, the mean colour, a plane sweep."""
