"""`ns-fewshot genlist`: lists of a data set in NMR's layout that train on some categories and test on the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Tuple

import tyro


@dataclass
class GenlistCommand:
    """Write the lists gen_*.lst of NMR's ShapeNet: training on some categories, testing on all others.

    `ns-train pixelnerf-sn64-unseen` reads them."""

    data: tyro.conf.Positional[Path]
    """Folder of the data set, with a folder for each category."""
    train: Tuple[str, ...] = ("02691156", "02958343", "03001627")
    """Folders of the categories that train; airplanes, cars and chairs as published."""
    test: Literal["all", "test"] = "all"
    """Which objects of the other categories test: all, as published, or those of their test list."""
    prefix: str = "gen_"
    """Beginning of the names of the lists that are written (nmr-data --list-prefix)."""
    of_prefix: str = "softras_"
    """Beginning of the names of the lists that the objects are taken from."""
    overwrite: bool = False
    """Whether lists of other content are replaced."""

    def main(self) -> None:
        """Writes the lists.

        Raises:
            FileNotFoundError: the data set or a list of it is missing.
            ValueError: the flags do not fit the data set, or other lists are there.
        """
        from rich.console import Console

        # nerfstudio's modules import each other in this order only.
        import nerfstudio.configs.method_configs  # noqa: F401  # isort: skip

        from fewshot_ns.data.dataparsers.multi.unseen_categories import write_unseen_lists

        written = write_unseen_lists(
            self.data, self.train, self.test == "all", self.of_prefix, self.prefix, self.overwrite
        )
        counts = ", ".join(f"{count} {split}" for split, count in written.counts.items())
        flag = "" if self.prefix == "gen_" else f" --list-prefix {self.prefix}"
        Console().print(
            f"{self.data}: {counts} objects; {len(written.trained)} categories train, {len(written.tested)} test. "
            f"Train on it with\n  ns-train pixelnerf-sn64-unseen --data {self.data} nmr-data{flag}",
            highlight=False,
            soft_wrap=True,
        )
