"""`ns-fewshot solids`: a generated dataset of many small objects, to train generalizable methods on within minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class SolidsCommand:
    """Make a dataset of many small objects (chairs, tables, lamps, cabinets, houses, towers) in the layout of SRN."""

    output: Path = Path("solids")
    """Folder to write; an identical dataset in it is left as it is."""
    objects: int = 60
    """Number of objects, of all splits."""
    views: int = 24
    """Views per object."""
    size: int = 64
    """Height and width of the images, pixels."""
    val_share: float = 0.1
    """Share of the objects in the validation split, at least one."""
    test_share: float = 0.2
    """Share of the objects in the test split, at least one."""
    seed: int = 0
    """Decides objects and cameras."""

    def main(self) -> None:
        """Makes the dataset.

        Raises:
            ValueError: the flags do not fit, or the folder holds something else.
        """
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

        flags = {name: value for name, value in vars(self).items() if name != "output"}
        config = SolidsConfig(**flags)
        columns = (TextColumn("rendering objects"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task("", total=config.objects)
            written = write_solids(
                self.output, config, lambda done, total: progress.update(task, completed=done, total=total)
            )
        counts = ", ".join(f"{count} {split}" for split, count in config.counts().items())
        Console().print(
            f"{self.output}: {config.objects} objects ({counts}) of {config.views} views, {config.size}x{config.size} "
            f"pixels, near {config.near:g}, far {config.far:g}{'' if written else '; it was there already'}. "
            f"Train on it with\n  ns-train METHOD --data {self.output} srn-data",
            highlight=False,
            soft_wrap=True,
        )
