"""The sharpest frames of a short video, spread over its length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import cv2
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
_WORKING_SIDE = 512
_SAME = 1.5
"""Mean difference of grey values 0 to 255 below which the camera has not moved between two frames."""


@dataclass(frozen=True)
class Frame:
    """A frame of a video."""

    pixels: npt.NDArray[np.uint8]
    """(H, W, 3) RGB."""
    time: float
    """Seconds from the beginning."""
    sharpness: float
    """Variance of the Laplacian of grey values at a working size."""


def pick_frames(video: Path, count: int = 8) -> Tuple[Frame, ...]:
    """Takes the sharpest frame of each of `count` equal spans of a video.

    Frames are taken from the middle half of their span, so that neighbours have moved apart; one that shows what the
    frame before it shows is left out.

    Args:
        video: A file that ffmpeg reads; its rotation is applied.
        count: Frames wanted, at least two.

    Returns:
        At most `count` frames in the order of time.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, or fewer frames than asked for.
    """
    if count < 2:
        raise ValueError(f"--frames: expected at least 2, got {count}")
    if not video.is_file():
        raise FileNotFoundError(f"{video}: expected a video, found no such file")
    total = sum(1 for _ in _decoded(video))
    if total < count:
        raise ValueError(f"{video}: expected at least {count} frames (--frames), found {total}")
    best: List[Optional[Frame]] = [None] * count
    for number, (time, pixels) in enumerate(_decoded(video)):
        position = number * count / total
        span = int(position)
        if not 0.25 <= position - span <= 0.75 and total >= 4 * count:
            continue
        sharpness = float(cv2.Laplacian(_grey(pixels), cv2.CV_64F).var())
        held = best[span]
        if held is None or sharpness > held.sharpness:
            best[span] = Frame(pixels.copy(), time, sharpness)
    frames: List[Frame] = []
    for frame in best:
        if frame is not None and (not frames or _difference(frames[-1], frame) > _SAME):
            frames.append(frame)
    return tuple(frames)


def _decoded(video: Path) -> Iterator[Tuple[float, npt.NDArray[np.uint8]]]:
    """Time and (H, W, 3) pixels of every frame."""
    reader = imageio_ffmpeg.read_frames(str(video), pix_fmt="rgb24")
    try:
        meta = next(reader)
        width, height = meta["size"]
        rate = float(meta.get("fps") or 30.0)
        for number, data in enumerate(reader):
            yield number / rate, np.frombuffer(data, np.uint8).reshape(height, width, 3)
    except (OSError, RuntimeError, StopIteration, KeyError, ValueError) as error:
        raise ValueError(f"{video}: expected a video that ffmpeg reads, found something else ({error})") from error
    finally:
        reader.close()


def _grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, _WORKING_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _difference(one: Frame, other: Frame) -> float:
    return float(np.abs(_grey(one.pixels).astype(np.float32) - _grey(other.pixels)).mean())
