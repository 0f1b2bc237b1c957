"""What the user is told of scenes among many: once of all that have the same to say."""

from __future__ import annotations

from typing import Set

from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fewshot_ns.data.records.scene import Scene


class SceneRemarks:
    """Says the remarks of scenes as they are opened."""

    def __init__(self) -> None:
        self._told: Set[str] = set()

    def tell(self, scene: Scene, others: bool = True) -> None:
        """Says what a user should know of a scene, unless something of that kind has been said before.

        Args:
            scene: The scene.
            others: Whether there are further scenes, of which the same may hold.
        """
        for kind, remark in scene.remarks.items():
            if kind in self._told or CONSOLE.quiet:
                continue
            self._told.add(kind)
            words = f"{remark} (said of the first such scene alone)" if others else remark
            CONSOLE.print(f"[yellow]{escape(words)}[/yellow]", highlight=False, soft_wrap=True)
