"""Few-shot novel view synthesis for nerfstudio: radiance fields from three photos."""

__version__ = "0.1.0"
