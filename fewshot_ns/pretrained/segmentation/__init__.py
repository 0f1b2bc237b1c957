"""Networks that tell which pixels of a photo are its object."""
