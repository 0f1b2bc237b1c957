"""Who may import whom: every room of the package has a floor and imports from lower ones alone; no circle of files.

Read from the source, so that imports inside functions and under TYPE_CHECKING count like any other.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

import fewshot_ns

PACKAGE = Path(fewshot_ns.__file__).parent
Floors = Tuple[Tuple[str, ...], ...]

FLOORS: Dict[str, Floors] = {
    "": (
        ("utils",),
        ("__init__",),
        ("cameras",),
        ("data", "field_components", "synthetic"),
        ("model_components", "pretrained"),
        ("encoders", "viewer"),
        ("fields", "priors"),
        ("models", "evaluation", "engine"),
        ("presentation",),
        ("pipelines",),
        ("configs",),
        ("registry",),
        ("bench",),
        ("scripts",),
    ),
    "data": (
        ("records",),
        ("files",),
        ("one_photo", "views"),
        ("depth",),
        ("datasets",),
        ("labels", "depth_calibration", "stereo"),
        ("samplers", "seeds"),
        ("dataparsers",),
        ("multiscene", "capture"),
        ("datamanagers",),
    ),
    "data/dataparsers": (("recognition",), ("single",), ("multi",), ("automatic",)),
    "evaluation": (("records",), ("metrics", "baselines"), ("runners",)),
    "bench": (("recipes",), ("planning",), ("execution",), ("results",), ("report",)),
}
"""Rooms (folders, or files by their name) from the ground up, of the package and of the folders that have rooms of
their own. Rooms on one floor know nothing of each other."""


def module_name(path: Path, package: Path) -> str:
    parts = (package.name, *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imported_names(path: Path) -> Iterator[Tuple[str, str]]:
    """Pairs (module, name) of all imports of a file; the name is '' for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield "." * node.level + (node.module or ""), alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""


def import_graph(package: Path) -> Dict[Path, Set[Path]]:
    """The files of the package that each of its files imports."""
    modules = {module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    graph: Dict[Path, Set[Path]] = {}
    for path in modules.values():
        targets = (modules.get(f"{module}.{name}") or modules.get(module) for module, name in imported_names(path))
        graph[path] = {target for target in targets if target is not None and target != path}
    return graph


def room_of(path: Path, folder: Path) -> str:
    """The room of a file below a folder."""
    return path.relative_to(folder).parts[0].removesuffix(".py")


def rooms_of(folder: Path) -> Set[str]:
    """Everything below a folder that holds Python; the `__init__` of a folder with rooms is no room."""
    rooms = {room_of(path, folder) for path in folder.rglob("*.py")}
    return rooms - {"__init__"} | ({"__init__"} if folder == PACKAGE else set())


def climbs(graph: Dict[Path, Set[Path]], folder: Path, floors: Floors) -> List[str]:
    """Imports between rooms of a folder that do not go down, as `file -> file`."""
    level = {room: number for number, rooms in enumerate(floors) for room in rooms}
    found = []
    for path, targets in graph.items():
        for target in sorted(targets):
            if folder in path.parents and folder in target.parents:
                here, there = room_of(path, folder), room_of(target, folder)
                if here != there and level.get(there, -1) >= level.get(here, len(floors)):
                    found.append(f"{path.relative_to(folder)} -> {target.relative_to(folder)}")
    return found


def circles(graph: Dict[Path, Set[Path]]) -> List[List[str]]:
    """Groups of files each of which imports all others, directly or not."""
    order: List[Path] = []
    seen: Set[Path] = set()
    turned: Dict[Path, Set[Path]] = {path: set() for path in graph}
    for path, targets in graph.items():
        for target in targets:
            turned[target].add(path)

    def visit(start: Path, edges: Dict[Path, Set[Path]], out: List[Path]) -> None:
        seen.add(start)
        for target in edges[start]:
            if target not in seen:
                visit(target, edges, out)
        out.append(start)

    for path in graph:
        if path not in seen:
            visit(path, graph, order)
    seen.clear()
    found = []
    for path in reversed(order):
        if path not in seen:
            group: List[Path] = []
            visit(path, turned, group)
            if len(group) > 1:
                found.append(sorted(str(member.name) for member in group))
    return found


@pytest.fixture(scope="module")
def graph() -> Dict[Path, Set[Path]]:
    return import_graph(PACKAGE)


@pytest.mark.parametrize("name", FLOORS)
def test_every_room_has_a_floor(name: str) -> None:
    named = [room for rooms in FLOORS[name] for room in rooms]
    assert len(set(named)) == len(named)
    assert set(named) == rooms_of(PACKAGE / name)


def test_the_architecture_page_shows_these_floors() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf8")
    block = text.partition("imports go downwards only:\n\n")[2].partition("\n\n")[0]
    shown = [tuple(line.strip().split(", ")) for line in reversed(block.splitlines())]
    assert shown == [rooms for rooms in FLOORS[""] if rooms != ("__init__",)]


@pytest.mark.parametrize("name", FLOORS)
def test_imports_go_down(name: str, graph: Dict[Path, Set[Path]]) -> None:
    assert climbs(graph, PACKAGE / name, FLOORS[name]) == []


def test_no_circle_of_files(graph: Dict[Path, Set[Path]]) -> None:
    assert circles(graph) == []


def test_all_imports_of_the_package_are_understood(graph: Dict[Path, Set[Path]]) -> None:
    """Absolute ones, of modules that exist: what is spelt otherwise would escape the tests above."""
    modules = {module_name(path, PACKAGE) for path in graph}
    strange = [
        f"{path.relative_to(PACKAGE)}: {module}"
        for path in graph
        for module, _ in imported_names(path)
        if module.startswith(".") or (module.split(".")[0] == PACKAGE.name and module not in modules)
    ]
    assert strange == []
    assert sum(map(len, graph.values())) > len(graph)


def test_the_tests_above_see_every_kind_of_import(tmp_path: Path) -> None:
    package = tmp_path / "house"
    sources = {
        "__init__.py": "",
        "cellar/__init__.py": "",
        "cellar/wine.py": "def drink():\n    from house.attic import roof\n",
        "attic/__init__.py": "",
        "attic/roof.py": "import typing\nif typing.TYPE_CHECKING:\n    from house.cellar.wine import drink\n",
        "attic/window.py": "import house.cellar.wine\n",
    }
    for name, text in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    graph = import_graph(package)
    assert climbs(graph, package, (("cellar",), ("attic",))) == ["cellar/wine.py -> attic/roof.py"]
    assert climbs(graph, package, (("attic", "cellar"),)) == [
        "attic/roof.py -> cellar/wine.py",
        "attic/window.py -> cellar/wine.py",
        "cellar/wine.py -> attic/roof.py",
    ]
    assert circles(graph) == [["roof.py", "wine.py"]]
