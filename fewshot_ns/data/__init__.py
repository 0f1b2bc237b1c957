"""Views, images, priors on disk, and the dataparsers of the few-shot benchmarks."""
