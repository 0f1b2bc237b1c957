"""Code of the documentation's pages as modules, for tests that run it."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Iterator

DOCS = Path(__file__).resolve().parents[1] / "docs"


def block_of(page: str, language: str) -> str:
    """The only fenced block of a language on a page."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text("utf8"), re.MULTILINE | re.DOTALL)
    return block


@contextmanager
def page_module(page: str, folder: Path) -> Iterator[ModuleType]:
    """The Python block of a page as an imported module, written to a folder."""
    name = f"{Path(page).stem}_page"
    path = folder / f"{name}.py"
    path.write_text(block_of(page, "python"), "utf8")
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]
