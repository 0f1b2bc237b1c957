"""Checks of an EXR file's header (OpenEXR file layout) before the OpenEXR library is given the file.

The library goes on for ever over an attribute of negative size, and asks for whatever memory a header claims.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Dict, NamedTuple, Tuple

MAGIC = b"\x76\x2f\x31\x01"
"""The first bytes of every EXR file."""
_LONG_NAMES, _DEEP, _PARTS = 0x400, 0x800, 0x1000
"""Flags of the version field: names of up to 255 bytes, deep data, several parts."""
_MOST_ATTRIBUTES = 4096
"""Of a part; programs write some tens."""
_MOST_PIXELS = 1 << 28
"""Of a file, as many as 16384x16384."""
_RATIO = 100_000
"""Bytes that a byte may stand for under any compression; no scene that a lens has seen comes near."""
_SAMPLE_BYTES = {0: 4, 1: 2, 2: 4}
"""Bytes of a sample by pixel type: uint, half, float."""
_FIXED_SIZES = {
    "box2f": 16, "box2i": 16, "chromaticities": 32, "compression": 1, "double": 8, "envmap": 1, "float": 4, "int": 4,
    "keycode": 28, "lineOrder": 1, "m33f": 36, "m44f": 64, "rational": 8, "tiledesc": 9, "timecode": 8, "v2f": 8,
    "v2i": 8, "v3f": 12, "v3i": 12,
}  # fmt: skip
"""Bytes of attributes by type."""


class _Attribute(NamedTuple):
    kind: str
    value: bytes


class DamagedHeader(ValueError):
    """A header that says something impossible; the text does not name the file."""


def check_exr_header(path: Path) -> None:
    """Checks that a file's header ends, and claims no more than the file can hold.

    Args:
        path: a file that starts with `MAGIC`.

    Raises:
        OSError: it cannot be read.
        DamagedHeader: what is wrong.
    """
    size = os.path.getsize(path)
    with path.open("rb") as stream:
        stream.seek(len(MAGIC))
        (version,) = struct.unpack("<I", _take(stream, 4))
        if version & 0xFF != 2 or version & _DEEP:
            raise DamagedHeader(f"expected pixels of one sample in version 2 of the format, found {version:#x}")
        longest = 255 if version & _LONG_NAMES else 31
        parts = [_attributes(stream, size, longest)]
        while version & _PARTS:
            part = _attributes(stream, size, longest)
            if not part:
                break
            parts.append(part)
    if len(parts) != 1:
        raise DamagedHeader(f"expected an EXR file of one part, found {len(parts)}")
    _check_pixels(parts[0], size)


def _take(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise DamagedHeader("the file ends within its header")
    return data


def _attributes(stream: BinaryIO, size: int, longest: int) -> Dict[str, _Attribute]:
    """Attributes of one part by name; none where the list of parts ends."""
    found: Dict[str, _Attribute] = {}
    while True:
        name = _word(stream, longest)
        if not name:
            return found
        kind = _word(stream, longest)
        (length,) = struct.unpack("<i", _take(stream, 4))
        if not 0 <= length <= size - stream.tell():
            raise DamagedHeader(f"attribute {name!r} claims {length} bytes of a file of {size}")
        value = _take(stream, length)
        if _FIXED_SIZES.get(kind, length) != length:
            raise DamagedHeader(f"attribute {name!r} of type {kind} has {length} bytes")
        if kind == "stringvector":
            _check_strings(name, value)
        if kind == "preview":
            _check_preview(name, value)
        found[name] = _Attribute(kind, value)
        if len(found) > _MOST_ATTRIBUTES:
            raise DamagedHeader(f"more than {_MOST_ATTRIBUTES} attributes")


def _word(stream: BinaryIO, longest: int) -> str:
    """Text up to the zero that ends it."""
    found = bytearray()
    while True:
        byte = _take(stream, 1)
        if byte == b"\0":
            return found.decode("latin-1")
        found += byte
        if len(found) > longest:
            raise DamagedHeader(f"a name of more than {longest} bytes")


def _check_strings(name: str, value: bytes) -> None:
    at = 0
    while at < len(value):
        length = struct.unpack_from("<i", value, at)[0] if at + 4 <= len(value) else -1
        at += 4 + length
        if length < 0 or at > len(value):
            raise DamagedHeader(f"attribute {name!r} holds a text of {length} bytes")


def _check_preview(name: str, value: bytes) -> None:
    width, height = struct.unpack_from("<2I", value) if len(value) >= 8 else (1, 1)
    if len(value) != 8 + 4 * width * height:
        raise DamagedHeader(f"attribute {name!r} claims {width}x{height} pixels in {len(value)} bytes")


def _check_pixels(part: Dict[str, _Attribute], size: int) -> None:
    columns, rows = _side(part, "dataWindow")
    _side(part, "displayWindow")
    sample_bytes = _bytes_per_pixel(_value(part, "channels", "chlist"))
    claimed = columns * rows * sample_bytes
    compressed = _value(part, "compression", "compression") != b"\0"
    if columns * rows > _MOST_PIXELS or claimed > size * (_RATIO if compressed else 1):
        raise DamagedHeader(f"the header claims {columns}x{rows} pixels of {sample_bytes} bytes in a file of {size}")
    if "tiles" in part:
        width, height, _ = struct.unpack("<2IB", _value(part, "tiles", "tiledesc"))
        if not (0 < width <= 1 << 16 and 0 < height <= 1 << 16) or width * height > _MOST_PIXELS:
            raise DamagedHeader(f"the header claims tiles of {width}x{height} pixels")
        # Of each tile the file holds the place.
        if -(-columns // width) * -(-rows // height) * 8 > size:
            raise DamagedHeader(f"the header claims more tiles of {width}x{height} pixels than the file holds")


def _value(part: Dict[str, _Attribute], name: str, kind: str) -> bytes:
    if name not in part or part[name].kind != kind:
        raise DamagedHeader(f"no attribute {name!r} of type {kind}")
    return part[name].value


def _side(part: Dict[str, _Attribute], name: str) -> Tuple[int, int]:
    """Columns and rows of a window, one at least."""
    left, top, right, bottom = struct.unpack("<4i", _value(part, name, "box2i"))
    if right < left or bottom < top:
        raise DamagedHeader(f"{name} from {left}, {top} to {right}, {bottom}")
    return right - left + 1, bottom - top + 1


def _bytes_per_pixel(channels: bytes) -> int:
    at = total = 0
    while at < len(channels) and channels[at]:
        end = channels.find(b"\0", at)
        if end < 0 or end + 17 > len(channels):
            raise DamagedHeader("the list of channels does not end")
        kind, _, across, down = struct.unpack_from("<iIii", channels, end + 1)
        if kind not in _SAMPLE_BYTES or (across, down) != (1, 1):
            raise DamagedHeader(f"a channel of pixel type {kind} with a sample per {across}x{down} pixels")
        total += _SAMPLE_BYTES[kind]
        at = end + 17
    if not total or at != len(channels) - 1:
        raise DamagedHeader("the list of channels does not end, or names none")
    return total
