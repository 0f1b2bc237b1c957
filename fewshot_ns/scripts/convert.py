"""`ns-fewshot convert`: scenes from one layout into another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional, Tuple

import tyro


@dataclass
class ConvertCommand:
    """Convert a scene: multiscale-blender makes mip-NeRF's multi-scale scene of a Blender scene."""

    kind: tyro.conf.Positional[Literal["multiscale-blender"]]
    """What to make."""
    data: Path
    """Folder of the scene, with transforms_{train,val,test}.json."""
    output: Optional[Path] = None
    """Folder to write; None: beside the scene, with _multiscale after its name."""
    levels: int = 4
    """Sizes per frame: full, 1/2, 1/4, 1/8."""
    splits: Tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    """Which splits to convert."""
    overwrite: bool = False
    """Whether to write into a folder that holds files already."""

    def main(self) -> None:
        """Converts.

        Raises:
            FileNotFoundError: the scene is not there.
            ValueError: it is damaged, or the target holds files.
        """
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from fewshot_ns.data.dataparsers.single.multiscale_conversion import convert_blender

        source = self.data.resolve()
        target = self.output or source.with_name(f"{source.name}_multiscale")
        if target.exists() and not self.overwrite and (not target.is_dir() or any(target.iterdir())):
            raise ValueError(
                f"{target}: expected no such folder or an empty one, found files; --overwrite to write there"
            )
        columns = (TextColumn("converting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task("", total=None)
            written = convert_blender(
                source,
                target,
                self.levels,
                self.splits,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        Console().print(
            f"{target}: {written} pictures in {self.levels} sizes. Train on it with\n"
            f"  ns-train METHOD --data {target} multiscale-blender-data",
            highlight=False,
            soft_wrap=True,
        )
