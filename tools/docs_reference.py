"""Hook of mkdocs: one page of API reference per room of the package, found when the site is built."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = "fewshot_ns"
SECTION = "API reference"
"""Title of the section of the navigation that the pages are added to."""


def rooms(root: Path) -> list[str]:
    """Names of the package's direct subpackages and modules, by name."""
    found = [path.parent.name for path in (root / PACKAGE).glob("*/__init__.py")]
    found += [path.stem for path in (root / PACKAGE).glob("*.py") if path.stem != "__init__"]
    return sorted(found)


def root_of(config: MkDocsConfig) -> Path:
    """The repository: where mkdocs.yml lies."""
    return Path(config.config_file_path).parent


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages to the navigation, behind those that the section has already."""
    pages = [{room: f"reference/{room}.md"} for room in rooms(root_of(config))]
    for part in config.nav or []:
        for entry in next(iter(part.values())):
            if isinstance(entry, dict) and isinstance(entry.get(SECTION), list):
                entry[SECTION] += pages
                return config
    raise KeyError(f"mkdocs.yml: expected a section {SECTION!r} in the navigation, found none")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages themselves; their text exists in memory only."""
    for room in rooms(root_of(config)):
        content = f"# {PACKAGE}.{room}\n\n::: {PACKAGE}.{room}\n"
        files.append(File.generated(config, f"reference/{room}.md", content=content))
    return files
