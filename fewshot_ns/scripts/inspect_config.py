"""`ns-fewshot inspect-config`: what a config.yml would import and call, without doing so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Tuple

import tyro

if TYPE_CHECKING:
    import yaml

    from fewshot_ns.utils.config_names import Named


@dataclass
class InspectConfigCommand:
    """List what nerfstudio's commands would import, make and call if they read a config.yml, without doing any of it.

    Commands of nerfstudio (ns-eval, ns-render, ns-viewer, ns-export, ns-train --load-config) run whatever such a file
    names. Those of ns-fewshot refuse what is marked here, or leave it out. The status is 1 where something is.
    """

    file: tyro.conf.Positional[Path]
    """config.yml, or a folder with exactly one of them somewhere below."""

    def main(self) -> None:
        """Prints the list.

        Raises:
            FileNotFoundError: no such file, or none in the folder.
            ValueError: the file is no YAML, or names what ns-fewshot refuses.
        """
        from rich.console import Console

        from fewshot_ns.presentation.tables import Column, Table, print_table
        from fewshot_ns.scripts.runs import find_config
        from fewshot_ns.utils.config_file import compose
        from fewshot_ns.utils.config_names import refusal

        file = find_config(self.file)
        found = named_in(compose(file))
        refused = [named for named in found if refusal(named)]
        rows = [
            (str(named), count, line, f"refused: {refusal(named)}" if named in refused else "accepted")
            for named, (count, line) in sorted(found.items(), key=lambda item: (not refusal(item[0]), item[1][1]))
        ]
        if rows:
            columns = (Column("what"), Column("count"), Column("first line"), Column("by ns-fewshot"))
            print_table(Table(columns, rows), str(file))
        else:
            Console().print(f"{file}: nothing but plain values", highlight=False, soft_wrap=True)
        if refused:
            raise ValueError(
                f"{file}: {len(refused)} of {len(found)} names are refused, the first in line {found[refused[0]][1]}: "
                f"{refused[0]}; give the file to no command of nerfstudio unless you trust it like a program"
            )


def named_in(root: yaml.Node) -> Dict[Named, Tuple[int, int]]:
    """What the tags of a file name, in the file's order.

    Args:
        root: as `compose` gives it, not deeper than it allows.

    Returns:
        For each how often, and the line of the first, from 1.
    """
    from fewshot_ns.utils.config_file import children, line_of
    from fewshot_ns.utils.config_names import parse_tag

    found: Dict[Named, Tuple[int, int]] = {}
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        named = parse_tag(str(node.tag))
        if named is not None and named.kind != "plain":
            count, line = found.get(named, (0, line_of(node)))
            found[named] = count + 1, min(line, line_of(node))
        pending += reversed(children(node))
    return found
