"""Configs that a later version of the package can still read."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Mapping


class SavedConfig:
    """Mixin of config dataclasses: fields that a saved config lacks, being younger than it, get their defaults.

    The host restores a config.yml attribute by attribute, without calling the constructor. A field with a plain default
    then still has it, by the class; one whose default is made by a function would be missing.
    """

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Takes the saved attributes and adds the missing ones."""
        for one in fields(self):  # type: ignore[arg-type]
            if one.default_factory is not MISSING:
                self.__dict__[one.name] = one.default_factory()
        self.__dict__.update(state)
