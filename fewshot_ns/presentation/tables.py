"""Tables of results, on the screen and in Markdown; `html_page` has them in HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Union

TableCell = Union[str, int, float, None]

NOT_AVAILABLE = "n/a"
"""What a table shows for None."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    title: str
    """Heading."""
    digits: int = 2
    """Digits behind the point of floating point numbers."""
    higher_is_better: Optional[bool] = None
    """Which number of the column is printed bold: the largest (True), the smallest (False), or none (None)."""

    @property
    def heading(self) -> str:
        """The title, with an arrow where a direction is better."""
        return self.title + {None: "", True: " ↑", False: " ↓"}[self.higher_is_better]


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; None stands for a value that is not available."""

    columns: Sequence[Column]
    """The headings, the first of them that of the rows' names."""
    rows: Sequence[Sequence[TableCell]]
    """One cell per column."""
    caption: str = ""
    """What the table shows."""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"table row {number}: expected {len(self.columns)} cells, got {len(row)}")

    def text(self, row: int, column: int) -> str:
        """The cell as people read it."""
        value = self.rows[row][column]
        if value is None:
            return NOT_AVAILABLE
        return f"{value:.{self.columns[column].digits}f}" if isinstance(value, float) else str(value)

    def is_best(self, row: int, column: int) -> bool:
        """Whether the cell holds the best number of a column that has one and more than one number."""
        higher = self.columns[column].higher_is_better
        numbers = [cells[column] for cells in self.rows if isinstance(cells[column], (int, float))]
        if higher is None or len(numbers) < 2 or self.rows[row][column] is None:
            return False
        # Compared as printed, so that two equal figures never look different.
        best = (max if higher else min)(numbers)  # type: ignore[type-var]
        digits = self.columns[column].digits
        return self.text(row, column) == (f"{best:.{digits}f}" if isinstance(best, float) else str(best))


def print_table(table: Table, title: str = "") -> None:
    """Prints the table on the screen, best numbers in bold.

    Args:
        table: what is printed.
        title: line above the table; empty: none.
    """
    import rich
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    printed = RichTable(title=title or None, caption=table.caption or None, caption_justify="left")
    for index, column in enumerate(table.columns):
        printed.add_column(Text(column.heading), justify="left" if index == 0 else "right", no_wrap=index > 0)
    for row in range(len(table.rows)):
        printed.add_row(
            *(
                Text(table.text(row, column), style="bold" if table.is_best(row, column) else "")
                for column in range(len(table.columns))
            )
        )
    console = rich.get_console()
    # At its full width also where the screen is narrower: a wrapped line can be read, a figure cut short cannot.
    width = console.measure(printed, options=console.options.update(width=10_000)).maximum
    Console(file=console.file, width=max(width, console.width)).print(printed)


def as_markdown(table: Table, mark_best: bool = False) -> str:
    """A table in Markdown, its caption below.

    Args:
        table: what is written.
        mark_best: arrows in the headings, and the best numbers in bold.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [line([column.heading if mark_best else column.title for column in table.columns])]
    lines.append(line(["---", *["---:"] * (len(table.columns) - 1)]))
    for row in range(len(table.rows)):
        cells = [table.text(row, column) for column in range(len(table.columns))]
        bold = [mark_best and table.is_best(row, column) for column in range(len(table.columns))]
        lines.append(line([f"**{cell}**" if best else cell for cell, best in zip(cells, bold, strict=True)]))
    return "\n".join(lines) + "\n" + (f"\n{table.caption}\n" if table.caption else "")
