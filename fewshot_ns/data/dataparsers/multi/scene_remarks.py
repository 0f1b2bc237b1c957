"""What the user is told of scenes among many: once of all that have the same to say."""

from __future__ import annotations

import re
from typing import Set

from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fewshot_ns.data.records.scene import Scene

_NUMBER = re.compile(r"\d+(\.\d+)?")


class SceneRemarks:
    """Says the remarks of scenes as they are opened."""

    def __init__(self) -> None:
        self._told: Set[str] = set()

    def tell(self, scene: Scene, others: bool = True) -> None:
        """Says what a user should know of a scene, unless the same but for names and numbers has been said before.

        Args:
            scene: The scene.
            others: Whether there are further scenes, of which the same may hold.
        """
        for remark in scene.remarks:
            alike = _NUMBER.sub("0", remark.replace(str(scene.entry.folder), ""))
            if alike in self._told or CONSOLE.quiet:
                continue
            self._told.add(alike)
            words = f"{remark} (said of the first such scene alone)" if others else remark
            CONSOLE.print(f"[yellow]{escape(words)}[/yellow]", highlight=False, soft_wrap=True)
