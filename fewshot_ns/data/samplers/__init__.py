"""Which pixels a training step sees."""
