"""Packages that add to nerfstudio and do not load, which nerfstudio lets end every command that imports its methods."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Optional

GROUPS = ("nerfstudio.method_configs", "nerfstudio.dataparser_configs")
"""Groups of entry points that nerfstudio loads, with nothing to catch an error."""
FAULTS = (ImportError, AttributeError, NameError, TypeError, SyntaxError)
"""What a package raises that does not fit what is installed."""


def broken_plugin() -> Optional[str]:
    """The first entry point that does not load, in words that say whose it is and what it raised; None: all do."""
    for group in GROUPS:
        for entry in entry_points(group=group):
            try:
                entry.load()
            except FAULTS as error:
                return (
                    f"{_package_of(entry)}: expected an installed package whose entry point {entry.name} "
                    f"({entry.value}, of {group}) loads, found {type(error).__name__}: {str(error)[:200]}; nerfstudio "
                    "needs all of them. Repair or uninstall that package"
                )
    return None


def _package_of(entry: EntryPoint) -> str:
    found = None if entry.dist is None else entry.dist.metadata["Name"]
    return found or entry.value.partition(":")[0]
