"""What a command raises when it cannot do its work for a reason that is not in its arguments."""

from __future__ import annotations


class CommandError(RuntimeError):
    """A step of a command failed; the message says which, and where to read more."""
