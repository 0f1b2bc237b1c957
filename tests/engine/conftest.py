"""A scene and networks to train on in seconds."""

from pathlib import Path
from typing import Dict

import pytest
from small_methods import save_networks

from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene


@pytest.fixture(scope="session")
def tiny_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forward-facing scene of five 32x24 views with depth priors; LLFF's protocol: train on 1, 3, 4, test on 0."""
    folder = tmp_path_factory.mktemp("scenes") / "tiny"
    write_demo_scene(folder, DemoSceneConfig(width=32, height=24, supersample=1, columns=5, rows=1))
    return folder


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Tiny random networks of the real classes."""
    pytest.importorskip("diffusers", reason="needs the extra 'priors'")
    return save_networks(tmp_path_factory.mktemp("networks"))
