"""Writes docs/dialects.md: the dialects that the tests know, and what becomes of each. Run it in the repository."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = """# Dialects

Each line is a small capture of known cameras, points and depth, which the tests write, and read with every dataparser:
cameras are right to a tenth of a pixel and depth to a thousandth, or the error says what is wrong. Dataparsers that are
not named do not know the files, and say so. What the formats mean: [Data formats](data_formats.md).

{table}
This page is written by `python tools/dialects_page.py`; `tests/data/test_dialects.py` checks it, and every line.
"""

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from dialects import table

    (ROOT / "docs" / "dialects.md").write_text(PAGE.format(table=table()), "utf8")
