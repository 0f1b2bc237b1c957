"""A package that is not installed disables what needs it, and says how to get it."""

import sys
from importlib.abc import MetaPathFinder

import pytest

from fewshot_ns.utils.optional_imports import require


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
