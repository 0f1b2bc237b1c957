"""The protocol recipes in order of worth, and the cells of several recipes in the order in which they tell most."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from fewshot_ns.bench.execution.plan_summary import cell_state
from fewshot_ns.bench.planning.config_identity import registered_methods
from fewshot_ns.bench.planning.plan import Cell, Plan
from fewshot_ns.bench.planning.planner import plan_of_what_is_there
from fewshot_ns.bench.recipes.recipe import Recipe, RecipeMethod
from fewshot_ns.bench.recipes.yaml_file import find_recipe, load_recipe
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig


@dataclass(frozen=True)
class Worth:
    """A recipe in the order of worth."""

    recipe: str
    """Name of a recipe of the package, or a YAML file."""
    reason: str
    """Why it stands where it stands."""
    days: bool = False
    """Whether one training takes days: such recipes wait until all others are done."""


BY_WORTH: Tuple[Worth, ...] = (
    Worth("protocol-cpu", "one scene of each data set at the papers' sizes, minutes a cell: figures on any machine"),
    Worth("splats-published", "the fastest method at the papers' sizes, and the only one that needs CUDA kernels"),
    Worth("llff-3", "the table that most papers share, and the one with the most methods"),
    Worth("dtu-3", "the same methods on objects: the second table that papers share"),
    Worth("blender-8", "the only table with DietNeRF's semantic term"),
    Worth("depth-mipnerf-lego", "the only table of losses on depth of known scale; one scene"),
    Worth("blender-occluded-14", "one scene; how far the semantic term carries where nothing is seen"),
    Worth("llff-6", "whether what 3 views say holds with more"),
    Worth("dtu-6", "the same on objects"),
    Worth("llff-9", "the last column of the same table"),
    Worth("dtu-9", "the same on objects"),
    Worth("nvs-rgbd", "SparseNeRF on its own photos, with depth from sensors"),
    Worth("depth-mipnerf-scannet", "the CDF bounds on rooms, with depth from a sensor"),
    Worth("depth-mipnerf-matterport", "the same on rooms from all around"),
    Worth("srn-chairs", "the smallest training across scenes", days=True),
    Worth("srn-cars", "the same on a harder category", days=True),
    Worth("matchnerf-dtu", "matching across scenes, on DTU", days=True),
    Worth("pixelnerf-dtu", "pixelNeRF on photos", days=True),
    Worth("idnerf-dtu", "needs the weights of a diffusion model", days=True),
    Worth("sn64-unseen", "thousands of objects", days=True),
    Worth("sn64", "the largest data set", days=True),
)
"""Cheap and telling first."""


@dataclass(frozen=True)
class Ranked:
    """A cell among those of other recipes."""

    worth: Worth
    """Its recipe."""
    recipe: str
    """Name of the recipe in tables, with the shortening if there is one."""
    cell: Cell
    """The training with its evaluation."""
    round: int
    """0: first scene of its protocol, first seed; 1: other scenes, first seed; then a round for each further seed."""

    @property
    def name(self) -> str:
        """The cell as people read it; cells of several recipes may have one name."""
        return f"{self.recipe}: {self.cell.name}"


@dataclass(frozen=True)
class WholePlan:
    """What can be done of several recipes, in the order of worth, and what cannot."""

    plans: Tuple[Plan, ...]
    """By recipe; each is a benchmark of its own in a folder named after it. Those without cells are not among them."""
    cells: Tuple[Ranked, ...]
    """All cells, in the order in which they are begun."""
    absent: Dict[str, Tuple[str, ...]] = field(default_factory=dict)
    """Scenes that are not in the folder of the data: the recipes that ask for them, by path."""
    problems: Tuple[str, ...] = ()
    """What else keeps cells from being run, with the recipe's name ahead."""


def wanted(names: Sequence[str]) -> Tuple[Worth, ...]:
    """The recipes that are asked for, in the order given.

    Args:
        names: of recipes of the package, or YAML files; none: all in the order of worth.

    Raises:
        ValueError: a recipe is named twice.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--recipes: expected each recipe once, found {twice[0]} more than once")
    known = {worth.recipe: worth for worth in BY_WORTH}
    return tuple(known.get(name, Worth(name, "given with --recipes")) for name in names) or BY_WORTH


def plan_by_worth(
    recipes: Sequence[Worth],
    data: Path,
    output_dir: Path,
    device: str,
    steps: Optional[int] = None,
    any_source: bool = False,
    torch_splats: bool = False,
) -> WholePlan:
    """Plans what can be done, cells that failed earlier last. Writes nothing.

    Args:
        recipes: in their order.
        data: folder that the paths of the scenes begin in.
        output_dir: each recipe has a folder in it.
        device: 'cpu' or 'cuda'.
        steps: most steps of a training; None: as the recipes say.
        any_source: whether results of another version of the code count.
        torch_splats: whether splats are rendered without gsplat's kernels.

    Raises:
        FileNotFoundError: there is no such recipe.
        SchemaError: a recipe says something wrong.
        ValueError: two recipes have one name.
    """
    plans: List[Plan] = []
    ranked: List[Ranked] = []
    absent: Dict[str, List[str]] = {}
    problems: List[str] = []
    names: List[str] = []
    for worth in recipes:
        recipe = load_recipe(find_recipe(worth.recipe))
        if steps is not None:
            recipe = shortened(recipe, steps)
        if torch_splats:
            recipe = replace(recipe, methods=tuple(map(_in_torch, recipe.methods)))
        if recipe.name in names:
            raise ValueError(f"{worth.recipe}: expected a recipe with a name of its own, found {recipe.name} again")
        names.append(recipe.name)
        there = [scene for scene in recipe.scenes if scene.protocol.across or (data / scene.path).is_dir()]
        for scene in recipe.scenes:
            if scene not in there and recipe.name not in absent.setdefault(scene.path.as_posix(), []):
                absent[scene.path.as_posix()].append(recipe.name)
        if not there:
            continue
        folder = output_dir / recipe.name
        plan, found = plan_of_what_is_there(replace(recipe, scenes=tuple(there)), data, folder, device)
        problems += [f"{recipe.name}: {problem}" for problem in found]
        if plan.cells:
            plans.append(plan)
            ranked += [Ranked(worth, recipe.name, cell, number) for cell, number in _rounds(plan)]
    place = {worth: number for number, worth in enumerate(recipes)}
    scenes = {plan.recipe.name: [scene.name for scene in plan.recipe.scenes] for plan in plans}

    def order(one: Ranked) -> Tuple[bool, bool, int, int, int]:
        failed = cell_state(one.cell, any_source).startswith("failed")
        # Every method on a scene before the next scene: what can be compared is there early.
        return failed, one.worth.days, one.round, place[one.worth], scenes[one.recipe].index(one.cell.scene)

    missing = {path: tuple(asking) for path, asking in absent.items()}
    return WholePlan(tuple(plans), tuple(sorted(ranked, key=order)), missing, tuple(problems))


def _rounds(plan: Plan) -> List[Tuple[Cell, int]]:
    """The cells of a recipe with the round in which they come."""
    first = {}
    for cell in plan.cells:
        first.setdefault(cell.protocol, cell.scene)
    seeds = plan.recipe.seeds
    found = []
    for cell in plan.cells:
        seed = seeds.index(cell.seed)
        found.append((cell, seed + 1 if seed or cell.scene != first[cell.protocol] else 0))
    return found


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """A recipe whose trainings take no more than some steps, which its name and its rows say.

    Args:
        recipe: any.
        steps: most steps; the learning-rate schedules follow. Shorter trainings stay as they are.
    """
    return replace(
        recipe,
        name=f"{recipe.name}-steps-{steps}",
        description=f"{recipe.description} Shortened to at most {steps} steps: not as published.".strip(),
        methods=tuple(_shorter(method, steps) for method in recipe.methods),
        scenes=tuple(replace(scene, overrides=_without_length(scene.overrides)) for scene in recipe.scenes),
    )


def _shorter(method: RecipeMethod, steps: int) -> RecipeMethod:
    default = registered_methods().get(method.method)
    own = method.budget.steps or getattr(default, "max_num_iterations", None)
    if own is not None and own <= steps and not _says_length(method.overrides):
        return method
    budget = replace(method.budget, steps=steps)
    return replace(method, budget=budget, as_published=False, overrides=_without_length(method.overrides))


def _says_length(words: Sequence[str]) -> bool:
    return len(_without_length(words)) < len(words)


def _without_length(words: Sequence[str]) -> Tuple[str, ...]:
    """Flags of ns-train without those of a training's and its schedules' length, which would win over the budget's."""
    kept: List[str] = []
    dropping = False
    for word in words:
        if word.startswith("--"):
            flag = word.replace("_", "-")
            dropping = flag == "--max-num-iterations" or flag.endswith(".scheduler.max-steps")
        if not dropping:
            kept.append(word)
    return tuple(kept)


def _in_torch(method: RecipeMethod) -> RecipeMethod:
    """A method of splats that renders without gsplat's kernels; others as they are."""
    if not is_splats(method.method):
        return method
    return replace(method, overrides=(*method.overrides, "--pipeline.model.rasterizer", "torch"))


def is_splats(method: str) -> bool:
    """Whether a method renders Gaussians."""
    default = registered_methods().get(method)
    return default is not None and isinstance(default.pipeline.model, SparseSplatfactoModelConfig)
