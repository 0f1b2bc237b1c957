"""Short hashes by which finished work is known again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

_ENDS = 1 << 16
"""Bytes at either end of a file that are hashed beside its size: enough to tell photos and checkpoints apart."""


def digest(*parts: Any) -> str:
    """Hash of bytes, and of everything else by its text, 16 hexadecimal digits; the order counts."""
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:16]


def file_key(path: Path) -> str:
    """Hash of a file's size and both its ends; of its name alone where it is missing, as optional files may be."""
    if not path.is_file():
        return digest(path.name, "missing")
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_ENDS)
        stream.seek(max(size - _ENDS, len(head)))
        return digest(size, head, stream.read())
