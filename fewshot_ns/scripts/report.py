"""`ns-fewshot report`: tables, pictures and curves of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import tyro

if TYPE_CHECKING:
    from fewshot_ns.bench.results.cells import BenchResults


@dataclass
class ReportCommand:
    """Write Markdown, CSV, LaTeX and one self-contained page of what a benchmark has measured.

    Nothing is trained or measured: what is there is read, and what is missing is named.
    """

    benchmark: tyro.conf.Positional[Optional[Path]] = None
    """Folder of a benchmark (--output-dir of ns-fewshot bench), or a results.json that this command has written."""
    output_dir: Optional[Path] = None
    """Where the files go; None: the folder report in that of the benchmark, or beside the results.json."""
    max_views: int = 2
    """Views per scene in the picture grids."""
    notes: Optional[Path] = None
    """Markdown file whose text report.md has ahead of its tables: what the figures show, and what they do not."""
    results: Optional[Path] = None
    """CSV file of many benchmarks, into which the cells of this one are put."""
    readme: Optional[Path] = None
    """README in which the block of results is written again from --results."""
    quiet: bool = False
    """Do not print the tables."""

    def main(self) -> None:
        """Writes the report.

        Raises:
            FileNotFoundError: there is no benchmark.
            ValueError: a file is no results file, or the flags do not fit together.
        """
        from rich.console import Console

        from fewshot_ns.bench.report.files import write_report
        from fewshot_ns.bench.report.readme import update_readme
        from fewshot_ns.bench.results.cells import read_results
        from fewshot_ns.bench.results.csv_file import merge_into

        console = Console()
        if self.benchmark is None and self.readme is None:
            raise ValueError("give the folder of a benchmark, or --readme with --results")
        if self.readme is not None and self.results is None:
            raise ValueError("--readme needs --results, the file that the README's block is made of")
        if self.notes is not None and not self.notes.is_file():
            raise FileNotFoundError(f"--notes {self.notes}: expected a Markdown file, found nothing")
        if self.max_views < 0:
            raise ValueError(f"--max-views: expected 0 or more, got {self.max_views}")
        if self.benchmark is not None:
            results = read_results(self.benchmark)
            default = self.benchmark.parent if self.benchmark.is_file() else self.benchmark / "report"
            notes = "" if self.notes is None else self.notes.read_text(encoding="utf8")
            files = write_report(results, self.output_dir or default, self.max_views, notes)
            if not self.quiet:
                self._print(results)
            console.print(f"Open {files['index.html']} in a browser.", highlight=False, soft_wrap=True)
            if self.results is not None:
                merge_into(self.results, results)
        if self.readme is not None and self.results is not None:
            changed = update_readme(self.readme, self.results)
            console.print(f"{self.readme}: {'updated' if changed else 'is as it should be'}", highlight=False)

    @staticmethod
    def _print(results: BenchResults) -> None:
        from fewshot_ns.bench.report.tables import summary_table
        from fewshot_ns.bench.results.summary import protocols_of
        from fewshot_ns.presentation.tables import print_table

        for protocol in protocols_of(results):
            print_table(summary_table(results, protocol), protocol)
