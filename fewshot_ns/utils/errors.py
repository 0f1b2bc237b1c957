"""The error of a command that fails for a reason other than its arguments."""

from __future__ import annotations


class CommandError(RuntimeError):
    """A step of a command failed; the message names it and its log."""
