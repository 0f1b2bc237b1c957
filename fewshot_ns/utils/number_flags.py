"""Flags that are numbers: what tyro takes for one and nothing can be computed with."""

from __future__ import annotations

import math
from typing import Optional


def check_positive(flag: str, *numbers: Optional[float], finite: bool = True) -> None:
    """Checks the numbers of a flag; None is not given.

    Args:
        flag: Its name with dashes, for the message.
        numbers: What was given.
        finite: Whether infinity is refused; else it means no limit.

    Raises:
        ValueError: one is not above 0, or NaN, or infinite.
    """
    for number in numbers:
        if number is not None and not (0.0 < number and (not finite or number < math.inf)):
            raise ValueError(f"{flag}: expected a {'finite ' if finite else ''}number above 0, found {number:g}")


def check_length(flag: str, number: Optional[float]) -> None:
    """Checks a length of one unit in others, or another factor of a world; None is not given.

    Raises:
        ValueError: it is not positive, or of a size that float32 does not hold: not in 1e-12 to 1e12.
    """
    if number is not None and not 1e-12 <= number <= 1e12:
        raise ValueError(f"{flag}: expected a number above 0, from 1e-12 to 1e12, found {number:g}")


def check_finite(flag: str, number: Optional[float]) -> None:
    """Checks a number of a flag; None is not given.

    Raises:
        ValueError: it is NaN or infinite.
    """
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{flag}: expected a finite number, found {number:g}")


def check_at_least(flag: str, least: int, *numbers: int) -> None:
    """Checks whole numbers of a flag.

    Raises:
        ValueError: one is below `least`.
    """
    if any(number < least for number in numbers):
        raise ValueError(f"{flag}: expected {least} or more, found {' '.join(map(str, numbers))}")
