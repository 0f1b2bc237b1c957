"""The cells of a benchmark: each training with its evaluation, resolved and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

from fewshot_ns.bench.recipes.recipe import EvaluationOptions, Recipe
from fewshot_ns.utils.hashing import digest


@dataclass(frozen=True)
class SourceEvaluation:
    """One evaluation of a training across scenes."""

    protocol: str
    """Name of the protocol."""
    flags: Tuple[str, ...]
    """Flags of `ns-fewshot eval` that say which views are looked at."""
    key: str
    """Hash of these views, not of where a list of them lies."""

    @property
    def file(self) -> str:
        """Its averages, in the folder of the cell."""
        return f"eval-{self.protocol}.json"

    @property
    def views(self) -> str:
        """Folder of its pictures, in the folder of the cell."""
        return f"views-{self.protocol}"


@dataclass(frozen=True)
class Cell:
    """One training with its evaluation; everything in it can be sent to another machine."""

    folder: Path
    """OUT/cells/<scene>/<label>/seed-<n>."""
    scene: str
    """Name of the scene in folders and tables."""
    folder_name: str
    """Name of the scene's folder, by which published tables know it."""
    protocol: str
    """Name of the protocol."""
    method: str
    """Name of the method, as ns-train knows it."""
    label: str
    """Name of the row in tables."""
    as_published: bool
    """Whether published figures of the method are about this variant."""
    seed: int
    """Seed of the training."""
    device: str
    """'cpu' or 'cuda'."""
    data: Path
    """Folder of the scene."""
    flags: Tuple[str, ...]
    """Flags of ns-train behind the method's name, up to the dataparser's."""
    parser: Tuple[str, ...]
    """The dataparser's name and its flags."""
    overrides: Tuple[str, ...]
    """Those of the flags that the recipe itself gives."""
    scene_overrides: Tuple[str, ...]
    """Flags of the dataparser that the recipe adds to the protocol's."""
    steps: Optional[int]
    """Training steps; None: the method finds out from the scene."""
    cpu_seconds: Optional[float]
    """Most CPU seconds of training; None: no limit."""
    own_length: bool
    """Whether it trains as long as the method does by itself, without another limit."""
    resumable: bool
    """Whether the method's trainer goes on from a checkpoint where it stopped."""
    evaluation: EvaluationOptions
    """How it is measured."""
    keys: Dict[str, str]
    """Hashes of what decides the result: 'config', 'scene' and 'source'."""
    config: Dict[str, str]
    """The config's fields that decide the training, by their path; 'config' is their hash."""
    test_views: int
    """Test views of the scene; 0 of a multi-scene dataset, whose views are not counted beforehand."""
    size: Tuple[int, int]
    """Width and height of the test views as trained, pixels."""
    evaluations: Tuple[SourceEvaluation, ...] = ()
    """Of a training across scenes: with which source views it is evaluated; () for one scene."""
    test_scenes: int = 0
    """Of a training across scenes: number of test scenes that the recipe asks for."""
    all_test_scenes: int = 0
    """Number of scenes of the whole test split."""
    pictured_scene: str = ""
    """Name of the test scene of which pictures are kept."""

    @property
    def name(self) -> str:
        """The cell as people read it."""
        return f"{self.scene} / {self.label} / seed {self.seed}"

    @property
    def run_dir(self) -> Path:
        """Folder of the nerfstudio run; nerfstudio puts the method's name at its end."""
        return self.folder / self.method

    @property
    def training_key(self) -> str:
        """Hash of all that decides the trained weights."""
        return digest(self.keys["config"], self.keys["scene"], self.keys["source"])

    @property
    def evaluation_key(self) -> str:
        """Hash of all that decides the figures."""
        return digest(
            self.training_key, self.keys["metrics"], self.evaluation, [entry.key for entry in self.evaluations]
        )


@dataclass(frozen=True)
class Plan:
    """All cells of a recipe, in the order in which they are begun."""

    recipe: Recipe
    """Where they come from."""
    output_dir: Path
    """Folder of the benchmark."""
    cells: Tuple[Cell, ...]
    """Seed by seed, so that an early look shows every method on every scene."""
