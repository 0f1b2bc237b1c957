"""Configs that later versions of the package can still load."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Callable, ClassVar, Dict, Mapping

_OUTDATED = "_outdated"
"""Attribute in which a config keeps values of fields that it no longer has, until the config around it takes them."""


class FieldError(ValueError):
    """A field of a config that is out of its range.

    Args:
        config: whose field it is.
        name: of the field.
        problem: what was expected and what was found.
    """

    def __init__(self, config: Any, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.owner, self.name, self.problem = type(config), name, problem

    def of_flag(self, prefix: str) -> str:
        """The message with the field's flag, which begins with `prefix`, in the place of the field."""
        return f"{prefix}{self.name.replace('_', '-')}: {self.problem}"


def expect_fields(config: Any, wanted: str, fits: Callable[[Any], bool], *names: str) -> None:
    """Checks fields of a config.

    Args:
        config: a dataclass.
        wanted: what their values have to be, in words.
        fits: whether a value is that.
        names: of the fields.

    Raises:
        FieldError: the first one that does not fit.
    """
    for name in names:
        value = getattr(config, name)
        if not fits(value):
            raise FieldError(config, name, f"expected {wanted}, found {value}")


class SavedConfig:
    """Mixin of config dataclasses that an earlier version of the package may have saved.

    nerfstudio restores a config.yml attribute by attribute, without calling the constructor, the inner configs first.
    Three differences to today's class are mended:

    - A field that is younger than the file gets its default, or what `values_before` says.
    - A field that is now elsewhere or has another name is carried over by `moved_fields`, one whose values mean other
      things by `upgrade`. A config says so for itself and for the configs below it.
    - What is left over is dropped, and the outermost config names it in one line.

    A copy of a config goes the same way and comes out equal.
    """

    outermost: ClassVar[bool] = False
    """Whether a config.yml begins with this config, which then reports what was dropped below it."""
    moved_fields: ClassVar[Mapping[str, str]] = {}
    """Where values of fields that are no more go, both as dotted paths below this config: {"mask_steps": "mask.steps"}.
    A subclass that adds to it begins with its parent's."""

    values_before: ClassVar[Mapping[str, Any]] = {}
    """Values of younger fields in files that do not have them, where today's default means something else."""

    @classmethod
    def upgrade(cls, state: Dict[str, Any], outdated: Dict[str, Any]) -> None:
        """Carries over what `moved_fields` cannot say; changes both arguments in place.

        For example, where an option of the model has become a prior of the pipeline, which can be switched off:

            weight = outdated.pop("model.occlusion_weight", 0.0)
            if weight > 0:
                state["occlusion"].enabled, state["occlusion"].weight = True, weight

        Args:
            state: values of today's fields by name, defaults included; inner configs are restored already.
            outdated: saved values of fields that do not exist today, by dotted path below this config. What is
                carried over has to be taken out; the rest is dropped.

        Raises:
            ValueError: a saved value has no counterpart today; the text says what to do.
        """

    def __setstate__(self, saved: Mapping[str, Any]) -> None:
        """Takes the saved attributes, upgraded, and adds the missing ones."""
        known = {one.name: one for one in fields(self)}  # type: ignore[arg-type]
        state: Dict[str, Any] = {}
        for name, one in known.items():
            if one.default_factory is not MISSING:
                state[name] = one.default_factory()
            elif one.default is not MISSING:
                state[name] = one.default
        state |= self.values_before
        state |= {name: value for name, value in saved.items() if name in known}
        outdated = {name: value for name, value in saved.items() if name not in known and name != _OUTDATED}
        for name, value in state.items():
            if isinstance(value, SavedConfig):
                below = value.__dict__.pop(_OUTDATED, {})
                outdated |= {f"{name}.{path}": old for path, old in below.items()}
        for old, new in self.moved_fields.items():
            if old in outdated:
                _put(state, new, outdated.pop(old))
        self.upgrade(state, outdated)
        self.__dict__.update(state)
        if outdated and self.outermost:
            from nerfstudio.utils.rich_utils import CONSOLE

            CONSOLE.print(
                f"Config of an earlier version: without effect today are {', '.join(sorted(outdated))}.",
                highlight=False,
                soft_wrap=True,
            )
        elif outdated:
            self.__dict__[_OUTDATED] = outdated


def _put(state: Dict[str, Any], path: str, value: Any) -> None:
    """Sets a field below a config whose own fields are `state`."""
    name, _, below = path.partition(".")
    if below:
        _put(vars(state[name]), below, value)
    else:
        state[name] = value
