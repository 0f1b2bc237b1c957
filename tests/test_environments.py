"""The cheap half of tools/environments.py: its rows and page, extras hidden from this environment, entry points of ours
that fail. The other half installs environments; what it has found stands in docs/environments.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Set

import environment_page
import environments
import pytest
from environment_checks import CHECKS, last_words, project
from environment_page import PAGE_FILE, RESULTS_FILE, page, ran, read_results
from environment_rows import ALL_EXTRAS, ROWS
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from fewshot_ns import registry
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

ROOT = Path(__file__).resolve().parents[1]

HIDE = """
import importlib.machinery, importlib.metadata, sys
HIDDEN = {"open_clip", "timm", "diffusers", "transformers", "safetensors", "huggingface_hub", "pycolmap", "ray",
          "pillow_heif", "torch_fidelity"}
real = importlib.machinery.PathFinder.find_spec

def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in HIDDEN else real(name, path, target)

importlib.machinery.PathFinder.find_spec = classmethod(find_spec)
"""
"""Makes an interpreter see none of what the extras bring, by the same answer as where it is not installed."""

EXTRAS_ABSENT = """
import contextlib, io, json, pathlib, shutil, sys, traceback
folder = pathlib.Path(sys.argv[1])

def run(program, *arguments):
    said = io.StringIO()
    sys.argv = [program, *map(str, arguments)]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if program == "ns-train":
                from nerfstudio.scripts.train import entrypoint
                entrypoint()
            else:
                from fewshot_ns.scripts.cli import entrypoint
                entrypoint()
            status = 0
        except SystemExit as error:
            status = error.code or 0
        except Exception:
            status = 1
            traceback.print_exc()
    return [status, said.getvalue()]

out = folder / "benchmarks"
scene, photos, heic = (folder / name for name in ("scene", "photos", "heic"))
for target, suffix in ((photos, ".png"), (heic, ".heic")):
    target.mkdir()
    for view in (0, 4, 8):
        shutil.copy(scene / "images" / f"view_0{view}.png", target / f"{view}{suffix}")
quick = ("--output-dir", folder / "out", "--timestamp", "run", "--machine.device-type", "cpu", "--vis", "tensorboard",
         "--steps-per-eval-image", 0, "--steps-per-eval-all-images", 0, "--max-num-iterations", 2)
small = ("--pipeline.evaluation.metrics", "psnr", "--pipeline.datamanager.train-num-rays-per-batch", 512,
         "--pipeline.depth.num-quads", 64, "--pipeline.model.width", 64, "--pipeline.model.num-samples", 16)
parser = ("llff-data", "--data", scene)
results = {
    "help": run("ns-fewshot", "--help"),
    "methods": run("ns-fewshot", "methods"),
    "rays": run("ns-train", "sparsenerf-lite", *quick, *small, *parser),
    "eval": run("ns-fewshot", "eval", "--load-config", folder / "out" / "scene" / "sparsenerf-lite" / "run"),
    "priors depth": run("ns-fewshot", "depth", "--data", scene, "--output", folder / "maps", *parser),
    "priors semantic": run("ns-train", "dietnerf-lite", *quick, *parser),
    "photos poses": run("ns-fewshot", "photos", photos, "--output-dir", folder / "posed"),
    "photos heic": run("ns-fewshot", "photos", heic, "--output-dir", folder / "posed"),
    "bench ray": run("ns-fewshot", "bench", "demo", "--data", folder, "--output-dir", out, "--executor", "ray"),
}
loaded = sorted({name.partition(".")[0] for name in sys.modules} & HIDDEN)
print("REPORT" + json.dumps([results, loaded, sorted(path.name for path in folder.iterdir())]))
"""

WHOLE = ("utils", "utils.moved_modules", "registry", "configs", "configs.paper_results")
"""Modules that the entry points stand in and that import nothing but the standard library."""

ENTRIES_FAIL = (
    f"WHOLE = {WHOLE!r}"
    + """
import contextlib, importlib.abc, io, json, sys

class Failing(importlib.abc.MetaPathFinder):
    whole = [f"fewshot_ns.{name}" for name in WHOLE]
    faults = (ImportError, AttributeError, TypeError, KeyError, RuntimeError, SyntaxError, OSError, ZeroDivisionError)
    seen = []
    only = ""

    def find_spec(self, name, path=None, target=None):
        if name.startswith("fewshot_ns.") and name not in self.whole and (not self.only or name == self.only):
            self.seen.append(name)
            raise self.faults[len(self.seen) % len(self.faults)]("made to [fail]\\nwith more lines")

sys.meta_path.insert(0, Failing())
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.configs.dataparser_configs import all_dataparsers
from nerfstudio.scripts.train import entrypoint

said, status = io.StringIO(), None
sys.argv = ["ns-train", "nerfacto", "--help"]
with contextlib.redirect_stdout(said):
    try:
        entrypoint()
    except SystemExit as error:
        status = error.code
broken = [status, said.getvalue(), list(all_methods), list(all_dataparsers), len(Failing.seen)]
from nerfstudio.plugins.registry import discover_methods
Failing.only = "fewshot_ns.configs.freenerf"
print("REPORT" + json.dumps([broken, list(discover_methods()[0])]))
"""
)


def report(code: str, *arguments: object) -> Any:
    """What code in a fresh interpreter reports, and all that it printed before."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    before, mark, found = done.stdout.partition("REPORT")
    assert mark, (done.stdout + done.stderr)[-4000:]
    return json.loads(found), before


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("absent")
    write_demo_scene(folder / "scene", DemoSceneConfig(width=48, height=36, supersample=1, columns=9, rows=1))
    return report(HIDE + EXTRAS_ABSENT, folder)[0]


@pytest.fixture(scope="module")
def failing_entries() -> Any:
    return report(ENTRIES_FAIL)


@pytest.mark.parametrize("name", ["help", "methods", "rays", "eval"])
def test_what_needs_no_extra_works_without_them(without_extras: Any, name: str) -> None:
    status, said = without_extras[0][name]
    assert status == 0, said[-3000:]
    if name == "methods":
        assert [method for method in registry.METHODS if method.replace("_", "-") not in said] == []


@pytest.mark.parametrize("case", ["priors depth", "priors semantic", "photos poses", "photos heic", "bench ray"])
def test_what_needs_an_absent_extra_ends_in_one_error_that_names_it(without_extras: Any, case: str) -> None:
    status, said = without_extras[0][case]
    assert status == 1
    last = said.strip().splitlines()[-1]
    assert f"fewshot-ns[{case.split()[0]}]" in last and "not installed" in last
    # nerfstudio's own command shows where it happened; ours never do.
    assert case == "priors semantic" or "Traceback" not in said


def test_nothing_is_written_by_commands_that_lack_an_extra(without_extras: Any) -> None:
    _, loaded, files = without_extras
    assert loaded == []
    assert "maps" not in files and "benchmarks" not in files


def test_nerfstudios_methods_work_where_none_of_ours_can_be_imported(failing_entries: Any) -> None:
    (status, said, methods, dataparsers, failures), _ = failing_entries[0]
    assert status == 0 and "nerfacto" in said and "nerfstudio-data" in said
    assert failures >= len(registry.METHODS) + len(registry.DATAPARSERS)
    assert {"nerfacto", "splatfacto", "depth-nerfacto"} <= set(methods)
    ours: Set[str] = {name.replace("_", "-") for name in (*registry.METHODS, *registry.DATAPARSERS)}
    assert not ours & {*methods, *dataparsers} and "nerfstudio-data" in dataparsers


def test_a_method_that_cannot_be_built_takes_no_other_along(failing_entries: Any) -> None:
    (_, methods), printed = failing_entries
    missing = {name.replace("_", "-") for name in registry.METHODS} - set(methods)
    assert missing == {
        name.replace("_", "-")
        for name, method in registry.METHODS.items()
        if method.config.startswith(("configs.freenerf:", "configs.free_sparsenerf:"))
    }
    assert "freenerf" in missing and "sparsenerf" in methods
    # Says which and why, in one line.
    words = " ".join(printed.split())
    assert re.search(r"freenerf of fewshot_ns, which cannot be used here \(\w+: made to \[fail\]\)", words)
    assert not re.search(r"^\s*with more lines", printed, re.MULTILINE)


def bounds_on(python: str) -> Dict[str, SpecifierSet]:
    """What the package demands of others on a Python."""
    items = map(Requirement, project()["dependencies"])
    there = [item for item in items if item.marker is None or item.marker.evaluate({"python_version": python})]
    assert len({item.name for item in there}) == len(there)
    return {item.name.lower(): item.specifier for item in there}


def test_rows_agree_with_the_package() -> None:
    supported = [line.rpartition(" ")[2] for line in project()["classifiers"] if "Python :: 3." in line]
    assert {row.python for row in ROWS} == set(supported)
    assert all(SpecifierSet(project()["requires-python"]).contains(version) for version in supported)
    assert not SpecifierSet(project()["requires-python"]).contains("3.13")
    assert len({row.name for row in ROWS}) == len(ROWS)
    for_users = set(project()["optional-dependencies"]) - {"dev", "docs", "all"}
    assert set(ALL_EXTRAS) == for_users
    for version in supported:
        # Each Python with all extras and with none.
        assert {row.extras for row in ROWS if row.python == version} >= {ALL_EXTRAS, ()}
    for row in ROWS:
        bounds = bounds_on(row.python)
        assert set(row.extras) <= for_users
        for pin in map(Requirement, (*row.pins, *row.lifted)):
            exact = [item.version.removesuffix(".*") for item in pin.specifier if item.operator == "=="]
            allowed = bounds.get(pin.name.lower(), SpecifierSet())
            assert not row.works or all(allowed.contains(version) for version in exact), row.name


def test_rows_below_the_oldest_torch_are_those_that_do_not_work() -> None:
    for row in ROWS:
        oldest = bounds_on(row.python)["torch"]
        pins = {pin.name: pin.specifier for pin in map(Requirement, (*row.pins, *row.lifted))}
        if "torch" in pins:
            (pinned,) = pins["torch"]
            assert oldest.contains(pinned.version) == row.works, row.name


def test_the_page_is_that_of_the_results() -> None:
    results = read_results()
    assert set(results) <= {row.name for row in ROWS}
    assert PAGE_FILE.read_text("utf8") == page(results), "run `python tools/environments.py --page`"
    assert "environments.md" in (ROOT / "mkdocs.yml").read_text("utf8")


def test_what_works_is_what_was_found_to_work() -> None:
    works = {row.name: row.works for row in ROWS}
    for name, found in read_results().items():
        if not ran(found):
            continue
        good = "error" not in found and all(check["outcome"] == "ok" for check in found["checks"])
        assert good == works[name], name
        if good:
            assert {check["name"] for check in found["checks"]} >= {"import", "help", "rays", "nerfacto"}
            assert {check["name"] for check in found["checks"]} <= set(CHECKS)
            assert found["python"].startswith(next(row.python for row in ROWS if row.name == name))


def test_results_name_no_folder_and_no_server() -> None:
    home = Path("/somewhere/else")
    words = "cannot open /somewhere/else/a b, see https://example.org/simple/x (from /usr/lib/python3/site.py)"
    assert environments.clean(words, home) == "cannot open .../a b, see (address) (from .../site.py)"
    text = RESULTS_FILE.read_text("utf8") if RESULTS_FILE.is_file() else ""
    assert not re.search(r"://|(?<![\w.])/(root|home|work|tmp|usr)\b", text)


def test_an_interpreter_of_another_release_is_not_taken() -> None:
    here = ".".join(map(str, sys.version_info[:2]))
    assert environments.interpreter(here, {here: sys.executable}) == sys.executable
    assert environments.interpreter("2.9", {"2.9": sys.executable}) is None


def test_the_last_words_are_the_error() -> None:
    assert last_words("a\nValueError: x is wrong\n  note\n") == "ValueError: x is wrong"
    assert last_words("│ framed │\n╰──╯\n") == "framed"
    assert last_words("") == "nothing printed"


@pytest.mark.parametrize("wrong", [["nowhere"], ["--python", "3.12", "--list"], []])
def test_wrong_flags_of_the_command(wrong: list, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        environments.main(wrong)
    assert "expected" in capsys.readouterr().err or not wrong


def test_some_checks_again_leave_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (environments, environment_page):
        monkeypatch.setattr(module, "RESULTS_FILE", tmp_path / "results.jsonl")
    row = ROWS[0].name

    def result(torch: str, **outcomes: str) -> Dict[str, Any]:
        checks = [{"name": name, "outcome": outcome} for name, outcome in outcomes.items()]
        return {"name": row, "python": "3.10.1", "versions": {"torch": torch}, "checks": checks}

    environments._keep(result("2.1", help="ok", units="failed", photos="ok"))
    environments._merge(result("2.1", units="ok"))
    kept = {check["name"]: check["outcome"] for check in read_results()[row]["checks"]}
    assert kept == {"help": "ok", "units": "ok", "photos": "ok"} and list(kept) == ["help", "units", "photos"]
    # Of other releases the rest would say nothing.
    environments._merge(result("2.2", help="failed"))
    assert read_results()[row]["versions"] == {"torch": "2.1"} and len(read_results()[row]["checks"]) == 3


def test_without_uv_pip_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = environments.arguments(["--folder", str(tmp_path), "--uv", ""])
    called = []
    monkeypatch.setattr(environments, "_call", lambda command, *_: called.append(list(map(str, command))))
    row = next(row for row in ROWS if row.lifted)
    environments.install(row, sys.executable, tmp_path, options.uv, options.nice)
    assert called[0] == [sys.executable, "-m", "venv", str(tmp_path / "venv")]
    assert all(command[1:4] == ["-m", "pip", "install"] for command in called[1:])
    assert called[-1][-2:] == ["-r", str(tmp_path / "overrides.txt")]


def test_what_does_not_install_ends_its_own_row_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installer that hangs, and an interpreter that is not there."""
    monkeypatch.setattr(environments, "INSTALL_SECONDS", 0.05)
    with pytest.raises(environments.InstallError, match="had not ended after 0.05 s"):
        environments._call((sys.executable, "-c", "import time; time.sleep(60)"), tmp_path, 0)
    version = "{}.{}".format(*sys.version_info)
    assert environments.interpreter(version, {version: str(tmp_path / "none")}) is not None
