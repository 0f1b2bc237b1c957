"""Recipes as YAML files: found by name, read, and checked against what a recipe may say."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence, Tuple

from pydantic import ValidationError

from fewshot_ns.bench.recipes.problems import SchemaError, problems_of
from fewshot_ns.bench.recipes.recipe import Budget, Recipe, RecipeMethod, RecipeScene
from fewshot_ns.bench.recipes.schema import FileContext, MethodInFile, RecipeFile, SceneInFile, leading
from fewshot_ns.bench.recipes.strict_yaml import YamlFileError, load_yaml

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
        values = load_yaml(path.read_bytes())
    except YamlFileError as error:
        raise SchemaError(str(path), [str(error)]) from error
    context = FileContext.of(values)
    twice = [*_repeated("scenes", "name", context.scenes), *_repeated("methods", "label", context.labels)]
    try:
        file = RecipeFile.model_validate(values, context=context)
    except ValidationError as error:
        raise SchemaError(str(path), [*problems_of(error, RecipeFile, values), *twice]) from error
    if twice:
        raise SchemaError(str(path), twice)
    return Recipe(
        name=file.name or path.stem,
        origin=str(path),
        description=file.description or "",
        methods=tuple(_method(entry, file.budget) for entry in file.methods),
        scenes=tuple(_scene(entry, file.dataparser) for entry in file.scenes),
        seeds=file.seeds,
        evaluation=file.evaluation,
    )


def _repeated(where: str, key: str, names: Sequence[str]) -> List[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    return [f"{where}: {key} {name!r} is there more than once; give the entries a {key} each" for name in twice]


def _scene(entry: SceneInFile, shared: Tuple[str, ...]) -> RecipeScene:
    protocol = leading(entry.protocol)
    assert protocol is not None and entry.protocol is not None  # The model has seen to it.
    return RecipeScene(
        path=Path(entry.path),
        name=entry.name or Path(entry.path).name,
        protocol=protocol,
        parser=protocol.parser or entry.parser or "",
        flags=(*protocol.flags, *shared, *entry.dataparser),
        overrides=entry.overrides,
        evaluations=entry.protocol if protocol.across else (),
    )


def _method(entry: MethodInFile, budget: Budget) -> RecipeMethod:
    return RecipeMethod(
        method=entry.method,
        label=entry.label or entry.method,
        overrides=entry.overrides,
        budget=entry.budget.within(budget),
        scenes=entry.scenes,
        as_published=not (entry.overrides or entry.on_scenes) if entry.as_published is None else entry.as_published,
        on_scenes=entry.on_scenes,
    )
