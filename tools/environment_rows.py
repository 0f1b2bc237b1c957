"""The environments that tools/environments.py makes: Python, extras, and the releases that each is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

ALL_EXTRAS = ("priors", "photos", "bench", "fid")
"""Extras that a user's commands need; docs and dev are for developers."""

TEST_TOOLS = ("pytest>=8.2", "hypothesis", "setuptools")
"""What the checks need beside the package."""


@dataclass(frozen=True)
class Row:
    """One environment."""

    name: str
    """In the table, and on the command line."""
    why: str
    """What it shows, in a few words."""
    python: str
    """Minor release, such as 3.11."""
    extras: Tuple[str, ...] = ()
    """Extras of pyproject.toml that are installed; what the others are for must end in an error that names them."""
    pins: Tuple[str, ...] = ()
    """Requirements that must hold beside those of the packages."""
    lifted: Tuple[str, ...] = ()
    """Requirements that replace what packages ask for, against nerfstudio's pins."""
    works: bool = True
    """False: an environment that is known not to work, kept for the reason in the table."""


_OLDEST_TORCH = ("torch==2.0.1", "torchvision==0.15.2", "numpy<2")
_OLDEST_OF_OURS = ("nerfstudio==1.1.5", "pydantic==2.7.*", "OpenEXR==3.3.*")

ROWS: Tuple[Row, ...] = (
    Row("py310", "newest releases, every extra", "3.10", ALL_EXTRAS),
    Row("py311", "newest releases, every extra", "3.11", ALL_EXTRAS),
    Row("py312", "newest releases, every extra", "3.12", ALL_EXTRAS),
    Row("py310-plain", "no extra", "3.10"),
    Row("py311-plain", "no extra", "3.11"),
    Row("py312-plain", "no extra", "3.12"),
    Row("py311-photos", "one extra alone", "3.11", ("photos",)),
    Row(
        "py310-oldest",
        "oldest torch, and oldest of what pyproject.toml bounds",
        "3.10",
        (),
        _OLDEST_TORCH + _OLDEST_OF_OURS,
    ),
    Row(
        "py311-oldest",
        "oldest torch on Python 3.11, where nerfstudio itself does not import",
        "3.11",
        (),
        ("torchvision==0.15.2", "numpy<2"),
        ("torch==2.0.1",),
        False,
    ),
    Row(
        "py311-torch24",
        "torch halfway, every extra but that of networks, whose newest releases want torch 2.5",
        "3.11",
        ("photos", "bench", "fid"),
        ("torch==2.4.1", "numpy<2"),
    ),
    Row(
        "py312-torch22",
        "the first torch for Python 3.12, where nerfstudio itself does not import",
        "3.12",
        (),
        ("torchvision==0.17.2", "numpy<2"),
        ("torch==2.2.2",),
        False,
    ),
    Row(
        "py312-torch24",
        "the first torch with which nerfstudio imports on Python 3.12",
        "3.12",
        (),
        ("torch==2.4.1", "torchvision==0.19.1", "numpy<2"),
    ),
    Row(
        "py311-torch21",
        "the first torch with which nerfstudio imports on Python 3.11",
        "3.11",
        (),
        ("torch==2.1.2", "torchvision==0.16.2", "numpy<2"),
    ),
    Row(
        "py310-torch113",
        "nerfstudio's own lower bound",
        "3.10",
        (),
        ("torchvision==0.14.1", "numpy<2"),
        ("torch==1.13.1",),
        False,
    ),
    Row("py311-clip", "newest open_clip and timm", "3.11", ALL_EXTRAS, (), ("timm>=1", "open_clip_torch>=3")),
    Row("py311-gsplat15", "gsplat 1.5.3", "3.11", ("priors",), (), ("gsplat==1.5.3",)),
    Row("py311-numpy1", "numpy 1 with the newest releases", "3.11", ALL_EXTRAS, ("numpy<2",)),
)
