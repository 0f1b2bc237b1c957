"""The few-shot protocols by name: which dataparser with which flags, and how papers measure on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Tuple

OCCLUDED_VIEWS = (2, 5, 8, 9, 10, 16, 34, 35, 40, 52, 53, 54, 58, 60)
"""The 14 training views of Lego that see it from one side only (DietNeRF)."""
INDICES = "indices"
"""The protocol of one's own views: the scene names its dataparser and --train-indices."""
NAMES = "llff-N, dtu-N, blender-N, blender-first-N (N training views), blender-occluded-14 or indices"
_NUMBERED = re.compile(r"(llff|dtu|blender|blender-first)-(\d+)")


@dataclass(frozen=True)
class BenchProtocol:
    """One protocol."""

    name: str
    """As recipes name it."""
    dataset: Optional[str]
    """Data set in whose published tables the figures with these views stand; None where there are none."""
    parser: Optional[str]
    """Name of the dataparser; None: the scene names it."""
    flags: Tuple[str, ...] = ()
    """Flags of the dataparser."""
    num_views: Optional[int] = None
    """Training views; None: what the scene's flags say."""
    masked: bool = False
    """Whether papers measure the object alone."""

    def metric(self, name: str) -> str:
        """The metric that the papers' column of this name holds."""
        return f"masked_{name}" if self.masked else name


def find_protocol(name: str) -> BenchProtocol:
    """The protocol of a name.

    Raises:
        ValueError: an unknown one; the message lists the known.
    """
    if name == INDICES:
        return BenchProtocol(name, None, None)
    if name == "blender-occluded-14":
        views = tuple(str(view) for view in OCCLUDED_VIEWS)
        flags = ("--train-indices", *views)
        return BenchProtocol(name, "blender-occluded", "fewshot-blender-data", flags, len(views))
    match = _NUMBERED.fullmatch(name)
    if match is None or int(match.group(2)) < 2:
        raise ValueError(f"unknown protocol {name!r}; expected {NAMES}")
    family, views = match.group(1), int(match.group(2))
    number = ("--num-views", str(views))
    if family == "llff":
        return BenchProtocol(name, "llff", "llff-data", number, views)
    if family == "dtu":
        return BenchProtocol(name, "dtu", "dtu-data", (*number, "--view-protocol", "pixelnerf"), views, masked=True)
    first = family == "blender-first"
    flags = (*number, "--view-protocol", "first" if first else "dietnerf")
    # DietNeRF's eight views are a list of its own; all other published numbers of views are the first frames.
    dataset = "blender" if first != (views == 8) else None
    return BenchProtocol(name, dataset, "fewshot-blender-data", flags, views)


def protocol_or_none(name: str) -> Optional[BenchProtocol]:
    """The protocol of a name, None for an unknown one."""
    try:
        return find_protocol(name)
    except ValueError:
        return None
