"""Image encoders of generalizable models."""
