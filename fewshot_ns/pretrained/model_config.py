"""The configuration of a model in its folder, and what libraries raise for folders that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Tuple, Type

from fewshot_ns.utils.optional_imports import require
from fewshot_ns.utils.reading import DAMAGE, reading


def read_model_config(path: Path) -> Dict[str, Any]:
    """What a model's `config.json` says.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON object.
    """
    with reading(path, "the configuration of a model"):
        content = json.loads(path.read_text(encoding="utf8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the configuration of a model, found {type(content).__name__}")
    return content


def damaged_model() -> Tuple[Type[Exception], ...]:
    """What transformers and diffusers run into in the folder of a model that is damaged or of another kind."""
    return (*DAMAGE, require("safetensors", "priors").SafetensorError)
