"""What nerfstudio's commands write, read back by the tests that run them."""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np

WIDTH, HEIGHT = 48, 36
"""Size of the photos of the end-to-end tests' scene."""


def load_json(path: Path) -> dict:
    """Reads JSON and accepts only what the standard knows, so neither NaN nor Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{path}: {constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def check_video(path: Path, width: int, height: int, at_least: int) -> np.ndarray:
    """Frames (T, H, W, 3) of a video, which must have the size and show something."""
    frames = iio.imread(path, plugin="FFMPEG")
    assert frames.shape[0] >= at_least
    # H.264 wants even sizes and imageio pads to multiples of its block size unless told otherwise.
    assert abs(frames.shape[1] - height) <= 16 and abs(frames.shape[2] - width) <= 16
    assert frames.std(axis=(1, 2)).mean() > 4.0, "the frames are blank"
    return frames
