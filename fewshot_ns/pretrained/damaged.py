"""What libraries raise for folders of models that are damaged."""

from __future__ import annotations

from typing import Tuple, Type

from fewshot_ns.utils.optional_imports import require
from fewshot_ns.utils.reading import DAMAGE


def damaged_model() -> Tuple[Type[Exception], ...]:
    """What transformers and diffusers run into in the folder of a model that is damaged or of another kind."""
    return (*DAMAGE, require("safetensors", "priors").SafetensorError)
