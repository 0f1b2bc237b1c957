"""Devices by the names that flags give them."""

from __future__ import annotations

import torch


def find_device(name: str) -> torch.device:
    """The device of a name: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
