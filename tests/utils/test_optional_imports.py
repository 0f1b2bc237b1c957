"""A package that is not installed disables what needs it, and says how to get it."""

import sys
from importlib.abc import MetaPathFinder

import pytest

from fewshot_ns.utils.optional_imports import UnfitExtraError, require, require_class


class Hidden(MetaPathFinder):
    """Makes packages look as if they were not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


@pytest.fixture
def hide(monkeypatch):
    def apply(*names: str) -> None:
        for module in [module for module in sys.modules if module.split(".")[0] in names]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setattr(sys, "meta_path", [Hidden(*names), *sys.meta_path])

    return apply


def test_installed_modules_are_returned():
    assert require("json.decoder", "priors").JSONDecoder is not None


@pytest.mark.parametrize("module", ["open_clip", "open_clip.transform"])
def test_absent_package_names_the_install_command(hide, module):
    hide("open_clip")
    with pytest.raises(ImportError, match=r'open_clip.*pip install "fewshot-ns\[priors\]"'):
        require(module, "priors")


def test_a_broken_package_keeps_its_own_message(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import something_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs"):
        require("broken_package", "priors")


def test_a_package_that_wants_another_torch_is_one_error(tmp_path, monkeypatch):
    (tmp_path / "newer_package.py").write_text("import torch\ntorch.what_a_later_release_has\n")
    lazy = "def __getattr__(name):\n    raise RuntimeError('Failed to import x:\\nno attribute accelerator')\n"
    (tmp_path / "lazy_package.py").write_text(lazy)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnfitExtraError, match=r"newer_package: expected a release that works with torch \d.*priors"):
        require("newer_package", "priors")
    with pytest.raises(UnfitExtraError, match=r"lazy_package: .*\(no attribute accelerator\)"):
        require_class("lazy_package", "Network", "priors")
    with pytest.raises(UnfitExtraError, match="no attribute 'Absent'"):
        require_class("json", "Absent", "priors")
    assert require_class("json", "JSONDecoder", "priors") is not None
