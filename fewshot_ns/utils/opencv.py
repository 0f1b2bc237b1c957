"""Silencing OpenCV, which prints what it also reports."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import cv2

_SILENT = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Suppresses OpenCV's own lines about damaged files; the caller raises one error instead."""
    before = cv2.getLogLevel()
    cv2.setLogLevel(_SILENT)
    try:
        yield
    finally:
        cv2.setLogLevel(before)
