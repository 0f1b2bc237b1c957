"""Names in the order of people, in which IMG_9 comes before IMG_10."""

from __future__ import annotations

import re
from typing import Tuple


def natural_key(name: str) -> Tuple[Tuple[Tuple[int, str], ...], str]:
    """Key to sort names by: numbers in them by their value; by characters where only zeros or capitals differ."""
    parts = re.split(r"([0-9]+)", name.lower())
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts), name
