"""What a recipe says: which methods are trained on which scenes, by which protocol, how often and how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from fewshot_ns.bench.recipes.protocols import BenchProtocol


@dataclass(frozen=True)
class Budget:
    """How long a cell trains."""

    steps: Optional[int] = None
    """Training steps, which the learning-rate schedules follow; None: the method's own."""
    cpu_seconds: Optional[float] = None
    """Most CPU seconds (user + system) of training; None: no limit."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How the test views are measured."""

    metrics: Optional[Tuple[str, ...]] = None
    """Metrics by name; None: the method's own, as a rule all usual ones."""
    max_views: Optional[int] = None
    """Most test views, taken at equal steps; None: all of the protocol. In a set of many scenes: of each of them."""
    max_scenes: Optional[int] = None
    """Most test scenes of a set of many, taken at equal steps; None: all."""
    max_side: Optional[int] = None
    """Most pixels of the longer side, to which photos and renders are scaled down; None: as trained."""
    pictures: int = 2
    """Of how many test views, at equal steps, photo, render and depth are kept for the report."""
    curve_steps: int = 0
    """Every how many training steps all test views are measured for the curve over time; 0: never."""


@dataclass(frozen=True)
class MethodEntry:
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


@dataclass(frozen=True)
class SceneEntry:
    """One scene with its views."""

    path: Path
    """Folder, relative to the data root; of a set of many scenes, the whole set."""
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
    """Of a set of many scenes: the protocols by which each training is evaluated, `protocol` first. They differ in the
    views that are looked at and in nothing else."""


@dataclass(frozen=True)
class Recipe:
    """A benchmark."""

    name: str
    """Name for titles."""
    origin: str
    """The file, for messages."""
    description: str
    """What it is about."""
    methods: Tuple[MethodEntry, ...]
    """Rows of the tables."""
    scenes: Tuple[SceneEntry, ...]
    """Scenes."""
    seeds: Tuple[int, ...]
    """One training per seed."""
    evaluation: EvaluationOptions
    """How it is measured."""
