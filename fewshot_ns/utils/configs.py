"""Configs that later versions of the package can still load."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Mapping


class SavedConfig:
    """Mixin of config dataclasses: fields that an older saved config lacks get their defaults.

    nerfstudio restores a config.yml attribute by attribute, without calling the constructor. A field with a plain
    default then has it from the class; a field with a default factory would be missing.
    """

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restores the saved attributes and adds the missing ones."""
        for one in fields(self):  # type: ignore[arg-type]
            if one.default_factory is not MISSING:
                self.__dict__[one.name] = one.default_factory()
        self.__dict__.update(state)
