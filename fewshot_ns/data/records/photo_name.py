"""What a photo of a scene is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Tuple


@dataclass(frozen=True)
class PhotoName:
    """Names of one photo, which no other photo of the scene's list has."""

    folder: Path
    """Folder that holds all photos of the list, directly or in folders of its own."""
    path: str
    """Path below it, with slashes: 'left/0005.png'."""
    name: str
    """'0005.png' where no other photo of the list is called 0005, else `path`."""
    stem: str
    """`name` without its suffix; with it where 0005.png and 0005.jpg lie in one folder."""
    alike: Tuple[str, ...] = ()
    """Paths of the other photos of the list whose bare name, without folder and suffix, is the same."""

    @property
    def file(self) -> Path:
        """The photo's file."""
        return self.folder / self.path

    @property
    def bare(self) -> str:
        """Name without folder and suffix: '0005'."""
        return Path(self.path).stem

    def among(self) -> str:
        """This photo and those called alike, in words."""
        shown = sorted((self.path, *self.alike))
        return " and ".join(shown[:2]) + (f" and {len(shown) - 2} more" if len(shown) > 2 else "")
