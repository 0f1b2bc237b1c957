"""The package as a whole: metadata, layout, the console script without extras."""

import re
import subprocess
import sys
from importlib.metadata import entry_points, requires, version
from pathlib import Path

import pytest

import fewshot_ns

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fewshot_ns.__file__).parent
EXTRAS = {"open_clip", "timm", "diffusers", "transformers", "ray", "selenium", "torch_fidelity"}


def sources() -> list:
    return sorted(PACKAGE.rglob("*.py"))


def test_import_is_light():
    heavy = "{'torch', 'nerfstudio', 'numpy', 'pydantic'}"
    code = f"import sys; import fewshot_ns; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_recipes_and_records_are_read_with_pydantic():
    """No model, no dataparser and no step of a training needs it."""
    importing = [path for path in sources() if re.search(r"^\s*(from|import) pydantic", path.read_text("utf8"), re.M)]
    assert {path.parent.relative_to(PACKAGE).as_posix() for path in importing} == {
        "bench/execution",
        "bench/recipes",
        "bench/report",
        "bench/results",
        "evaluation/records",
        "evaluation/runners",
        "utils",
    }


def test_installed_version_is_this_tree():
    assert version("fewshot-ns") == fewshot_ns.__version__


def test_core_requirements():
    core = [requirement for requirement in requires("fewshot-ns") or [] if "extra ==" not in requirement]
    # One of torch for each Python.
    assert sorted({re.split(r"[<>=;\s]", requirement)[0] for requirement in core}) == [
        "OpenEXR",
        "imageio-ffmpeg",
        "jinja2",
        "nerfstudio",
        "pydantic",
        "torch",
    ]


def test_console_script_is_registered():
    (script,) = entry_points(group="console_scripts", name="ns-fewshot")
    assert script.value == "fewshot_ns.scripts.cli:entrypoint"


def test_everything_but_the_priors_works_without_extras():
    """Imports every module with the extras hidden; those that need one may import it only when it is used."""
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in sources()
    ]
    code = f"""
import sys
from importlib import import_module

class Hidden:
    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] in {sorted(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{fullname!r}}", name=fullname)

sys.meta_path.insert(0, Hidden())
for name in {[name for name in modules if not name.endswith("__main__")]!r}:
    import_module(name)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_folder_is_a_package():
    """A folder without __init__.py would be left out of a built distribution."""
    folders = {path.parent for path in sources()}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    found = re.findall(r"except Exception:|NotImplementedError|\.cuda\(\)|\bTODO\b", path.read_text(encoding="utf8"))
    assert found == []


def test_licence_is_there():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
