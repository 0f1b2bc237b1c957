"""The rooms of the evaluation import each other downward only, and nothing that stands above the evaluation."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, Set, Tuple

import fewshot_ns.evaluation

EVALUATION = Path(fewshot_ns.evaluation.__file__).parent
ARROWS = {("metrics", "records"), ("runners", "metrics"), ("runners", "records"), ("runners", "baselines")}
ABOVE = {"presentation", "pipelines", "engine", "configs", "registry", "bench", "scripts", "viewer"}


def imports() -> Iterator[Tuple[str, str]]:
    """Room of the evaluation, and module that it imports, in functions and for annotations too."""
    for path in sorted(EVALUATION.rglob("*.py")):
        room = path.relative_to(EVALUATION).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module] if node.module != "fewshot_ns" else [f"fewshot_ns.{n.name}" for n in node.names]
                yield from ((room, name) for name in names)
            elif isinstance(node, ast.Import):
                yield from ((room, alias.name) for alias in node.names)


def test_rooms_import_downward():
    found: Set[Tuple[str, str]] = set()
    for room, module in imports():
        parts = module.split(".")
        if parts[:2] == ["fewshot_ns", "evaluation"] and len(parts) > 2 and parts[2] != room:
            found.add((room, parts[2]))
    assert found == ARROWS


def test_nothing_above_is_imported():
    ours = [(room, module.split(".")) for room, module in imports() if module.startswith("fewshot_ns.")]
    assert ours and [(room, ".".join(parts)) for room, parts in ours if parts[1] in ABOVE] == []
