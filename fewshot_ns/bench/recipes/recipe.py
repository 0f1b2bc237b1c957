"""What a recipe says: which methods are trained on which scenes, by which protocol, how often and how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Mapping, Optional, Tuple

from pydantic import ConfigDict

from fewshot_ns.bench.recipes.fields import FILE, Count, Names, PositiveNumber, Seeds, Side, Views
from fewshot_ns.bench.recipes.protocols import BenchProtocol


@dataclass(frozen=True)
class Budget:
    """How long a cell trains."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE
    steps: Optional[Count] = None
    """Training steps, which the learning-rate schedules follow; None: the method's own."""
    cpu_seconds: Optional[PositiveNumber] = None
    """Most CPU seconds (user + system) of training; None: no limit."""

    def within(self, default: Budget) -> Budget:
        """This budget, with another one's limits where it has none."""
        return Budget(
            steps=default.steps if self.steps is None else self.steps,
            cpu_seconds=default.cpu_seconds if self.cpu_seconds is None else self.cpu_seconds,
        )


@dataclass(frozen=True)
class EvaluationOptions:
    """How the test views are measured."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE
    metrics: Optional[Names] = None
    """Metrics by name; None: the method's own, as a rule all usual ones."""
    max_views: Optional[Count] = None
    """Most test views, taken at equal steps; None: all of the protocol. In a multi-scene dataset: of each scene."""
    max_scenes: Optional[Count] = None
    """Most test scenes of a multi-scene dataset, taken at equal steps; None: all."""
    max_side: Optional[Side] = None
    """Most pixels of the longer side, to which images and renders are scaled down; None: as trained."""
    pictures: Views = 2
    """Number of test views, at equal steps, of which image, render and depth are kept for the report."""
    curve_steps: Views = 0
    """Every how many training steps all test views are measured for the curve over time; 0: never."""
    curve_seeds: Optional[Seeds] = field(default=None, repr=False)
    """Seeds whose trainings are measured for the curve; None: all. Of a training's key, not of its evaluation's."""


@dataclass(frozen=True)
class RecipeMethod:
    """One row of the tables."""

    method: str
    """Name as `ns-train` knows it."""
    label: str
    """Name in folders and tables."""
    overrides: Tuple[str, ...] = ()
    """Flags of ns-train that make this variant."""
    budget: Budget = Budget()
    """How long it trains."""
    scenes: Optional[Tuple[str, ...]] = None
    """Names of the scenes that it runs on; None: all."""
    as_published: bool = True
    """Whether published figures of the method are about this variant."""
    on_scenes: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    """Further flags of ns-train on single scenes, by their names; they win over all others."""


@dataclass(frozen=True)
class RecipeScene:
    """One scene with its views."""

    path: Path
    """Folder, relative to the data root; of a multi-scene dataset, the whole dataset."""
    name: str
    """Name in folders and tables."""
    protocol: BenchProtocol
    """Which views train and test."""
    parser: str
    """Name of the dataparser."""
    flags: Tuple[str, ...] = ()
    """Flags of the dataparser: the protocol's, then the recipe's, then the scene's."""
    overrides: Tuple[str, ...] = ()
    """Flags of ns-train that every method gets on this scene."""
    evaluations: Tuple[BenchProtocol, ...] = ()
    """Of a multi-scene dataset: the protocols by which each training is evaluated, `protocol` first. They differ in
    the source views and in nothing else."""


@dataclass(frozen=True)
class Recipe:
    """A benchmark."""

    name: str
    """Name for titles."""
    origin: str
    """The file, for messages."""
    description: str
    """What it is about."""
    methods: Tuple[RecipeMethod, ...]
    """Rows of the tables."""
    scenes: Tuple[RecipeScene, ...]
    """Scenes."""
    seeds: Tuple[int, ...]
    """One training per seed."""
    evaluation: EvaluationOptions
    """How it is measured."""
