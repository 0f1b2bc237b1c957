"""A tiny scene, recipes on it, and settings that make a training as small as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import yaml

SMALL: Dict[str, Any] = {
    "pipeline": {
        "datamanager": {"train-num-rays-per-batch": 64},
        "model": {"width": 16, "num-samples": 8, "num-proposal-samples": 8, "proposal-resolution": 8},
    }
}
"""Flags of the lite presets for milliseconds per step."""


@pytest.fixture
def data_root(tmp_path: Path, make_llff_scene: Callable[..., Path]) -> Path:
    """Folder with the scene 'plane' in it: 12 photos of 32x24 in the LLFF layout."""
    make_llff_scene(tmp_path / "data" / "plane")
    return tmp_path / "data"


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Function (keys of a recipe) -> its file; what is not given is a small valid recipe."""

    def write(name: str = "tiny", **keys: Any) -> Path:
        values = {
            "protocol": "llff-3",
            "methods": [{"method": "mipnerf-fewshot-lite", "overrides": SMALL}],
            "scenes": ["plane"],
            "budget": {"steps": 4},
            "evaluation": {"metrics": ["psnr", "ssim"]},
        }
        path = tmp_path / f"{name}.yaml"
        kept = {key: value for key, value in {**values, **keys}.items() if value is not None}
        path.write_text(yaml.safe_dump(kept), encoding="utf8")
        return path

    return write


@pytest.fixture
def small() -> Dict[str, Any]:
    """`SMALL` as a fixture, since test modules cannot import this file."""
    return dict(SMALL)
