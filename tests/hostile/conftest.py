"""One test for each case of the corpus, and their count at the end of the test output."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from corpus import all_cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", all_cases(), ids=lambda case: case.name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    named = {
        match[1] for report in reports if (match := re.search(r"test_corpus\.py::test_case\[(.+)\]$", report.nodeid))
    }
    if named:
        kinds = Counter(case.kind for case in all_cases() if case.name in named)
        listed = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        terminalreporter.write_line(f"corpus of broken inputs: {sum(kinds.values())} cases ({listed})")
