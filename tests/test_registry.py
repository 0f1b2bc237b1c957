"""The entry points: what they register, and that they load nothing (what that costs: benchmarks/registry_import.py).

Everything runs in child processes, because what an interpreter has imported cannot be undone.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from fewshot_ns import registry
from fewshot_ns.configs.paper_results import UNKNOWN

ROOT = Path(__file__).resolve().parents[1]

HIDE_OURS = """
import importlib.metadata as metadata
import sys

real = metadata.entry_points

def others(**selection):
    found = real(**selection)
    if not selection.get("group", "").startswith("nerfstudio."):
        return found
    return metadata.EntryPoints(entry for entry in found if not entry.value.startswith("fewshot_ns"))

metadata.entry_points = others
"""
"""Makes an interpreter see nerfstudio without this package."""

LOAD_ALL = """
from fewshot_ns import registry
for name in [*registry.DATAPARSERS, *registry.METHODS]:
    getattr(registry, name)
"""

HEAVY = {"open_clip", "timm", "diffusers", "transformers", "torchmetrics", "skimage", "ray"}


def run_python(code: str) -> str:
    """Runs code in a fresh interpreter and returns what it printed, stdout and stderr apart from warnings."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def report() -> dict:
    """What loading all our entry points does to an interpreter that has loaded nerfstudio's methods."""
    code = f"""
{HIDE_OURS}
import contextlib, io, json
import nerfstudio.configs.method_configs

before = set(sys.modules)
printed = io.StringIO()
with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
    exec({LOAD_ALL!r})
added = sorted(set(sys.modules) - before)
print("REPORT" + json.dumps(dict(
    hidden=not any(name.startswith("fewshot_ns") for name in before),
    added=[name for name in added if name.split(".")[0] not in sys.stdlib_module_names],
    loaded=sorted({{name.split(".")[0] for name in sys.modules}}),
    loaded_by_nerfstudio=sorted({{name.split(".")[0] for name in before}}),
    printed=printed.getvalue(),
)))
"""
    return json.loads(run_python(code).split("REPORT")[1])


def test_loads_nothing_that_nerfstudio_has_not_loaded(report):
    assert report["hidden"], "the comparison needs a nerfstudio without our entry points"
    assert [name for name in report["added"] if name.split(".")[0] != "fewshot_ns"] == []
    assert "fewshot_ns.registry" in report["added"]


def test_loads_no_heavy_package(report):
    assert HEAVY & set(report["loaded"]) <= HEAVY & set(report["loaded_by_nerfstudio"])
    assert not {"open_clip", "timm", "diffusers", "transformers"} & set(report["loaded"])


def test_prints_nothing(report):
    assert report["printed"] == ""


def test_nerfstudio_discovers_every_entry():
    """Nerfstudio's own discovery, which loads dataparsers while its datamanagers are half imported."""
    code = """
import json
from nerfstudio.configs.method_configs import all_descriptions, all_methods
from nerfstudio.configs.dataparser_configs import all_dataparsers
print("REPORT" + json.dumps([{name: all_descriptions.get(name) for name in all_methods}, list(all_dataparsers)]))
"""
    methods, dataparsers = json.loads(run_python(code).split("REPORT")[1])
    for name, entry in registry.METHODS.items():
        assert methods[name.replace("_", "-")] == entry.description
    assert {name.replace("_", "-") for name in registry.DATAPARSERS} <= set(dataparsers)


@pytest.mark.parametrize(
    "first_import",
    [
        "fewshot_ns.registry",
        "fewshot_ns.configs.sparsenerf_lite",
        "fewshot_ns.data.dataparsers.single.llff",
        "fewshot_ns.data.datamanagers.fewshot",
        "fewshot_ns.engine.trainer",
        "fewshot_ns.models.compact",
    ],
)
def test_modules_can_be_imported_first(first_import):
    """No import order of nerfstudio's modules is needed to use ours as a library."""
    run_python(f"import {first_import}" + LOAD_ALL)


@pytest.mark.parametrize(
    "group, names",
    [("nerfstudio.method_configs", registry.METHODS), ("nerfstudio.dataparser_configs", registry.DATAPARSERS)],
)
def test_all_lists_of_entry_points_agree(group, names):
    """The registry, pyproject.toml, and what is installed."""
    expected = {name.replace("_", "-"): f"fewshot_ns.registry:{name}" for name in names}
    table = (ROOT / "pyproject.toml").read_text().partition(f'[project.entry-points."{group}"]')[2].partition("[")[0]
    assert dict(re.findall(r'^([\w-]+) = "(.+)"$', table, re.MULTILINE)) == expected
    ours = {entry.name: entry.value for entry in entry_points(group=group) if entry.value.startswith("fewshot_ns")}
    assert ours == expected, "the installed entry points are not those of this tree: run `pip install -e .` again"


def test_readme_names_every_page_of_a_method():
    """The README has a row for each page, and docs/methods.md, which is generated, one for each method."""
    rows = re.findall(r"^\| \[`([\w-]+)`\]\(docs/([\w.-]+)\) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {name.replace("-", "_"): page for name, page in rows}.items() <= {
        name: entry.page for name, entry in registry.METHODS.items()
    }.items()
    assert sorted(page for _, page in rows) == sorted({entry.page for entry in registry.METHODS.values()})
    assert "docs/methods.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", registry.METHODS)
def test_entries_say_where_a_method_comes_from(name):
    entry = registry.METHODS[name]
    paper = entry.paper
    assert entry.description.endswith(".") and len(entry.description) <= 90
    assert (ROOT / "docs" / entry.page).is_file()
    assert len(paper.title) > 10 and ":" in paper.citation
    assert paper.link is None or re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", paper.link)
    assert re.match(r"https://github\.com/[\w-]+/[\w-]+", paper.code)
    assert paper.licence in ("Apache-2.0", "BSD-2-Clause", "MIT") or paper.licence.startswith(UNKNOWN)


def test_method_names_are_their_keys():
    for name in registry.METHODS:
        assert registry.method_specification(name).config.method_name == name.replace("_", "-")


def test_specifications_are_instances():
    assert isinstance(registry.llff_data, DataParserSpecification)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nerf'"):
        registry.nerf  # noqa: B018
