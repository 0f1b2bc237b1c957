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
## Sets of many scenes

The same of the layouts that [methods across scenes](generalizable.md) train on, with the dataparsers of sets;
`mvsnet-dtu-data` has true depth. Dataparsers of one scene refuse them all, saying that there are many scenes, and those
of sets refuse the folder of one scene, saying which dataparser it asks for.

{set_table}
This page is written by `python tools/dialects_page.py`. Every line is checked, the first table by
`tests/data/test_dialects.py` and the second by `tests/data/test_set_dialects.py`.
"""

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from dialects import table
    from scene_dialects import set_table

    (ROOT / "docs" / "dialects.md").write_text(PAGE.format(table=table(), set_table=set_table()), "utf8")
