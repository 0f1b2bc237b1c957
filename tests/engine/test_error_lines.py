"""Which errors end `ns-train` with one line, and that no other program is touched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch

from fewshot_ns.cameras.lenses import bent
from fewshot_ns.data.dataparsers.recognition import recognise
from fewshot_ns.engine.error_lines import is_of_this_package, shorten_errors_of_training


def raised(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("expected an error")


def test_what_this_package_raises_by_name(tmp_path: Path) -> None:
    error = raised(lambda: recognise(tmp_path))
    assert is_of_this_package(error, error.__traceback__) and not is_of_this_package(error, None)
    error = raised(lambda: recognise(tmp_path / "none"))
    assert isinstance(error, FileNotFoundError) and is_of_this_package(error, error.__traceback__)


@pytest.mark.parametrize(
    "call",
    [
        # Broken code of ours: what it runs into has no words for users.
        lambda: bent(torch.zeros(4, 3), torch.zeros(6)),
        lambda: bent(torch.zeros(4, 2), torch.zeros(6).to("meta")),
        lambda: int("a"),
        lambda: recognise(None),  # type: ignore[arg-type]
        lambda: (_ for _ in ()).throw(KeyboardInterrupt()).__next__(),
    ],
)
def test_anything_else_keeps_its_traceback(call: Callable[[], Any]) -> None:
    error = raised(call)
    assert not is_of_this_package(error, error.__traceback__)


def test_other_programs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.delenv("FEWSHOT_DEBUG", raising=False)
    for program in ("notebook.py", "", "/usr/bin/pytest", "my-ns-train"):
        monkeypatch.setattr(sys, "argv", [program])
        shorten_errors_of_training()
        assert sys.excepthook is sys.__excepthook__
    monkeypatch.setattr(sys, "argv", ["/venv/bin/ns-train"])
    monkeypatch.setenv("FEWSHOT_DEBUG", "1")
    shorten_errors_of_training()
    assert sys.excepthook is sys.__excepthook__


def test_the_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.delenv("FEWSHOT_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["/venv/bin/ns-train"])
    shorten_errors_of_training()
    assert sys.excepthook is not sys.__excepthook__
    for call, words in ((lambda: recognise(tmp_path), "error: "), (lambda: int("a"), "Traceback")):
        error = raised(call)
        sys.excepthook(type(error), error, error.__traceback__)
        shown = capsys.readouterr().err
        assert words in shown and str(error) in shown and ("Traceback" in shown) == (words == "Traceback")
    # One that somebody has put there stays.
    own = lambda *_: None  # noqa: E731
    monkeypatch.setattr(sys, "excepthook", own)
    shorten_errors_of_training()
    assert sys.excepthook is own
