"""Small files of every format that the package reads, as bytes, and ways to break them."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any, Dict

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

RNG = np.random.default_rng(7)
DEPTH = (RNG.random((12, 16)) * 9 + 1).astype(np.float32)
PHOTO = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 12\n%%EndComments\nshowpage\n"


def picture(kind: str = "PNG", pixels: npt.NDArray = PHOTO, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def depth_png() -> bytes:
    return picture("PNG", np.round(DEPTH * 1000).astype(np.uint16))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header names another size than its pixels have; its checksum is right."""
    import zlib

    content = bytearray(picture())
    content[16:24] = struct.pack(">2I", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def npy(array: npt.NDArray = DEPTH) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_header(text: str) -> bytes:
    padded = text + " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(padded)) + padded.encode()


def npy_claiming(shape: str, kind: str = "<f4") -> bytes:
    return npy_header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}") + bytes(64)


def npz(compressed: bool = False, **arrays: npt.NDArray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **(arrays or {"depth": DEPTH}))
    return stream.getvalue()


def zipped(members: Dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def in_directory(content: bytes, offset: int, value: bytes, entry: int = 0) -> bytes:
    """A zip archive with other bytes in an entry of its directory (APPNOTE 4.3.12)."""
    at = -1
    for _ in range(entry + 1):
        at = content.index(b"PK\x01\x02", at + 1)
    return content[: at + offset] + value + content[at + offset + len(value) :]


def in_header(content: bytes, offset: int, value: bytes) -> bytes:
    """A zip archive with other bytes in its first local header."""
    return content[:offset] + value + content[offset + len(value) :]


def encrypted(content: bytes) -> bytes:
    return in_header(in_directory(content, 8, b"\x01\x00"), 6, b"\x01\x00")


def of_unknown_method(content: bytes) -> bytes:
    return in_header(in_directory(content, 10, b"\x63\x00"), 8, b"\x63\x00")


def checkpoint() -> bytes:
    stream = io.BytesIO()
    torch.save({"step": 3, "pipeline": {"weight": torch.arange(6.0)}}, stream)
    return stream.getvalue()


def pfm(width: int = 16, height: int = 12) -> bytes:
    return f"Pf\n{width} {height}\n-1.0\n".encode() + DEPTH[::-1].astype("<f4").tobytes()


def attribute(name: str, kind: str, data: bytes, claimed: int = -1) -> bytes:
    """An attribute of an EXR file, which may claim another size than it has."""
    size = len(data) if claimed == -1 else claimed
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", size) + data


def exr(extra: bytes = b"", version: int = 2, channel: bytes = b"", **changes: bytes) -> bytes:
    """An uncompressed scan-line file of one float channel, after the OpenEXR file layout document.

    Args:
        extra: attributes before the others.
        version: the version field.
        channel: in place of what the list of channels says.
        changes: values of attributes; empty leaves one out.
    """
    height, width = DEPTH.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    values = {
        "channels": ("chlist", channel or b"Y\0" + struct.pack("<iB3xii", 2, 0, 1, 1) + b"\0"),
        "compression": ("compression", b"\0"),
        "dataWindow": ("box2i", window),
        "displayWindow": ("box2i", window),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", struct.pack("<2f", 0, 0)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
    }
    kept = {name: (kind, changes.get(name, value)) for name, (kind, value) in values.items()}
    header = b"\x76\x2f\x31\x01" + struct.pack("<I", version) + extra
    header += b"".join(attribute(name, kind, value) for name, (kind, value) in kept.items() if value) + b"\0"
    start = len(header) + 8 * height
    table = b"".join(struct.pack("<Q", start + line * (4 * width + 8)) for line in range(height))
    lines = b"".join(struct.pack("<ii", line, 4 * width) + DEPTH[line].tobytes() for line in range(height))
    return header + table + lines
