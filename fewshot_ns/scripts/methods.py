"""`ns-fewshot methods`: the methods of this package, their papers and the licences of the authors' code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

INTRODUCTION = """# Methods

Made by `ns-fewshot methods --markdown docs/methods.md` from the registry (`fewshot_ns/registry.py`), not by hand.

The methods are independent implementations; the code named here is that of the authors, from which configurations and
details were read, with its licence as far as it is known. *unknown*: no licence has been seen in its repository.
Published figures are those that `ns-fewshot report` sets beside our own; a `-lite` preset has none, since no paper
measured it.
"""


class MethodRow(NamedTuple):
    """What the table says of a method."""

    name: str
    """As `ns-train` takes it."""
    description: str
    """What it is, in a sentence."""
    page: str
    """Its page in `docs/`."""
    citation: str
    """Authors and venue."""
    link: Optional[str]
    """The paper; None: there is none."""
    code: str
    """Address of the authors' code."""
    licence: str
    """Licence of that code."""
    figures: Tuple[str, ...]
    """Datasets for which it has published figures."""

    @property
    def repository(self) -> str:
        """Owner and name of the authors' repository."""
        return "/".join(self.code.removeprefix("https://github.com/").split("/")[:2])


def method_rows() -> List[MethodRow]:
    """All methods in the registry's order."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns import registry

    rows = []
    for name, entry in registry.METHODS.items():
        datasets = dict.fromkeys(result.dataset.partition("/")[0] for result in registry.paper_results(name))
        paper = entry.paper
        rows.append(
            MethodRow(
                name=name.replace("_", "-"),
                description=entry.description,
                page=entry.page,
                citation=paper.citation,
                link=paper.link,
                code=paper.code,
                licence=paper.licence,
                figures=tuple(datasets),
            )
        )
    return rows


def methods_page() -> str:
    """The text of `docs/methods.md`."""

    def line(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [line("method", "what", "paper", "authors' code", "its licence", "published figures"), line(*["---"] * 6)]
    for row in method_rows():
        lines.append(
            line(
                f"[`{row.name}`]({row.page})",
                row.description,
                row.citation if row.link is None else f"[{row.citation}]({row.link})",
                f"[{row.repository}]({row.code})",
                row.licence,
                ", ".join(row.figures) or "none",
            )
        )
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"


@dataclass
class MethodsCommand:
    """List the methods: what they are, their papers, the authors' code and its licence."""

    markdown: Optional[Path] = None
    """Markdown file to write the list to; None: it is shown on the screen."""

    def main(self) -> None:
        """Shows or writes the list.

        Raises:
            OSError: the file cannot be written.
        """
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from fewshot_ns.utils.files import write_text

        if self.markdown is not None:
            page = methods_page()
            write_text(self.markdown, page)
            return
        table = Table()
        for title in ("method", "what", "paper", "authors' code", "its licence"):
            table.add_column(title, overflow="fold", no_wrap=title == "method")
        for row in method_rows():
            table.add_row(
                Text(row.name),
                Text(row.description),
                Text(row.citation, style="" if row.link is None else f"link {row.link}"),
                Text(row.repository, style=f"link {row.code}"),
                Text(row.licence),
            )
        Console().print(table)
