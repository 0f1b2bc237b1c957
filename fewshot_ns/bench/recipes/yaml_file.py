"""Recipes as YAML files: found by name, read, and checked against what a recipe may say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional, Sequence, Set, Tuple

import yaml

from fewshot_ns.bench.recipes.protocols import INDICES, NAMES
from fewshot_ns.bench.recipes.recipe import Budget, EvaluationOptions, MethodEntry, Recipe, SceneEntry
from fewshot_ns.bench.recipes.recipe_protocols import NAME, PROTOCOLS, read_protocols
from fewshot_ns.bench.recipes.schema import (
    ENTRIES,
    FLAG,
    FLAGS,
    POSITIVE,
    TEXT,
    SchemaError,
    Section,
    integer,
    list_of,
    shown,
    take_section,
)

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
"""The recipes that come with the package; in its repository the folder configs/."""


def recipe_names() -> Tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(file.stem for file in RECIPES.glob("*.yaml")))


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: a YAML file, or the name of a recipe that comes with the package.

    Raises:
        FileNotFoundError: neither; the message lists the names.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a recipe (YAML), found no such file")
        return path
    if name not in recipe_names():
        raise FileNotFoundError(
            f"no recipe is called {name!r}; expected a YAML file or one of {', '.join(recipe_names())}"
        )
    return RECIPES / f"{name}.yaml"


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe; methods and scenes are looked for when it is planned.

    Raises:
        SchemaError: the file does not say what a recipe has to say; every problem is listed.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf8"), Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SchemaError(str(path), [f"not YAML: {' '.join(str(error).split())}"]) from error
    problems: List[str] = []
    top = Section("", values, problems)
    name = top.take("name", NAME, path.stem)
    description = top.take("description", TEXT, "")
    scenes = _scenes(top, problems)
    methods = _methods(top, {scene.name for scene in scenes}, problems)
    seeds = top.take("seeds", list_of(integer(0)), (0,))
    evaluation = _evaluation(take_section(top, "evaluation", problems))
    top.finish()
    if problems:
        raise SchemaError(str(path), problems)
    return Recipe(name, str(path), description, methods, scenes, seeds, evaluation)


def _scenes(top: Section, problems: List[str]) -> Tuple[SceneEntry, ...]:
    common = top.take("protocol", PROTOCOLS, None)
    shared = top.take("dataparser", FLAGS, ())
    found: List[SceneEntry] = []
    for number, value in enumerate(top.take("scenes", ENTRIES) or ()):
        section = Section(f"scenes[{number}]", {"path": value} if isinstance(value, str) else value, problems)
        scene = _scene(section, common, shared)
        if scene is not None:
            found.append(scene)
    _check_unique("scenes", "name", [scene.name for scene in found], problems)
    return tuple(found)


def _scene(section: Section, common: Any, shared: Tuple[str, ...]) -> Optional[SceneEntry]:
    path = section.take("path", TEXT)
    label = section.take("name", NAME, Path(path).name if path else None)
    given = section.take("protocol", PROTOCOLS, common)
    parser = section.take("parser", TEXT, None)
    flags = section.take("dataparser", FLAGS, ())
    overrides = section.take("overrides", FLAGS, ())
    section.finish()
    if given is None:
        section.note("protocol", f"expected {NAMES} here or at the top of the file, found nothing")
        return None
    protocols = read_protocols(section, given)
    if not protocols:
        return None
    # Own source views are of the same set as the named ones beside them.
    protocol = next((one for one in protocols if one.parser is not None), protocols[0])
    if protocol.parser is None:
        if parser is None:
            section.note(
                "parser", f"expected the name of a dataparser for the protocol {protocol.name!r}, found nothing"
            )
        if not protocol.across and not any(word.replace("_", "-") == "--train-indices" for word in (*shared, *flags)):
            section.note("dataparser", f"expected train-indices for the protocol {INDICES!r}, found none")
    elif parser is not None and parser != protocol.parser:
        section.note("parser", f"the protocol {protocol.name!r} reads scenes with {protocol.parser}, found {parser!r}")
    name = protocol.parser or parser
    if path is None or name is None or label is None:
        return None
    evaluations = protocols if protocol.across else ()
    return SceneEntry(Path(path), label, protocol, name, (*protocol.flags, *shared, *flags), overrides, evaluations)


def _methods(top: Section, scenes: Set[str], problems: List[str]) -> Tuple[MethodEntry, ...]:
    budget = _budget(take_section(top, "budget", problems), Budget())
    found: List[MethodEntry] = []
    for number, value in enumerate(top.take("methods", ENTRIES) or ()):
        section = Section(f"methods[{number}]", {"method": value} if isinstance(value, str) else value, problems)
        method = section.take("method", TEXT)
        label = section.take("label", NAME, method)
        overrides = section.take("overrides", FLAGS, ())
        own = _budget(take_section(section, "budget", problems), budget)
        only = section.take("scenes", list_of(TEXT), None)
        as_published = section.take("as-published", FLAG, not overrides)
        section.finish()
        unknown = [name for name in only or () if name not in scenes]
        if unknown:
            section.note(
                "scenes", f"expected names of scenes of this recipe ({_names(scenes)}), found {shown(unknown)}"
            )
        if method is not None and label is not None:
            found.append(MethodEntry(method, label, overrides, own, only, as_published))
    _check_unique("methods", "label", [entry.label for entry in found], problems)
    return tuple(found)


def _budget(section: Optional[Section], default: Budget) -> Budget:
    if section is None:
        return default
    steps = section.take("steps", integer(1), default.steps)
    cpu_seconds = section.take("cpu-seconds", POSITIVE, default.cpu_seconds)
    section.finish()
    return replace(default, steps=steps, cpu_seconds=cpu_seconds)


def _evaluation(section: Optional[Section]) -> EvaluationOptions:
    if section is None:
        return EvaluationOptions()
    options = EvaluationOptions(
        metrics=section.take("metrics", list_of(TEXT), None),
        max_views=section.take("max-views", integer(1), None),
        max_scenes=section.take("max-scenes", integer(1), None),
        max_side=section.take("max-side", integer(16), None),
        pictures=section.take("pictures", integer(0), EvaluationOptions.pictures),
        curve_steps=section.take("curve-steps", integer(0), 0),
    )
    section.finish()
    return options


def _check_unique(where: str, key: str, names: Sequence[str], problems: List[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    for name in twice:
        problems.append(f"{where}: {key} {name!r} is there more than once; give the entries a {key} each")


def _names(names: Set[str]) -> str:
    return ", ".join(sorted(names))


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, which does not take the last of two equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]!r} is there more than once", node.start_mark
            )
        return super().construct_mapping(node, deep)
