"""Few-shot novel view synthesis for nerfstudio: radiance fields from three photos."""

from fewshot_ns.utils import moved_modules

__version__ = "0.1.0"

# Here and not in the registry: whoever imports a class by its old name imports this file first.
moved_modules.install()
