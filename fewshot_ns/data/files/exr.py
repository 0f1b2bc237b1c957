"""Depth maps and normals in OpenEXR files, decoded by OpenCV.

OpenCV reads only the channels R, G, B and Y, leaves zeros where a file has other ones, and ships with its codec
switched off; this module looks at the channel list first and says what is wrong.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Dict, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.utils.opencv import quiet_opencv

CODEC_VARIABLE = "OPENCV_IO_ENABLE_OPENEXR"
"""Environment variable that OpenCV reads once, before it decodes its first EXR file."""

_MAGIC = struct.pack("<i", 20000630)


def read_exr_depth(path: Path) -> npt.NDArray[np.float32]:
    """Reads the depth of an EXR file: channel R (what Blender's compositor writes), Y, or the only one there is.

    Args:
        path: A scan-line or tiled file of one part, half or float.

    Returns:
        (H, W) float32 as stored.

    Raises:
        ValueError: no EXR file, a damaged one, channels that hold no depth, or an OpenCV without the codec.
    """
    content = path.read_bytes()
    channels = exr_channels(content, path)
    if not {"R", "Y"} & set(channels):
        content = _renamed(content, channels, path)
    image = _decoded(content, path)
    if image.ndim == 2:
        return image
    depth, others = image[..., 2], image[..., :2]
    # A file with R alone comes back with zeros in the other two.
    if not np.array_equal(others, np.broadcast_to(depth[..., None], others.shape), equal_nan=True) and others.any():
        raise ValueError(f"{path}: expected one depth per pixel, found different values in the channels {channels}")
    return depth


def read_exr_vectors(path: Path) -> npt.NDArray[np.float32]:
    """(H, W, 3) float32 channels R, G and B of an EXR file as stored.

    Raises:
        ValueError: no EXR file, a damaged one, other channels, or an OpenCV without the codec.
    """
    content = path.read_bytes()
    channels = exr_channels(content, path)
    if not {"R", "G", "B"} <= set(channels):
        raise ValueError(f"{path}: expected the channels R, G and B, found {channels}")
    return np.ascontiguousarray(_decoded(content, path)[..., 2::-1])


def _decoded(content: bytes, path: Path) -> npt.NDArray[np.float32]:
    """(H, W) or (H, W, 3 or 4), blue first."""
    # OpenCV asks for it because old OpenEXR code is no place for files from strangers; a scene is the user's own.
    os.environ.setdefault(CODEC_VARIABLE, "1")
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(
            f"{path}: expected OpenCV {cv2.__version__} to read EXR files, found its codec switched off or absent "
            f"({CODEC_VARIABLE}={os.environ[CODEC_VARIABLE]} at its first use); set it to 1 before starting, or save "
            "it as .pfm, .npy or .png"
        ) from error
    if image is None:
        raise ValueError(f"{path}: expected a readable EXR file, found a damaged one or a kind OpenCV does not know")
    return image.astype(np.float32)


def exr_channels(content: bytes, path: Path) -> Tuple[str, ...]:
    """Names of the channels in the header of an EXR file.

    Args:
        content: The file, at least its header.
        path: Its name, for the messages.

    Raises:
        ValueError: the header is not that of an EXR file.
    """
    return tuple(_channel_offsets(content, path))


def _channel_offsets(content: bytes, path: Path) -> Dict[str, int]:
    """Where the name of each channel starts."""
    if content[:4] != _MAGIC:
        raise ValueError(f"{path}: expected an EXR file, found a file that starts with {content[:4]!r}")
    try:
        position = 8
        while content[position]:
            end = content.index(b"\0", position)
            name = content[position:end]
            position = content.index(b"\0", end + 1) + 1
            (size,) = struct.unpack_from("<i", content, position)
            position += 4
            if name == b"channels":
                found = {}
                while content[position]:
                    end = content.index(b"\0", position)
                    found[content[position:end].decode("latin1")] = position
                    position = end + 17
                return found
            position += size
    except (IndexError, ValueError, struct.error) as error:
        raise ValueError(f"{path}: expected an EXR file, found one cut short in its header") from error
    raise ValueError(f"{path}: expected an EXR file of one part, found no list of channels in its header")


def _renamed(content: bytes, channels: Tuple[str, ...], path: Path) -> bytes:
    """The file with its only channel called Y, the name that OpenCV knows."""
    if len(channels) != 1 or len(channels[0]) != 1:
        raise ValueError(f"{path}: expected the depth in channel R or Y, or in the only channel, found {channels}")
    position = _channel_offsets(content, path)[channels[0]]
    return content[:position] + b"Y" + content[position + 1 :]
