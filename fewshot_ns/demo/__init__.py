"""The scene that the package renders by itself, so that everything can be tried without a download."""
