"""Depth maps and normals in OpenEXR files, read by the OpenEXR project's own library."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import numpy as np
import numpy.typing as npt

from fewshot_ns.data.files.exr_header import MAGIC, DamagedHeader, check_exr_header
from fewshot_ns.utils.reading import reading


def read_exr_depth(path: Path) -> npt.NDArray[np.float32]:
    """Reads the depth of an EXR file: channel R (what Blender's compositor writes), Y, or the only one there is.

    Args:
        path: A scan-line or tiled file of one part, half or float, under any compression.

    Returns:
        (H, W) float32 as stored.

    Raises:
        ValueError: no EXR file, a damaged one, or channels that hold no depth.
    """
    channels = read_exr_channels(path)
    names = tuple(channels)
    if len(names) == 1:
        return channels[names[0]]
    name = next((name for name in ("R", "Y") if name in channels), None)
    if name is None:
        raise ValueError(f"{path}: expected the depth in channel R or Y, or in the only channel, found {names}")
    depth = channels[name]
    others = [channels[other] for other in ("G", "B") if other in channels]
    # Some programs leave G and B at zero.
    if any(other.any() and not np.array_equal(other, depth, equal_nan=True) for other in others):
        raise ValueError(f"{path}: expected one depth per pixel, found different values in the channels {names}")
    return depth


def read_exr_vectors(path: Path) -> npt.NDArray[np.float32]:
    """(H, W, 3) float32 channels R, G and B of an EXR file as stored.

    Raises:
        ValueError: no EXR file, a damaged one, or other channels.
    """
    channels = read_exr_channels(path)
    if not {"R", "G", "B"} <= channels.keys():
        raise ValueError(f"{path}: expected the channels R, G and B, found {tuple(channels)}")
    return np.stack([channels[name] for name in "RGB"], axis=-1)


def read_exr_channels(path: Path) -> Dict[str, npt.NDArray[np.float32]]:
    """All channels (H, W) of an EXR file of one part as float32, by their names in alphabetical order.

    Raises:
        ValueError: no EXR file, a damaged one, or one of several parts or samples per pixel.
    """
    import OpenEXR  # here, because the registry loads this module within every command of nerfstudio

    with path.open("rb") as stream:
        start = stream.read(len(MAGIC))
    if start != MAGIC:
        raise ValueError(f"{path}: expected an EXR file, found a file that starts with {start!r}")
    try:
        check_exr_header(path)
    except DamagedHeader as error:
        text = str(error) if str(error).startswith("expected") else f"expected a readable EXR file, found that {error}"
        raise ValueError(f"{path}: {text}") from error
    # Of damaged pixels the library leaves no part.
    with (
        reading(path, "a readable EXR file", "a damaged one"),
        OpenEXR.File(str(path), separate_channels=True) as file,
    ):
        pixels = {name: channel.pixels.astype(np.float32) for name, channel in sorted(file.channels().items())}
        count, kind = len(file.parts), file.parts[0].type()
    if count != 1 or kind not in (OpenEXR.scanlineimage, OpenEXR.tiledimage):
        raise ValueError(f"{path}: expected an EXR file of one part, found {count}, the first of type {kind.name}")
    return pixels
