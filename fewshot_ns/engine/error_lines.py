"""Errors of `ns-train` that the user can mend, as one line: nerfstudio's command would bury them in a traceback.

Only what this package has raised by name is shortened, and only in a process that is `ns-train`: whoever imports the
package gets every exception as Python shows it.
"""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Optional, Type

from rich.console import Console
from rich.markup import escape

from fewshot_ns.utils.disk_space import full_disk_words

DEBUG_ENV = "FEWSHOT_DEBUG"
"""Environment variable; where it is set, tracebacks are shown."""
_COMMANDS = ("ns-train", "ns-train.exe")
_PACKAGE = Path(__file__).resolve().parents[1]


def shorten_errors_of_training() -> None:
    """From now on errors that users can mend end `ns-train` with one line and status 1; no change in other programs."""
    if Path(sys.argv[0]).name in _COMMANDS and sys.excepthook is sys.__excepthook__ and not os.environ.get(DEBUG_ENV):
        sys.excepthook = _show


def _show(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """What Python calls with an exception that nothing has caught; it ends with status 1."""
    full = full_disk_words(error)
    if full is None and not is_of_this_package(error, trace):
        sys.__excepthook__(kind, error, trace)
        return
    text = escape(full or str(error) or kind.__name__)
    console = Console(stderr=True)
    console.print(f"[dim]{DEBUG_ENV}=1 shows where this comes from:[/dim]", highlight=False)
    # Last, since benchmarks give the last line of a log as the reason.
    console.print(f"[bold red]error:[/bold red] {text}", highlight=False, soft_wrap=True)


def is_of_this_package(error: BaseException, trace: Optional[TracebackType]) -> bool:
    """Whether code of this package has raised an error by name, of a kind that is for users, rather than run into it.

    Args:
        error: any.
        trace: its traceback.
    """
    if not isinstance(error, (ValueError, OSError, RuntimeError)) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    line = linecache.getline(file, trace.tb_lineno).strip()
    return Path(file).resolve().is_relative_to(_PACKAGE) and line.startswith("raise ")
