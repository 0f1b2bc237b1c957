"""Ray spaces, pose geometry, unseen views and camera paths."""
