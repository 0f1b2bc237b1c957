"""What a build puts into the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("fewshot_ns", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def test_recipes_and_templates_are_in_the_wheel(tmp_path):
    """The folder fewshot_ns/recipes is a link to configs/; an installed package has no such folder beside it."""
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip(f"building needs setuptools 77 or newer, found {setuptools.__version__}")
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"fewshot_ns/presentation/templates/page.html.j2", "fewshot_ns/presentation/templates/page.css"} <= set(
        names
    )
    expected = {f"fewshot_ns/recipes/{file.name}" for file in (ROOT / "configs").iterdir()}
    assert "fewshot_ns/recipes/recipe.schema.json" in expected and expected <= set(names)
    # The package finds them where it is unpacked.
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = (
        "import fewshot_ns.bench.recipes.yaml_file as r; print(r.__file__); print(*r.recipe_names());"
        "import fewshot_ns.presentation.html_page as h; print(h.__file__); print(len(h.render_page(h.ReportPage('t'))))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    file, recipes, page_file, page_size = found.stdout.splitlines()
    assert page_file.startswith(str(tmp_path)) and int(page_size) > 1000
    assert file.startswith(str(tmp_path)) and recipes.split() == sorted(
        path.stem for path in (ROOT / "configs").glob("*.yaml")
    )
