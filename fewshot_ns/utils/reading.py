"""What damaged files, and files of another kind than their name says, make libraries raise: here it becomes one error.

Which exception comes up depends on the byte that is wrong, and on the version of the library: one list for all readers.
"""

from __future__ import annotations

import binascii
import lzma
import pickle
import struct
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Tuple, Type

DAMAGE: Tuple[Type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    binascii.Error,
    lzma.LZMAError,
    pickle.UnpicklingError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
)
"""What Python, numpy, Pillow, torch and zipfile run into in a damaged file. Some of it, such as AttributeError, is a
mistake elsewhere: only calls that do nothing but read a file belong into a block that catches these."""
_LONGEST = 200
"""Characters of a library's own words that are passed on: some quote the file."""


@contextmanager
def reading(
    path: Path,
    expected: str,
    found: str = "a damaged file",
    kind: Type[Exception] = ValueError,
    also: Tuple[Type[Exception], ...] = (),
) -> Iterator[None]:
    """Turns whatever a damaged file makes a library raise into one error that names the file.

    Args:
        path: the file that the block reads.
        expected: what it should be, as 'a depth map'.
        found: what it is then said to be.
        kind: class of the error, one of ValueError for users.
        also: exceptions of a library that are of a class of its own, such as cv2.error.

    Raises:
        FileNotFoundError: no such file.
        kind: it cannot be read. What the block itself has said of the file, in a text that begins with its path, stays
            as it is.
    """
    try:
        yield
    except (*DAMAGE, *also) as error:
        if isinstance(error, (OSError, RuntimeError, ValueError)) and str(error).startswith(str(path)):
            raise
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{path}: expected {expected}, found no such file") from error
        if isinstance(error, MemoryError):
            found = "more than fits into memory"
        elif isinstance(error, OSError) and error.errno is not None:
            found = "a file that cannot be read"
        raise kind(f"{path}: expected {expected}, found {found} ({reason_of(error)})") from error


def read_text(path: Path, kind: Type[Exception] = ValueError) -> str:
    """A text file, UTF-8, with or without the mark that editors of Windows leave.

    Args:
        path: the file.
        kind: class of the error.

    Raises:
        FileNotFoundError: no such file.
        kind: it cannot be read, or is no text.
    """
    with reading(path, "text", "another kind of file", kind):
        return path.read_text(encoding="utf-8-sig")


def reason_of(error: BaseException) -> str:
    """What an exception says in its first line, in at most 200 characters; its name where it says nothing."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    first = (text.strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, LookupError):
        first = f"{type(error).__name__}: {first}"
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST]}..."
