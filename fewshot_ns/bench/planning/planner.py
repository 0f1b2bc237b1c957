"""From a recipe to its cells: every training that it asks for, resolved and checked before the first one starts."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from fewshot_ns.bench.planning.config_identity import (
    SceneIdentity,
    deciding_fields,
    identify_scene,
    own_methods,
    registered_methods,
    resolve_config,
    schedule_flags,
    source_key,
)
from fewshot_ns.bench.planning.plan import Cell, Plan, SourceEvaluation
from fewshot_ns.bench.planning.scene_datasets import evaluation_problems, evaluations_of, identify_dataset
from fewshot_ns.bench.recipes.problems import SchemaError
from fewshot_ns.bench.recipes.recipe import Budget, Recipe, RecipeMethod, RecipeScene
from fewshot_ns.priors.base import prior_configs
from fewshot_ns.utils.hashing import digest

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig


def make_plan(recipe: Recipe, data_root: Path, output_dir: Path, device: str) -> Plan:
    """Resolves and checks every cell of a recipe. Writes nothing.

    Args:
        recipe: what to do.
        data_root: folder that the paths of the scenes begin in.
        output_dir: folder of the benchmark.
        device: 'cpu' or 'cuda'.

    Raises:
        SchemaError: a method is not registered, flags are wrong, a scene is missing or cannot be read; all that is
            found is listed.
    """
    plan, problems = plan_of_what_is_there(recipe, data_root, output_dir, device)
    if problems:
        raise SchemaError(recipe.origin, problems)
    return plan


def plan_of_what_is_there(
    recipe: Recipe, data_root: Path, output_dir: Path, device: str
) -> Tuple[Plan, Tuple[str, ...]]:
    """Resolves and checks every cell of a recipe, and leaves out those with which something is wrong. Writes nothing.

    Args:
        recipe: what to do.
        data_root: folder that the paths of the scenes begin in.
        output_dir: folder of the benchmark.
        device: 'cpu' or 'cuda'.

    Returns:
        The cells that can be run, and what keeps the others from it, each reason once.
    """
    planner = _Planner(recipe, data_root.absolute(), output_dir.absolute(), device)
    cells = sorted(planner.cells(), key=lambda cell: recipe.seeds.index(cell.seed))
    return Plan(recipe, output_dir, tuple(cells)), tuple(dict.fromkeys(planner.problems))


@dataclass(frozen=True)
class _Pair:
    """A method on a scene."""

    method: RecipeMethod
    scene: RecipeScene
    method_path: str
    """Where the method stands in the recipe, for messages."""
    scene_path: str
    """Where the scene stands in the recipe, for messages."""
    flags: Tuple[str, ...]
    """Flags of ns-train up to the dataparser's name."""
    parser: Tuple[str, ...]
    """The dataparser's name and its flags."""
    data: Path
    """Folder of the scene."""


class _Planner:
    def __init__(self, recipe: Recipe, data_root: Path, output_dir: Path, device: str) -> None:
        self.recipe, self.data_root, self.output_dir, self.device = recipe, data_root, output_dir, device
        self.problems: List[str] = []
        self._configs: Dict[Tuple[str, ...], Optional[TrainerConfig]] = {}
        self._scenes: Dict[Tuple[str, str], Optional[SceneIdentity]] = {}

    def cells(self) -> List[Cell]:
        cells: List[Cell] = []
        self._check_metrics()
        known = registered_methods()
        for number, method in enumerate(self.recipe.methods):
            if method.method not in known:
                self.problems.append(
                    f"methods[{number}].method: {method.method!r} is not registered; registered by this package are "
                    f"{', '.join(own_methods())}, by others {', '.join(sorted(set(known) - set(own_methods())))}"
                )
                continue
            for scene_number, scene in enumerate(self.recipe.scenes):
                if method.scenes is None or scene.name in method.scenes:
                    pair = _Pair(
                        method=method,
                        scene=scene,
                        method_path=f"methods[{number}] ({method.label})",
                        scene_path=f"scenes[{scene_number}] ({scene.name})",
                        flags=training_flags(self.recipe, method, scene, self.device),
                        parser=(scene.parser, *scene.flags),
                        data=self.data_root / scene.path,
                    )
                    cells += self._cells_of(pair)
        return cells

    def _check_metrics(self) -> None:
        from fewshot_ns.evaluation.metrics.config import check_metric_names

        try:
            check_metric_names(self.recipe.evaluation.metrics or ())
        except ValueError as error:
            self.problems.append(f"evaluation.metrics: {error}")

    def _cells_of(self, pair: _Pair) -> List[Cell]:
        """The cells of all seeds of a method on a scene; none where something is wrong."""
        config, protocol = self._config(pair), pair.scene.protocol
        if config is None:
            return []
        if protocol.across and not _is_generalizable(config):
            self.problems.append(
                f"{pair.method_path}: trains on one scene, but the protocol {protocol.name} of "
                f"{pair.scene_path} is for training across scenes; leave the scene out (scenes)"
            )
            return []
        if getattr(getattr(config.pipeline, "evaluation", None), "split", None) == "train":
            self.problems.append(
                f"{pair.method_path}: tables are of held-out views; leave pipeline.evaluation.split train out"
            )
            return []
        identity = self._identity(pair, config)
        if identity is None:
            return []
        evaluations = self._evaluations(pair)
        if evaluations is None:
            return []
        wanting = _priors_that_need_depth_maps(config)
        if wanting and not identity.has_depth:
            self.problems.append(
                f"{pair.method_path}: needs depth maps of the training views, but {pair.data} has none; "
                "make them with ns-fewshot depth (from the photos: --source stereo), set "
                f"pipeline.{wanting[0]}.enabled false or leave the scene out (scenes)"
            )
            return []
        if protocol.masked and not identity.has_masks:
            self.problems.append(
                f"{pair.scene_path}: the protocol {protocol.name} measures the object alone, but "
                f"{pair.data} has no object masks; see dtu-data in docs/data_formats.md"
            )
            return []
        return [self._cell(pair, seed, config, identity, evaluations) for seed in self.recipe.seeds]

    def _config(self, pair: _Pair) -> Optional[TrainerConfig]:
        """The config of a training; None where its flags are wrong."""
        words = (pair.method.method, *pair.flags, *pair.parser)
        if words not in self._configs:
            try:
                self._configs[words] = resolve_config(pair.method.method, (*pair.flags, *pair.parser))
            except ValueError as error:
                self._configs[words] = None
                self.problems.append(
                    f"{pair.method_path} on {pair.scene_path}: ns-train does not take these flags: {error}"
                )
        return self._configs[words]

    def _identity(self, pair: _Pair, config: TrainerConfig) -> Optional[SceneIdentity]:
        """What the dataparser makes of the scene; None where it cannot be read."""
        dataparser: Any = copy.deepcopy(getattr(config.pipeline.datamanager, "dataparser", None))
        dataparser.data = pair.data
        key = (str(pair.data), repr(dataparser))
        if key not in self._scenes:
            try:
                self._scenes[key] = (identify_dataset if pair.scene.protocol.across else identify_scene)(dataparser)
            except (FileNotFoundError, ValueError) as error:
                self._scenes[key] = None
                self.problems.append(f"{pair.scene_path}: {error}")
        return self._scenes[key]

    def _evaluations(self, pair: _Pair) -> Optional[Tuple[SourceEvaluation, ...]]:
        """With which source views a training is evaluated; None where something is wrong."""
        if pair.scene.protocol.across:
            self.problems += evaluation_problems(self.recipe.evaluation)
        try:
            return evaluations_of(pair.scene.evaluations, pair.data)
        except (FileNotFoundError, ValueError) as error:
            self.problems.append(f"{pair.scene_path}: {error}")
            return None

    def _cell(
        self,
        pair: _Pair,
        seed: int,
        config: TrainerConfig,
        identity: SceneIdentity,
        evaluations: Tuple[SourceEvaluation, ...],
    ) -> Cell:
        from fewshot_ns.engine.trainer import FewShotTrainerConfig

        method, scene = pair.method, pair.scene
        config.machine.seed = seed
        flags, with_curve = ("--machine.seed", str(seed), *pair.flags), self.recipe.evaluation.curve_seeds
        if with_curve is not None and seed not in with_curve:
            # The config of a pair is shared by its seeds.
            config = replace(config, steps_per_eval_all_images=0)
            flags = (*flags, "--steps-per-eval-all-images", "0")
        fields = deciding_fields(config)
        keys = {
            "config": digest(*sorted(fields.items())),
            "scene": identity.key,
            "source": source_key(),
            "metrics": digest(getattr(getattr(config.pipeline, "evaluation", None), "metrics", None)),
        }
        return Cell(
            folder=self.output_dir / "cells" / scene.name / method.label / f"seed-{seed}",
            scene=scene.name,
            folder_name=scene.path.name,
            protocol=scene.protocol.name,
            method=method.method,
            label=method.label,
            as_published=method.as_published and not scene.overrides,
            seed=seed,
            device=self.device,
            data=pair.data,
            flags=flags,
            parser=pair.parser,
            overrides=_overrides(method, scene),
            scene_overrides=scene.flags[len(scene.protocol.flags) :],
            steps=_steps(config, identity),
            cpu_seconds=getattr(config, "max_train_cpu_seconds", None),
            own_length=method.budget == Budget(),
            resumable=isinstance(config, FewShotTrainerConfig),
            evaluation=self.recipe.evaluation,
            keys=keys,
            config=fields,
            test_views=identity.test_views,
            size=identity.size,
            evaluations=evaluations,
            test_scenes=min(identity.test_scenes, self.recipe.evaluation.max_scenes or identity.test_scenes),
            all_test_scenes=identity.test_scenes,
            pictured_scene=identity.first_test_scene,
        )


def training_flags(recipe: Recipe, method: RecipeMethod, scene: RecipeScene, device: str) -> Tuple[str, ...]:
    """Flags of ns-train for a method on a scene, up to the dataparser's name; the recipe's come last, so that they win.

    Args:
        recipe: where both are from.
        method: a registered one.
        scene: one of its scenes.
        device: 'cpu' or 'cuda'.
    """
    default = registered_methods()[method.method]
    words: List[str] = ["--steps-per-eval-batch", "0", "--steps-per-eval-image", "0"]
    words += ["--steps-per-eval-all-images", str(recipe.evaluation.curve_steps)]
    if method.budget.steps is not None:
        words += ["--max-num-iterations", str(method.budget.steps), *schedule_flags(default, method.budget.steps)]
    if method.budget.cpu_seconds is not None:
        words += ["--max-train-cpu-seconds", str(method.budget.cpu_seconds)]
    if recipe.evaluation.metrics is not None and hasattr(default.pipeline, "evaluation"):
        words += ["--pipeline.evaluation.metrics", *recipe.evaluation.metrics]
    words += ["--machine.device-type", device]
    return (*words, *scene.protocol.overrides, *_overrides(method, scene))


def _steps(config: TrainerConfig, identity: SceneIdentity) -> Optional[int]:
    """Steps of the whole training, also where the method has a length for each ray space; None: known when it runs."""
    from fewshot_ns.engine.trainer import FewShotTrainerConfig

    if config.max_num_iterations is not None or not isinstance(config, FewShotTrainerConfig):
        return config.max_num_iterations
    return {"ndc": config.ndc_iterations, "metric": config.metric_iterations}.get(identity.ray_space)


def _overrides(method: RecipeMethod, scene: RecipeScene) -> Tuple[str, ...]:
    """The recipe's own flags of ns-train for a method on a scene, from the general to the special, which wins."""
    return (*method.overrides, *scene.overrides, *method.on_scenes.get(scene.name, ()))


def _is_generalizable(config: TrainerConfig) -> bool:
    """Whether a method trains across scenes."""
    from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManagerConfig

    return isinstance(config.pipeline.datamanager, MultiSceneDataManagerConfig)


def _priors_that_need_depth_maps(config: TrainerConfig) -> List[str]:
    """Priors that would ask the scene for depth maps that it has to have already, by the names of their fields."""
    return [name for name, prior in prior_configs(config.pipeline).items() if "depth_maps" in prior.scene_files()]
