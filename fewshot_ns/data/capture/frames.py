"""The sharpest frames of a short video, spread over its length."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Iterator, List, Optional, Sequence, Tuple

import cv2
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from fewshot_ns.data.capture.quality import WORKING_SIDE, sharpness_of

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
_RATE = 30
"""Frames a second at which a video is looked at, whatever its own rate and whether that is constant."""
_MIDDLE = 0.25, 0.75
"""The part of a span that its frame comes from, so that neighbours have moved apart."""
_TINY = 64
"""Longer side at which frames are compared, pixels."""
_SAME = 1.5
"""Mean difference of grey values 0 to 255 below which the camera has not moved between two frames."""

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """A frame of a video."""

    pixels: npt.NDArray[np.uint8]
    """(H, W, 3) RGB, upright."""
    time: float
    """Seconds from the beginning."""
    sharpness: float
    """Variance of the Laplacian of grey values at a working size."""


def pick_frames(video: Path, count: int = 8) -> Tuple[Frame, ...]:
    """Takes the sharpest frame of each of `count` spans of a video of equal duration.

    Frames come from the middle half of their span. One that shows what the frame before it shows is passed over, so
    that a video in which the camera rests gives fewer. The video is decoded twice, small and then as it is.

    Args:
        video: A file that ffmpeg reads; its rotation is applied, its frame rate may vary.
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
    sharpness: List[float] = []
    tiny: List[Grey] = []
    small = f"scale={WORKING_SIDE}:{WORKING_SIDE}:force_original_aspect_ratio=decrease:flags=area"
    for grey in _decoded(video, small, "gray"):
        sharpness.append(sharpness_of(grey[..., 0]))
        tiny.append(_shrunk(grey[..., 0]))
    if len(tiny) < count:
        raise ValueError(f"{video}: expected at least {count} frames (--frames), found {len(tiny)} at {_RATE} a second")
    chosen = choose_frames(sharpness, tiny, count)
    # Times of the chosen ones are made consecutive, or ffmpeg would fill the gaps with copies.
    wanted = "+".join(f"eq(n\\,{number})" for number in chosen)
    pictures = list(_decoded(video, f"select={wanted},setpts=N/({_RATE}*TB)", "rgb24"))
    return tuple(
        Frame(pixels, number / _RATE, sharpness[number]) for number, pixels in zip(chosen, pictures, strict=True)
    )


def choose_frames(sharpness: Sequence[float], tiny: Sequence[Grey], count: int) -> Tuple[int, ...]:
    """Numbers of the sharpest frames of equal spans, without those that repeat the chosen one before.

    Args:
        sharpness: (N) of frames at a constant rate.
        tiny: (N) of (h, w), the frames, small.
        count: Spans, at most N.
    """
    chosen: List[int] = []
    total = len(sharpness)
    for span in range(count):
        first, last = (int(np.ceil((span + part) * total / count)) for part in _MIDDLE)
        if last <= first:
            # Spans of one or two frames have no middle.
            first, last = (span * total // count, (span + 1) * total // count)
        moved = [n for n in range(first, last) if not chosen or _difference(tiny[chosen[-1]], tiny[n]) > _SAME]
        if moved:
            chosen.append(max(moved, key=lambda n: sharpness[n]))
    return tuple(chosen)


def _shrunk(grey: Grey) -> Grey:
    scale = min(1.0, _TINY / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _difference(one: Grey, other: Grey) -> float:
    """Mean difference of grey values, but for that of the exposure."""
    difference = one.astype(np.float32) - other
    return float(np.abs(difference - difference.mean()).mean())


def _decoded(video: Path, filters: str, pixel_format: str) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames (H, W, C) of a video at a constant rate, through further filters of ffmpeg; 'gray' or 'rgb24'."""
    # A file that calls itself a video may be a list of addresses; only files are opened.
    source = ["-protocol_whitelist", "file", "-i", f"file:{video}", "-map", "0:V:0"]
    target = ["-pix_fmt", pixel_format, "-f", "image2pipe", "-c:v", "pgm" if pixel_format == "gray" else "ppm", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *source]
    command += ["-vf", f"fps={_RATE},{filters}", "-r", str(_RATE), *target]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout is not None
        try:
            while (frame := _read_netpbm(process.stdout)) is not None:
                yield frame
            if process.wait() != 0:
                log.seek(0)
                said = log.read().decode("utf8", "replace").strip().splitlines() or ["no reason given"]
                raise ValueError(f"{video}: expected a video that ffmpeg reads, found something else ({said[-1]})")
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _read_netpbm(stream: IO[bytes]) -> Optional[npt.NDArray[np.uint8]]:
    """The next binary PGM or PPM picture of a stream, (H, W, 1) or (H, W, 3); None at its end."""
    magic = stream.readline().strip()
    if magic not in (b"P5", b"P6"):
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()
    channels = 1 if magic == b"P5" else 3
    data = stream.read(width * height * channels)
    if len(data) < width * height * channels:
        return None
    return np.frombuffer(data, np.uint8).reshape(height, width, channels)
