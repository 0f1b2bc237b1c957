"""Pictures and videos out of a trained run."""
