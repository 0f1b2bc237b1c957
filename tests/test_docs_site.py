"""Links between pages as a git host follows them, and figures that stand in several files."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fewshot_ns

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings as git hosts make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text("utf8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_the_version_is_the_same_everywhere() -> None:
    version = re.escape(fewshot_ns.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text("utf8"), re.MULTILINE)
    assert re.search(rf"^## \[{version}\]", (ROOT / "CHANGELOG.md").read_text("utf8"), re.MULTILINE)


def test_the_reference_has_a_page_for_every_room(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "docs_reference", raising=False)
    docs_reference = import_module("docs_reference")
    package = ROOT / "fewshot_ns"
    expected = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()} | {"registry"}
    assert set(docs_reference.rooms(ROOT)) == expected
