"""nerfstudio's viewer: controls that methods add to it, and serving it for a loaded model."""
