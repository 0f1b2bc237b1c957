"""What trainings do otherwise than those behind published figures: variant, settings of single scenes, length."""

from __future__ import annotations

from typing import Dict, List, Optional, Protocol, Sequence, Tuple

from fewshot_ns import registry
from fewshot_ns.bench.recipes.protocols import protocol_or_none
from fewshot_ns.configs.published_trainings import PublishedTraining, figure_remark, published_training

_MOST_FLAGS = 2
"""Flags of a variant that are named; the others are counted."""
_MOST_SCENES = 4
"""Scenes that are named; the others are counted."""


class Trained(Protocol):
    """A training as far as it is compared: a planned cell, or its result."""

    @property
    def method(self) -> str:
        """Name of the method, as ns-train knows it."""
        ...

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        ...

    @property
    def folder_name(self) -> str:
        """Name of the scene's folder."""
        ...

    @property
    def overrides(self) -> Tuple[str, ...]:
        """Flags of ns-train that the recipe gives."""
        ...

    @property
    def as_published(self) -> bool:
        """Whether the recipe takes it for the published variant."""
        ...

    @property
    def own_length(self) -> bool:
        """Whether it trains as long as the method does by itself."""
        ...

    @property
    def steps(self) -> Optional[int]:
        """Training steps, where they are known."""
        ...


def flag_values(words: Sequence[str]) -> Dict[str, str]:
    """The flags in words of a command line, without dashes in front; of a repeated one the last value.

    Args:
        words: '--name', its values, '--name=value'.
    """
    found: Dict[str, List[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("_", "-")
            found.pop(name, None)
            found[name] = [value] if equals else []
        elif name:
            found[name].append(word)
    return {name: " ".join(values) for name, values in found.items()}


def published_training_of(cell: Trained) -> Optional[PublishedTraining]:
    """How the published figures for a cell's setting were trained; None where there is no such setting."""
    protocol = protocol_or_none(cell.protocol)
    if protocol is None or protocol.dataset is None:
        return None
    return published_training(cell.method, protocol.dataset, protocol.num_views, cell.folder_name)


def has_figures(cell: Trained) -> bool:
    """Whether papers print figures of a cell's method under its protocol, of its scene or of the data set."""
    protocol, method = protocol_or_none(cell.protocol), cell.method.replace("-", "_")
    if protocol is None or protocol.dataset is None or method not in registry.METHODS:
        return False
    names = (protocol.dataset, f"{protocol.dataset}/{cell.folder_name}")
    results = registry.paper_results(method)
    return any(result.num_views == protocol.num_views and result.dataset in names for result in results)


def remark_of(cell: Trained) -> str:
    """What no training here has of what is behind the published figures of a data set; '' where there is nothing."""
    protocol = protocol_or_none(cell.protocol)
    return "" if protocol is None else figure_remark(cell.method, protocol.dataset or "")


def variant_words(cells: Sequence[Trained]) -> str:
    """The flags of a variant, without those with which the figures were published; '' where there are none."""
    own: Dict[str, None] = {}
    for cell in cells:
        training = published_training_of(cell)
        wanted = {} if training is None else training.flags
        for name, value in flag_values(cell.overrides).items():
            if not same_value(wanted.get(name), value):
                own[f"--{name} {value}".rstrip()] = None
    return _some(list(own), _MOST_FLAGS, ", ")


def same_value(first: Optional[str], second: Optional[str]) -> bool:
    """Whether two values of a flag are one, as text or as numbers."""
    if first is None or second is None or first == second:
        return first == second
    try:
        return float(first) == float(second)
    except ValueError:
        return False


def training_differences(cells: Sequence[Trained]) -> List[str]:
    """What trainings of one row do otherwise than published, in words; nothing where they do the same.

    Args:
        cells: of one method under one protocol.
    """
    found: List[str] = []
    if not all(cell.as_published for cell in cells):
        flags = variant_words([cell for cell in cells if not cell.as_published])
        found.append("a variant of the method" + (f" ({flags})" if flags else ""))
    return [*found, *_missing_settings(cells), *_other_lengths(cells)]


def _missing_settings(cells: Sequence[Trained]) -> List[str]:
    without: Dict[Tuple[str, str], Dict[str, None]] = {}
    for cell in cells:
        training, given = published_training_of(cell), flag_values(cell.overrides)
        for name, value in training.flags.items() if training is not None else ():
            if not same_value(given.get(name), value):
                without.setdefault((name, value), {})[cell.folder_name] = None
    everywhere = {cell.folder_name for cell in cells}
    return [
        ("" if set(scenes) == everywhere and len(everywhere) > 1 else f"{_some(list(scenes), _MOST_SCENES, ', ')} ")
        + f"without --{name} {value}"
        for (name, value), scenes in without.items()
    ]


def _other_lengths(cells: Sequence[Trained]) -> List[str]:
    other: Dict[Optional[int], List[int]] = {}
    unknown = False
    for cell in cells:
        training = published_training_of(cell)
        wanted = None if training is None else training.steps
        if wanted is None:
            unknown |= not cell.own_length
        if cell.steps is not None and (cell.steps != wanted if wanted is not None else not cell.own_length):
            other.setdefault(wanted, []).append(cell.steps)
    found = [f"{_range(steps)} steps instead of {wanted}" for wanted, steps in other.items() if wanted is not None]
    if unknown:
        steps = other.get(None)
        found.append("another length of training" + (f" ({max(steps)} steps)" if steps else ""))
    return found


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _some(entries: Sequence[str], most: int, between: str) -> str:
    more = len(entries) - most
    return between.join(entries[:most]) + (f" and {more} more" if more > 0 else "")
