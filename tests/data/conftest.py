"""Small sets of many scenes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest

from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

SOLIDS = SolidsConfig(objects=8, views=5, size=16, supersample=1, val_share=0.125, test_share=0.25)


@pytest.fixture(scope="session")
def solids_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated set in the layout of SRN, shared: not to be written to."""
    folder = tmp_path_factory.mktemp("solids") / "set"
    write_solids(folder, SOLIDS)
    return folder


@pytest.fixture
def solids(solids_once: Path, tmp_path: Path) -> Path:
    """A copy of the generated set."""
    return Path(shutil.copytree(solids_once, tmp_path / "set"))


@pytest.fixture
def damage() -> Callable[[Path], None]:
    """Function (file) -> cuts it in half."""

    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return cut
