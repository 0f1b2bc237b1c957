"""Many scenes at once: a library that opens them lazily, and batches of them."""
