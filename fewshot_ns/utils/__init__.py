"""Small helpers that know nothing of cameras, fields or methods."""
