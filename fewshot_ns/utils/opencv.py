"""OpenCV's habit of printing what it then also reports."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import cv2

_SILENT = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV's own lines about damaged files off the terminal; the caller says it in one message."""
    before = cv2.getLogLevel()
    cv2.setLogLevel(_SILENT)
    try:
        yield
    finally:
        cv2.setLogLevel(before)
