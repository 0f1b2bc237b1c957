"""Which views of many scenes are evaluated, and their files before training."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManager
from fewshot_ns.data.depth.true_depth import known_depth
from fewshot_ns.data.multiscene.active import ActiveScene
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.records.scene import SceneEntry, SceneError
from fewshot_ns.evaluation.runners.views import at_equal_steps

Size = Tuple[int, int]
"""Height and width."""


@dataclass
class SceneEvaluationConfig:
    """Which scenes are evaluated, and how many views of each; the datamanager's targets say which views."""

    max_scenes: Optional[int] = None
    """Largest number of scenes, taken at equal steps; None: all."""
    max_views: Optional[int] = None
    """Largest number of views of each scene, taken at equal steps; None: all."""
    approximate: bool = False
    """Whether only one view of each scene is evaluated, drawn by the seed: pixelNeRF's approximate evaluation."""
    seed: int = 1234
    """Seed of these draws."""
    masks: bool = False
    """Whether views with object masks are also measured on the object alone."""
    test_while_training: bool = False
    """Whether --steps-per-eval-all-images evaluates the test scenes while training, where the dataset has some; else it
    evaluates the validation scenes."""
    check_files: bool = True
    """Whether training begins by reading every file that these evaluations, and the one of the test scenes, will read:
    of the largest sets some 300,000 photos, which takes minutes."""

    def scenes(self, table: Sequence[SceneEntry]) -> Sequence[SceneEntry]:
        """The scenes of a table that are evaluated."""
        return at_equal_steps(table, self.max_scenes)

    def views(self, active: ActiveScene, targets: Sequence[int]) -> Sequence[int]:
        """The evaluated ones of the views of a scene that may be.

        Args:
            active: The scene.
            targets: Indices of its views that may be evaluated.
        """
        if not self.approximate or not targets:
            return at_equal_steps(targets, self.max_views)
        scene = zlib.crc32(active.scene.entry.scene_id.encode())
        return [targets[int(np.random.default_rng([self.seed, scene]).integers(len(targets)))]]


@dataclass
class SceneFileCheck:
    """Reads the files of evaluations before training, each once, and keeps none."""

    manager: MultiSceneDataManager
    """Data of the run."""
    options: SceneEvaluationConfig
    """Which scenes and how many views."""
    _images: SceneImages = field(default_factory=lambda: SceneImages(max_bytes=1), init=False, repr=False)
    _read: Set[Path] = field(default_factory=set, init=False, repr=False)

    def run(self) -> List[Size]:
        """Reads what evaluations while training and that of the test scenes will read.

        Returns:
            Sizes of the views that will be measured, each once.

        Raises:
            SceneError: a file is missing or damaged or does not fit its camera, and such scenes end the run.
        """
        manager, options = self.manager, self.options
        tables = [manager.eval_table(options.test_while_training)]
        try:
            tables.append(manager.library.table("test"))
        except (FileNotFoundError, ValueError):
            # Not every set has test scenes, which only an evaluation of them is an error for.
            pass
        entries = dict.fromkeys(entry for table in tables for entry in options.scenes(table))
        sizes: Dict[Size, None] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=CONSOLE, transient=True) as progress:
            task = progress.add_task("[green]Reading the scenes that will be evaluated...", total=len(entries))
            for entry in entries:
                if entry not in manager.bad_scenes:
                    try:
                        sizes.update(dict.fromkeys(self._check(entry)))
                    except SceneError as error:
                        manager.bad_scenes.note(entry, error)
                progress.advance(task)
        return list(sizes)

    def _check(self, entry: SceneEntry) -> List[Size]:
        active = self.manager.selector.open(entry)
        scene, sizes = active.scene, []
        for view in self.options.views(active, self.manager.selector.targets_of(active)):
            sources = self.manager.selector.sources_for(active, scene.cameras.camera_to_worlds[view])
            for each in (view, *sources):
                self._check_photo(active, each)
            if self.options.masks:
                self._images.mask(scene, view)
            known_depth(scene, view)
            sizes.append((int(scene.cameras.height[view]), int(scene.cameras.width[view])))
        return sizes

    def _check_photo(self, active: ActiveScene, view: int) -> None:
        path = active.scene.image_filenames[view]
        if path not in self._read:
            self._images.image(active.scene, view)
            self._read.add(path)
