"""Hashes that name cached and finished work. What they return is stored on disk: a change makes all of it stale."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Union

_ENDS = 1 << 16
"""Bytes at either end of a file that are hashed together with its size: enough to tell photos and checkpoints apart."""


def sha256_hex(chunks: Iterable[Union[bytes, str]]) -> str:
    """SHA-256 of chunks of bytes or text, one after the other: 64 hexadecimal digits."""
    total = hashlib.sha256()
    for chunk in chunks:
        total.update(chunk.encode() if isinstance(chunk, str) else chunk)
    return total.hexdigest()


def json_hash(value: Any, sort_keys: bool = False) -> str:
    """SHA-256 of a value's JSON text."""
    return sha256_hex([json.dumps(value, sort_keys=sort_keys)])


def file_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time."""
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    return sha256_hex(file_chunks(path))


def files_hash(paths: Iterable[Path]) -> Optional[str]:
    """BLAKE2b of the whole content of files, in order; missing ones do not count. None where none is there."""
    there = [path for path in paths if path.is_file()]
    if not there:
        return None
    sizes = (str(path.stat().st_size).encode() + b";" for path in there)
    return fast_hash(itertools.chain(sizes, *(file_chunks(path) for path in there)))


def fast_hash(chunks: Iterable[bytes]) -> str:
    """BLAKE2b of chunks of bytes, for gigabytes that are hashed often: 32 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        total.update(chunk)
    return total.hexdigest()


def digest(*parts: Any) -> str:
    """Hash of bytes, and of everything else by its text, 16 hexadecimal digits; the order counts."""
    data = (part if isinstance(part, bytes) else str(part).encode() for part in parts)
    return sha256_hex(len(part).to_bytes(8, "little") + part for part in data)[:16]


def file_key(path: Path) -> str:
    """Hash of a file's size and both its ends; of its name alone where it is missing, as optional files may be."""
    if not path.is_file():
        return digest(path.name, "missing")
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_ENDS)
        stream.seek(max(size - _ENDS, len(head)))
        return digest(size, head, stream.read())
